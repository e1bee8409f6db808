import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.shard_writing import page_of, write_shards
from modeling_oskdft.data.sources import load_manifest


def test_a_row_group_is_of_one_speaker_and_shards_mix_speakers(tmp_path, manifest):
    files = write_shards(manifest, tmp_path, shard_seconds=30)
    assert [file.name for file in files] == [f"train-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
    order = []
    for file in files:
        shard = pq.ParquetFile(file)
        for number in range(shard.num_row_groups):
            speakers = set(shard.read_row_group(number).column("speaker_id").to_pylist())
            assert len(speakers) == 1
            order += speakers
    assert order != sorted(order)


def test_datasets_and_the_hub_see_audio(tmp_path, manifest):
    import datasets

    files = write_shards(manifest, tmp_path)
    dataset = datasets.Dataset.from_parquet([str(file) for file in files])
    assert dataset.features["audio"].sampling_rate == 16000 and len(dataset) == 40
    first = dataset.cast_column("audio", datasets.Audio(decode=False))[0]
    assert len(load_audio(first["audio"])) == first["num_samples"]


def test_whatever_it_was_it_is_16_khz_mono_flac(tmp_path):
    (tmp_path / "in/s/v").mkdir(parents=True)
    stereo = np.random.default_rng(0).normal(size=(44100, 2)) * 0.1
    soundfile.write(tmp_path / "in/s/v/1.wav", stereo, 44100)
    soundfile.write(tmp_path / "in/s/v/2.flac", stereo[:, 0], 16000)
    write_shards(load_manifest(tmp_path / "in"), tmp_path / "out")
    written = load_manifest(tmp_path / "out")
    for row, name in enumerate(written.column("utterance_id")):
        file = str(tmp_path / "in" / f"{name}.{'wav' if name.endswith('1') else 'flac'}")
        np.testing.assert_allclose(load_audio(written.audio(row)), load_audio(file), atol=1 / 32767)
    kept = [written.audio(row)["bytes"] for row in range(2)]
    assert (tmp_path / "in/s/v/2.flac").read_bytes() in kept


def test_a_stopped_run_goes_on_and_other_data_start_anew(tmp_path, manifest):
    files = write_shards(manifest, tmp_path, shard_seconds=30, workers=2)
    before = [file.read_bytes() for file in files]
    times = [file.stat().st_mtime_ns for file in files[1:]]
    files[0].unlink()
    write_shards(manifest, tmp_path, shard_seconds=30)
    assert [file.read_bytes() for file in files] == before
    assert [file.stat().st_mtime_ns for file in files[1:]] == times
    fewer = manifest.where("speaker_id", manifest.speakers[1:])
    write_shards(fewer, tmp_path, shard_seconds=30)
    assert len(load_manifest(tmp_path)) == 36


def test_further_columns_are_written_when_they_are_named(tmp_path, manifest):
    moods = [("calm", "angry", None)[number % 3] for number in range(len(manifest))]
    table = manifest.table.append_column("mood", pa.array(moods)).append_column("age", pa.array(range(len(manifest))))
    rich = Manifest(table, manifest.root)
    write_shards(rich, tmp_path)
    assert "mood" not in load_manifest(tmp_path).table.column_names
    write_shards(rich, tmp_path, columns=["mood"])
    written = load_manifest(tmp_path)
    by_name = dict(zip(rich.column("utterance_id"), moods, strict=True))
    assert dict(zip(written.column("utterance_id"), written.column("mood"), strict=True)) == by_name
    with pytest.raises(ValueError, match="have no column 'colour' to write: they have .*mood"):
        write_shards(rich, tmp_path, columns=["colour"])
    with pytest.raises(ValueError, match="The column 'age' holds no texts"):
        write_shards(rich, tmp_path, columns=["age"])


def test_a_damaged_recording_is_never_published(tmp_path, voices):
    shutil.copytree(voices / "voice000", tmp_path / "in/voice000")
    manifest = load_manifest(tmp_path / "in")
    file = tmp_path / "in/voice000/session1/01.flac"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.warns(UserWarning, match="Left out of the dataset: .*session1/01.flac"):
        write_shards(manifest, tmp_path / "out")
    assert len(load_manifest(tmp_path / "out")) == 3
    with pytest.raises(ValueError, match="More than 0 recordings cannot be read"):
        write_shards(manifest, tmp_path / "strict", max_damaged=0)
    assert not list((tmp_path / "strict").rglob("*.parquet"))


def test_a_speaker_with_damaged_recordings_alone_is_left_out(tmp_path, voices):
    for name in ("voice000", "voice001"):
        shutil.copytree(voices / name, tmp_path / "in" / name)
    manifest = load_manifest(tmp_path / "in")
    for file in (tmp_path / "in/voice000").rglob("*.flac"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="Left out of the dataset: .*voice000"):
        write_shards(manifest, tmp_path / "out")
    assert load_manifest(tmp_path / "out").speakers == ["voice001"]


def test_the_page_counts_and_does_not_guess_a_licence(manifest):
    page = page_of(manifest)
    assert "40 utterances of 10 speakers" in page and "Licence and source of the recordings are not known" in page
