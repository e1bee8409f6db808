import pytest
import torch

from modeling_oskdft import OSKDFTForXVector
from modeling_oskdft.model import companions_oskdft
from tests.tiny import save_verifier, tiny_verifier


@pytest.fixture
def folder(tmp_path, feature_extractor):
    place = tmp_path / "model"
    verifier = save_verifier(place, feature_extractor)
    (place / "README.md").write_text(f"Of the weights {verifier.fingerprint()}.")
    return place


def test_a_fingerprint_is_of_the_weights(folder):
    verifier = OSKDFTForXVector.from_pretrained(folder)
    known = tiny_verifier().fingerprint()
    assert verifier.fingerprint() == known and verifier.to(torch.bfloat16).fingerprint() == known
    with torch.no_grad():
        verifier.head.projection.weight[0, 0] += 0.1
    assert verifier.fingerprint() != known


def test_the_same_weights_keep_their_companion_files(tmp_path, folder):
    OSKDFTForXVector.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    for name in ("preprocessor_config.json", "thresholds.json", "README.md"):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_other_weights_lose_thresholds_and_card(tmp_path, folder):
    verifier = OSKDFTForXVector.from_pretrained(folder)
    with torch.no_grad():
        verifier.head.projection.weight[0, 0] += 0.1
    verifier.save_pretrained(tmp_path / "trained")
    names = {file.name for file in (tmp_path / "trained").iterdir()}
    assert "preprocessor_config.json" in names and not names & {"thresholds.json", "README.md"}


def test_a_card_written_by_hand_states_no_fingerprint_and_stays(tmp_path, folder):
    (folder / "README.md").write_text("Written by hand.")
    verifier = OSKDFTForXVector.from_pretrained(folder)
    with torch.no_grad():
        verifier.head.projection.weight[0, 0] += 0.1
    verifier.save_pretrained(tmp_path / "trained")
    assert (tmp_path / "trained" / "README.md").read_text() == "Written by hand."


def test_a_relative_folder_stays_that_folder(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verifier = OSKDFTForXVector.from_pretrained("model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    verifier.save_pretrained("copy")
    assert (tmp_path / "elsewhere/copy/thresholds.json").is_file()


def test_one_process_of_several_writes(tmp_path, folder):
    OSKDFTForXVector.from_pretrained(folder).save_pretrained(tmp_path / "copy", is_main_process=False)
    assert not (tmp_path / "copy" / "preprocessor_config.json").exists()


def test_a_folder_that_was_moved_is_no_error(tmp_path, folder):
    verifier = OSKDFTForXVector.from_pretrained(folder)
    folder.rename(tmp_path / "moved")
    verifier.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy" / "preprocessor_config.json").exists()


def test_without_a_feature_extractor_nothing_is_pushed():
    with pytest.raises(ValueError, match="came without a feature extractor, so 'org/name' could not be used"):
        tiny_verifier().push_to_hub("org/name")


def test_an_absent_companion_of_a_repository_is_none_and_an_unreadable_one_gives_a_warning(
    tmp_path, monkeypatch, recwarn
):
    location = {"cache_dir": str(tmp_path), "local_files_only": True}
    assert companions_oskdft._read_companion("org/name", "thresholds.json", location) is None
    assert not recwarn.list

    def refuse(*arguments, **keywords):
        raise OSError("503")

    monkeypatch.setattr(companions_oskdft, "cached_file", refuse)
    with pytest.warns(UserWarning, match="'org/name' was opened without its thresholds.json .503.: it is not saved"):
        assert companions_oskdft._read_companion("org/name", "thresholds.json", {}) is None
