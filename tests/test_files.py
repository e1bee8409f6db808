import os

import pytest

from modeling_oskdft.embedding.locations import check_name
from modeling_oskdft.files import looks_like_a_path, replaced_folder, whole_file


def test_a_file_is_whole_or_as_it_was(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with whole_file(target) as partial:
        partial.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), whole_file(target) as partial:
        partial.write_text("half of the sec")
        raise RuntimeError
    assert target.read_text() == "first"
    assert [file.name for file in target.parent.iterdir()] == ["a.txt"]
    assert target.stat().st_mode & 0o444 == 0o444, "others cannot read it"


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path):
    target = tmp_path / "deep" / "folder"
    with replaced_folder(target) as partial:
        (partial / "a.txt").write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), replaced_folder(target) as partial:
        (partial / "a.txt").write_text("half of the sec")
        raise RuntimeError
    assert (target / "a.txt").read_text() == "first"
    with replaced_folder(target) as partial:
        (partial / "b.txt").write_text("second")
    assert [file.name for file in target.iterdir()] == ["b.txt"]
    assert [file.name for file in target.parent.iterdir()] == ["folder"]


def test_what_cannot_be_replaced_comes_back(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("first")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    replace = os.replace

    def full(source, target):
        if str(source).endswith("new"):
            raise OSError("No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"), replaced_folder(tmp_path / "folder") as partial:
        (partial / "b.txt").write_text("second")
    assert (tmp_path / "folder" / "a.txt").read_text() == "first"
    monkeypatch.undo()
    with replaced_folder(tmp_path / "link") as partial:
        (partial / "b.txt").write_text("second")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "b.txt").read_text() == "second"


@pytest.mark.parametrize("name", ["", "./nope", "../x", "/a/b", "~/m", "a/b/c", "runs/", "a\\b"])
def test_what_is_meant_as_a_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert looks_like_a_path(name)
    with pytest.raises(FileNotFoundError, match="There is no folder at"):
        check_name(name)


def test_a_folder_beside_it_makes_a_name_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not looks_like_a_path("runs/nothere") and not looks_like_a_path("org/model")
    (tmp_path / "runs").mkdir()
    assert looks_like_a_path("runs/nothere")
    check_name("runs")
