import os
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.manifest import COLUMNS
from modeling_oskdft.data.sources import load_manifest, manifest_from_dataset


def test_a_folder_is_read_in_a_fixed_order(voices):
    manifest = load_manifest(voices)
    assert len(manifest) == 40 and tuple(manifest.table.column_names) == COLUMNS
    ids = manifest.column("utterance_id")
    assert ids == sorted(ids) and ids[0] == "voice000/session0/00"
    assert manifest.column("speaker_id")[0] == "voice000" and manifest.column("session_id")[0] == "session0"
    assert manifest.column("num_samples")[3] == len(load_audio(manifest.audio(3)))


def test_what_stands_above_the_speaker_is_a_prefix(tmp_path, voices):
    shutil.copytree(voices / "voice001", tmp_path / "corpus" / "part" / "voice001")
    manifest = load_manifest(tmp_path)
    assert manifest.column("utterance_id")[0] == "corpus/part/voice001/session0/00"
    assert set(manifest.column("speaker_id")) == {"voice001"}


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg"])
def test_every_format(tmp_path, extension):
    file = tmp_path / "s" / "a" / f"u.{extension}"
    file.parent.mkdir(parents=True)
    soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, 16000), 16000)
    manifest = load_manifest(tmp_path)
    assert manifest.column("num_samples") == [16000] and len(load_audio(manifest.audio(0))) == 16000


def test_csv_with_splits(tmp_path, voices):
    rows = ["path,speaker,session,split,gender"]
    for speaker, split in (("voice000", "train"), ("voice001", "validation")):
        rows += [f"{speaker}/session0/0{n}.flac,{speaker},session0,{split},f" for n in range(2)]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    train = load_manifest(tmp_path / "m.csv", split="train", data_root=voices)
    assert train.speakers == ["voice000"] and len(train) == 2 and train.column("gender") == ["f", "f"]
    assert len(load_manifest(tmp_path / "m.csv", data_root=voices)) == 4
    with pytest.raises(ValueError, match="no split 'tran': it has train, validation"):
        load_manifest(tmp_path / "m.csv", split="tran", data_root=voices)
    # A damaged file of another split is nobody's business; one of this split is skipped and named.
    copy = tmp_path / "copy"
    shutil.copytree(voices, copy)
    (copy / "voice001/session0/00.flac").write_bytes(b"")
    assert len(load_manifest(tmp_path / "m.csv", split="train", data_root=copy)) == 2
    with pytest.warns(UserWarning, match="Skipped '.*voice001/session0/00"):
        assert len(load_manifest(tmp_path / "m.csv", split="validation", data_root=copy)) == 1


def test_a_manifest_beside_the_recordings_makes_them_no_dataset(tmp_path, voices):
    shutil.copytree(voices, tmp_path / "v")
    load_manifest(tmp_path / "v").save(tmp_path / "v" / "manifest.parquet")
    (tmp_path / "v" / "dataset_info.json").write_text("{}")
    assert len(load_manifest(tmp_path / "v")) == 40


def test_ids_that_are_numbers_are_read(tmp_path, voices):
    table = load_manifest(voices).table
    numbers = pa.array([int(name[-2:]) for name in table.column("speaker_id").to_pylist()])
    pq.write_table(table.set_column(1, "speaker_id", numbers), tmp_path / "m.parquet")
    assert load_manifest(tmp_path / "m.parquet", data_root=voices).speakers == [str(n) for n in range(10)]


def as_dataset(voices):
    import datasets

    rows = {"audio": [], "speaker_id": [], "gender": []}
    for file in sorted(voices.rglob("*.flac"))[:6]:
        rows["audio"].append({"bytes": file.read_bytes(), "path": file.name})
        rows["speaker_id"].append(file.parts[-3])
        rows["gender"].append("f")
    dataset = datasets.Dataset.from_dict(rows)
    return dataset.cast_column("audio", datasets.Audio(sampling_rate=16000))  # decode=True, as others store it


def test_a_dataset_with_an_audio_column(tmp_path, voices):
    dataset = as_dataset(voices)
    dataset.save_to_disk(tmp_path / "saved")
    (tmp_path / "shards").mkdir()
    dataset.to_parquet(tmp_path / "shards" / "train-00000-of-00001.parquet")
    sources = ("saved", "shards", "shards/train-00000-of-00001.parquet")
    for manifest in (manifest_from_dataset(dataset), *(load_manifest(tmp_path / source) for source in sources)):
        assert len(manifest) == 6 and manifest.speakers == ["voice000", "voice001"]
        first = sorted(voices.rglob("*.flac"))[0]
        np.testing.assert_array_equal(load_audio(manifest.audio(0)), load_audio(first))
        assert manifest.column("num_samples")[0] == len(load_audio(first))
        assert manifest.column("gender") == ["f"] * 6
        with pytest.raises(ValueError, match="save the dataset instead"):
            manifest.save(tmp_path / "m.parquet")
        second = manifest.where("speaker_id", ["voice001"])
        np.testing.assert_array_equal(load_audio(second.audio(0)), load_audio(manifest.audio(4)))


def test_a_dataset_dict_has_splits(tmp_path, voices):
    import datasets

    datasets.DatasetDict({"train": as_dataset(voices)}).save_to_disk(tmp_path / "saved")
    assert len(load_manifest(tmp_path / "saved")) == 6
    with pytest.raises(ValueError, match="no split 'test': it has train"):
        load_manifest(tmp_path / "saved", split="test")


def test_a_dataset_without_the_columns_is_told_which(voices):
    with pytest.raises(ValueError, match="lacks the columns speaker_id"):
        manifest_from_dataset(as_dataset(voices).rename_column("speaker_id", "who"))


def test_a_damaged_file_is_named_and_skipped_up_to_a_limit(tmp_path, voices):
    shutil.copytree(voices, tmp_path / "v")
    for name in ("voice000/session0/00.flac", "voice001/session0/00.flac"):
        (tmp_path / "v" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match="Skipped '.*voice001/session0/00.*cannot be read"):
        assert len(load_manifest(tmp_path / "v")) == 38
    with pytest.raises(ValueError, match="More than 1 files"), pytest.warns(UserWarning):
        load_manifest(tmp_path / "v", max_damaged=1)


def test_bad_data_get_one_sentence(tmp_path, voices):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no utterances"):
        load_manifest(tmp_path / "empty")
    (tmp_path / "flat").mkdir()
    shutil.copy(next(voices.rglob("*.flac")), tmp_path / "flat" / "a.flac")
    with pytest.raises(ValueError, match="lies too high: speaker/session/utterance"):
        load_manifest(tmp_path / "flat")
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        load_manifest(tmp_path / "broken.parquet")
    for name in ("gone.parquet", "gone.csv"):
        with pytest.raises(FileNotFoundError, match="no manifest at"):
            load_manifest(tmp_path / name)
    (tmp_path / "bare.csv").write_text("path,who\na.wav,b\n")
    with pytest.raises(ValueError, match="has the columns path, who: path, speaker and session"):
        load_manifest(tmp_path / "bare.csv")
    table = load_manifest(voices).table
    pq.write_table(table.drop_columns(["speaker_id"]), tmp_path / "lacking.parquet")
    with pytest.raises(ValueError, match="lacks the columns speaker_id"):
        load_manifest(tmp_path / "lacking.parquet")
    shutil.copytree(voices, tmp_path / "twice")
    first = tmp_path / "twice" / "voice000" / "session0" / "00.flac"
    soundfile.write(first.with_suffix(".wav"), load_audio(first), 16000)
    with pytest.raises(ValueError, match="more than once, 'voice000/session0/00'"):
        load_manifest(tmp_path / "twice")
    with pytest.raises(ValueError, match="no column split, so no row of it is 'train'"):
        load_manifest(voices, split="train")
    with pytest.raises(ValueError, match="is no manifest: leave it out"):
        load_manifest(voices, data_root=tmp_path)
    with pytest.raises(FileNotFoundError, match="neither a folder, a manifest, nor a dataset"):
        load_manifest("nobody/nothing")


TREE = ["path", "speaker", "session"]


@pytest.fixture
def tree(tmp_path, voices):
    shutil.copytree(voices / "voice000", tmp_path / "voice000")
    return tmp_path, [f"voice000/session{s}/0{u}.flac" for s in range(2) for u in range(2)]


def rows_of(files, between=","):
    return [between.join([file, *file.split("/")[:2]]) for file in files]


@pytest.mark.parametrize(("between", "name"), [(",", "m.csv"), (";", "m.csv"), ("\t", "m.tsv"), (",", "M.CSV")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_text_however_they_are_separated(tree, between, name, encoding):
    place, files = tree
    lines = [between.join(TREE), *rows_of(files, between)]
    (place / name).write_text("\r\n".join(lines), encoding=encoding)
    assert load_manifest(place / name).column("speaker_id") == ["voice000"] * 4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,speaker,session", "a.flac"], "Line 2 of .* has no speaker"),
        (["speaker,session,path", "v,s"], "Line 2 of .* has no path"),
        (["path,speaker,session", "a.flac,,s"], "Line 2 of .* has no speaker"),
        (["path,speaker,session,num_samples", "a.flac,v,s,-5"], "Line 2 of .* has num_samples '-5'"),
        (["path,speaker,session,num_samples", "a.flac,v,s,many"], "has num_samples 'many': a whole number"),
        (["file,who"], "no utterances|has the columns"),
    ],
)
def test_a_row_that_cannot_be_is_named_by_its_line(tmp_path, lines, message):
    (tmp_path / "m.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        load_manifest(tmp_path / "m.csv")


def test_whole_numbers_as_pandas_writes_them(tree):
    place, files = tree
    lines = ["path,speaker,session,num_samples", *(f"{row},48000.0" for row in rows_of(files))]
    (place / "m.csv").write_text("\n".join(lines))
    assert load_manifest(place / "m.csv").column("num_samples") == [48000] * 4


def test_another_encoding_names_the_file(tmp_path):
    for encoding in ("utf-16", "latin-1"):
        (tmp_path / "m.csv").write_text("path,speaker,session\nété.wav,é,s\n", encoding=encoding)
        with pytest.raises(ValueError, match="m.csv' is (UTF-16|not UTF-8).*save it as UTF-8"):
            load_manifest(tmp_path / "m.csv")


def test_what_a_few_speakers_say_of_themselves_is_theirs(tmp_path, voices):
    for name in ("voice000", "voice001"):
        shutil.copytree(voices / name, tmp_path / name)
    files = [f"{name}/session0/00.flac" for name in ("voice000", "voice001")]
    (tmp_path / "m.csv").write_text("\n".join([",".join(TREE), *rows_of(files)]))
    (tmp_path / "speakers.csv").write_text("speaker,gender\nvoice001,f\n", encoding="utf-8-sig")
    manifest = load_manifest(tmp_path / "m.csv")
    assert manifest.column("gender") == [None, "f"]
    assert manifest.describe()["gender"] == {"f": 1, "unknown": 1}


def test_two_levels_are_speakers_and_mixed_depths_are_asked_about(tmp_path, voices):
    for number, file in enumerate(sorted(voices.rglob("*.flac"))[:6]):
        place = tmp_path / "flat" / f"spk{number % 3}" / f"{number}.flac"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    flat = load_manifest(tmp_path / "flat")
    assert flat.speakers == ["spk0", "spk1", "spk2"] and set(flat.column("session_id")) == {"unknown"}
    with pytest.warns(UserWarning, match="All recordings are of one speaker, 'flat'.*layout speaker"):
        load_manifest(tmp_path)
    assert load_manifest(tmp_path, layout="speaker").speakers == flat.speakers
    shutil.copytree(voices / "voice000", tmp_path / "flat" / "voice000")
    with pytest.raises(ValueError, match="has recordings at two depths"):
        load_manifest(tmp_path / "flat")
    assert "session0" in load_manifest(tmp_path / "flat", layout="speaker").speakers


def test_recordings_of_any_extension_are_found(tmp_path, voices):
    samples, rate = soundfile.read(next(voices.rglob("*.flac")))
    for number, extension in enumerate(("wav", "mp3", "opus", "oga", "aiff")):
        place = tmp_path / "s" / "v" / f"{number}.{extension}"
        place.parent.mkdir(parents=True, exist_ok=True)
        options = {"format": "OGG", "subtype": "OPUS"} if extension == "opus" else {}
        soundfile.write(place, samples, rate, **({"format": "OGG"} if extension == "oga" else options))
    assert len(load_manifest(tmp_path)) == 5


def test_a_row_of_parquet_without_what_it_needs_is_named(tmp_path, manifest):
    for column, value in (("speaker_id", None), ("utterance_id", ""), ("num_samples", None), ("num_samples", -3)):
        values = manifest.column(column)
        values[2] = value
        table = manifest.table.set_column(manifest.table.column_names.index(column), column, pa.array(values))
        pq.write_table(table, tmp_path / "m.parquet")
        with pytest.raises(ValueError, match=f"Row 3 of .* has no {column}"):
            load_manifest(tmp_path / "m.parquet")
    # A column without any value has no type of its own.
    pq.write_table(manifest.table.append_column("language", pa.nulls(len(manifest))), tmp_path / "m.parquet")
    described = load_manifest(tmp_path / "m.parquet", data_root=manifest.root).describe()
    assert described["language"] == {"unknown": 10}


def test_a_name_that_no_list_can_hold_is_named_and_left_out(tmp_path):
    if sys.platform == "darwin":
        pytest.skip("this file system takes only UTF-8 names")
    for speaker in ("a", "b\u3000b"):
        (tmp_path / speaker / "s").mkdir(parents=True)
        soundfile.write(tmp_path / speaker / "s" / "1.wav", np.zeros(1600), 16000)
    for name in (b"bad\xff.wav", b"two\nlines.wav"):
        shutil.copy(tmp_path / "a" / "s" / "1.wav", os.path.join(os.fsencode(tmp_path), b"a", b"s", name))
    with pytest.warns(UserWarning) as caught:
        manifest = load_manifest(tmp_path)
    assert sorted(manifest.column("utterance_id")) == ["a/s/1", "b\u3000b/s/1"]
    warned = " ".join(str(warning.message) for warning in caught)
    assert "bad\\xff.wav': its name is not UTF-8" in warned and "two\\nlines.wav': its name has a line break" in warned


def test_columns_of_a_dataset_become_texts(voices):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install datasets")
    files = sorted(voices.rglob("*.flac"))[:4]
    features = {
        "audio": {"path": datasets.Value("string"), "bytes": datasets.Value("binary")},
        "gender": datasets.ClassLabel(names=["f", "m"]),
        **{name: datasets.Value("string") for name in ("speaker_id", "emotion")},
        **{"split": datasets.Value("int64"), "age": datasets.Value("int32"), "level": datasets.Value("float32")},
    }
    rows = {
        "audio": [{"path": str(file), "bytes": file.read_bytes()} for file in files],
        **{"speaker_id": ["a", "a", "b", "b"], "gender": [0, 1, -1, None], "split": [1, 1, 2, 2]},
        **{"emotion": ["sad", "", None, "glad"], "age": [20, 30, None, 40], "level": [0.0, 1.0, 2.0, 3.0]},
    }
    rows = {name: rows[name] for name in features}
    manifest = manifest_from_dataset(datasets.Dataset.from_dict(rows, datasets.Features(features)))
    assert manifest.column("gender") == ["f", "m", None, None] and manifest.column("split") == ["1", "1", "2", "2"]
    assert manifest.column("emotion") == ["sad", None, None, "glad"]
    assert manifest.column("age") == ["20", "30", None, "40"] and "level" not in manifest.table.column_names
