"""A renewed verifier is a whole folder of its own, with a card, and never the one in use."""

import json
import shutil

import pytest

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.commands.main import main
from modeling_oskdft.hub.model_card import Statements, write_card
from modeling_oskdft.renewal import renewing

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'modeling-oskdft[calibration]'")


def renew(model, people_of_now, out, *more):
    return main(["renew", str(model), "--data", str(people_of_now), "--out", str(out), *map(str, more)])


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_recalibrated_folder(saved_verifier, people_of_now, tmp_path, capsys):
    before = files_of(saved_verifier)
    assert renew(saved_verifier, people_of_now, tmp_path / "next") == 0
    said = capsys.readouterr().out
    assert "recalibrated: written to" in said and "next: oskdft verify" in said and "voices migrate" not in said
    assert files_of(saved_verifier) == before
    files = {"config.json", "model.safetensors", "README.md", "calibration.json", "thresholds.json", "renewal.json"}
    assert files <= {path.name for path in (tmp_path / "next").iterdir()}
    opened, known = (SpeakerVerifier.from_pretrained(place) for place in (tmp_path / "next", saved_verifier))
    assert opened.fingerprint() == known.fingerprint() and opened.calibration is not None
    recordings = sorted(people_of_now.rglob("*.flac"))[:2]
    assert opened.verify(*recordings).score == pytest.approx(known.verify(*recordings).score, abs=1e-6)
    card = (tmp_path / "next/README.md").read_text()
    assert "### Renewal" in card and "The calibration was fitted anew by `oskdft renew`" in card
    parts = json.loads((tmp_path / "next/renewal.json").read_text())["speakers"]
    calibrated, judged = parts["training"] + parts["calibrating"], parts["judging"]
    assert "| new," in card
    assert f"Of the speakers of that day {calibrated} calibrated, and {judged} others judged." in card


def test_an_adapted_folder(saved_verifier, people_of_now, people_of_before, tmp_path, capsys, monkeypatch):
    pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")
    monkeypatch.setattr(renewing, "objections", lambda before, after: [])
    out = tmp_path / "next"
    assert renew(saved_verifier, people_of_now, out, "--old", people_of_before, "--epochs", 1, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["decision"] == "adapted" and facts["out"] == str(out)
    opened = SpeakerVerifier.from_pretrained(out)
    assert opened.calibration is not None and opened.thresholds is not None
    stored = json.loads((out / "renewal.json").read_text())
    assert stored["fingerprint"] == opened.fingerprint() and stored["renewed"] == saved_verifier.name
    card = (out / "README.md").read_text()
    assert "The weights were adapted by `oskdft renew`" in card and "| old," in card
    assert str(tmp_path) not in card and str(saved_verifier.parent) not in card


def test_an_empty_folder_is_taken_and_statements_stay(saved_verifier, people_of_now, tmp_path):
    model = shutil.copytree(saved_verifier, tmp_path / "model")
    write_card(model, "org/model", Statements(license="cc-by-4.0"))
    (tmp_path / "next").mkdir()
    assert renew(model, people_of_now, tmp_path / "next") == 0
    assert "license: cc-by-4.0" in (tmp_path / "next/README.md").read_text()


def test_kept(saved_verifier, people_of_now, tmp_path, capsys):
    assert renew(saved_verifier, people_of_now, tmp_path / "first") == 0
    assert renew(tmp_path / "first", people_of_now, tmp_path / "second") == 1
    assert "kept: nothing was written." in capsys.readouterr().out and not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--old_trials", "list.txt"], "old_trials or old_split was given without old"),
        (["--epochs", "0"], "epochs is 0"),
    ],
)
def test_bad_options(saved_verifier, people_of_now, tmp_path, capsys, more, words):
    assert renew(saved_verifier, people_of_now, tmp_path / "next", *more) == 2
    assert words in capsys.readouterr().err


def test_a_folder_with_files_is_not_written_over(saved_verifier, people_of_now, capsys):
    assert renew(saved_verifier, people_of_now, saved_verifier) == 2
    assert "a renewed verifier gets a folder of its own" in capsys.readouterr().err


def test_old_trials_that_contradict_their_speakers(saved_verifier, people_of_now, people_of_before, tmp_path, capsys):
    from modeling_oskdft.data.sources import load_manifest

    first, second = load_manifest(people_of_before).column("utterance_id")[:2]
    (tmp_path / "list.txt").write_text(f"0 {first} {second}\n")
    options = ["--old", people_of_before, "--old_trials", tmp_path / "list.txt"]
    assert renew(saved_verifier, people_of_now, tmp_path / "next", *options) == 2
    assert "contradict the speakers" in capsys.readouterr().err
