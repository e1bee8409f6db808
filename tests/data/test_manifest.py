import shutil

import pyarrow as pa
import pytest

from modeling_oskdft.data.manifest import Manifest, checked, joined
from modeling_oskdft.data.sources import load_manifest


def test_parquet_round_trip_and_a_moved_root(tmp_path, voices):
    manifest = load_manifest(voices)
    manifest.save(tmp_path / "deep" / "m.parquet")
    assert not list(tmp_path.rglob("*.partial"))
    again = load_manifest(tmp_path / "deep" / "m.parquet")
    assert again.table.equals(manifest.table.cast(again.table.schema)) and again.audio(0) == manifest.audio(0)
    shutil.copytree(voices, tmp_path / "moved")
    moved = load_manifest(tmp_path / "deep" / "m.parquet", data_root=tmp_path / "moved")
    assert str(moved.audio(5)).startswith(str(tmp_path / "moved"))
    with pytest.raises(FileNotFoundError, match="as data_root"):
        load_manifest(tmp_path / "deep" / "m.parquet", data_root=tmp_path / "nowhere")


def test_rows_are_chosen_by_a_column(manifest):
    chosen = manifest.where("speaker_id", ["voice001", "voice003"])
    assert chosen.speakers == ["voice001", "voice003"] and len(chosen) == 8
    assert list(chosen.by_speaker()["voice003"]) == sorted(chosen.by_speaker()["voice003"])
    with pytest.raises(ValueError, match="no column 'split'"):
        manifest.where("split", ["train"])


def test_speakers_without_language_or_gender_are_counted_as_unknown(manifest):
    table = manifest.table.append_column("gender", pa.array([None] * len(manifest), pa.string()))
    table = table.append_column("language", pa.array(["en", *[None] * (len(manifest) - 1)], pa.string()))
    described = Manifest(table, manifest.root).describe()
    assert described["gender"] == {"unknown": 10} and described["language"] == {"en": 1, "unknown": 10}
    assert (described["speakers"], described["utterances"]) == (10, 40)


def test_manifests_of_files_are_joined_by_absolute_paths(tmp_path, voices):
    for part, name in (("dev", "voice000"), ("test", "voice001")):
        shutil.copytree(voices / name, tmp_path / part / name)
    dev, test = (load_manifest(tmp_path / part) for part in ("dev", "test"))
    both = joined([dev, test])
    assert len(both) == 8 and both.speakers == ["voice000", "voice001"]
    assert [both.audio(row) for row in (0, 4)] == [dev.audio(0), test.audio(0)]
    with pytest.raises(ValueError, match="names 4 utterances more than once"):
        joined([dev, dev])
    with pytest.raises(ValueError, match="when their audio lies in files"):
        joined([dev, Manifest(test.table, test.root, recordings=[])])


def test_no_utterance_is_missing_or_there_twice(manifest):
    with pytest.raises(ValueError, match="'here' has no utterances"):
        checked(manifest.where("speaker_id", []), "here")
    twice = Manifest(pa.concat_tables([manifest.table, manifest.table]), manifest.root)
    with pytest.raises(ValueError, match="'here' names 40 utterances more than once, 'voice000/session0/00' first"):
        checked(twice, "here")


def test_a_manifest_prints_its_size_and_not_its_table(manifest):
    assert repr(manifest) == f"Manifest(40 utterances of 10 speakers in '{manifest.root}')"
