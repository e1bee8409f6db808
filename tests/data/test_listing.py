import pytest

from modeling_oskdft.data.listing import recordings_of
from modeling_oskdft.data.sources import load_manifest


def test_folders_manifests_lists_and_files_in_their_order(voices, tmp_path):
    files = sorted(map(str, voices.rglob("*.flac")))
    load_manifest(voices).save(tmp_path / "m.parquet")
    (tmp_path / "list.txt").write_text(f"{files[3]}\n\n{files[1]}\n{files[3]}\n", encoding="utf-8-sig")
    assert sorted(recordings_of([str(voices)])) == files
    assert recordings_of([files[2], files[2]]) == [files[2], files[2]]
    assert recordings_of([str(tmp_path / "list.txt")]) == [files[3], files[1], files[3]]
    assert sorted(recordings_of([str(tmp_path / "m.parquet")])) == files


def test_a_list_s_own_folder_is_where_its_names_are(voices, tmp_path):
    (voices / "names.lst").write_text("voice000/session0/00.flac\n")
    try:
        assert recordings_of([str(voices / "names.lst")]) == [str(voices / "voice000/session0/00.flac")]
    finally:
        (voices / "names.lst").unlink()


def test_nothing_is_said_to_be_nothing(tmp_path):
    (tmp_path / "empty.txt").touch()
    for source in (tmp_path, tmp_path / "empty.txt"):
        with pytest.raises(ValueError, match="holds no recordings"):
            recordings_of([str(source)])
    with pytest.raises(FileNotFoundError, match="no list at"):
        recordings_of([str(tmp_path / "none.txt")])


def test_an_empty_name_is_no_folder():
    with pytest.raises(ValueError, match="The name of a recording is empty"):
        recordings_of([""])
