import pytest

from modeling_oskdft.files import replaced_folder, whole_file


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
