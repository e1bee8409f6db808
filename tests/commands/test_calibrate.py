import itertools
import json
import shutil

import numpy as np
import pytest
import soundfile

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.commands.main import main
from modeling_oskdft.scoring.calibration import Calibration
from tests.scoring.test_calibration import calibration
from tests.tiny import save_verifier


@pytest.fixture(scope="module")
def pairs(voices, tmp_path_factory):
    """All pairs of 10 recordings, each a made-up voice, and a copy of each with another loudness."""
    place = tmp_path_factory.mktemp("pairs")
    files = sorted(voices.rglob("*.flac"))[::4]
    names = []
    for number, file in enumerate(files):
        samples, rate = soundfile.read(file)
        for copy, gain in enumerate((1.0, 0.5)):
            noise = 0.001 * np.random.default_rng(copy).normal(size=len(samples))
            soundfile.write(place / f"{number} {copy}.wav", gain * samples + noise, rate)
            names.append((number, f"{number} {copy}.wav"))
    rows = [f"{'same' if a[0] == b[0] else 'different'},{a[1]},{b[1]}" for a, b in itertools.combinations(names, 2)]
    (place / "pairs.csv").write_text("label,enrol,test\n" + "\n".join(rows) + "\n")
    return place / "pairs.csv"


@pytest.fixture
def model(tmp_path, feature_extractor):
    fingerprint = save_verifier(tmp_path / "model", feature_extractor).fingerprint()
    calibration(fingerprint=fingerprint, data="before").save(tmp_path / "model")
    return tmp_path / "model"


def test_own_pairs_move_the_decisions_and_nothing_else(model, pairs, capsys):
    weights = (model / "model.safetensors").read_bytes()
    assert main(["calibrate", str(model), str(pairs)]) == 0
    out = capsys.readouterr().out
    assert "Before: of 100 different speakers" in out and "Now, at eer: of 100 different speakers" in out
    assert "far_1_percent cannot be set: " in out and "different-speaker pairs more are needed" in out
    stored = Calibration.load(model / "calibration.json")
    assert stored.data == "pairs of pairs.csv" and stored.trials == 190 and stored.target_trials == 10
    assert (model / "model.safetensors").read_bytes() == weights
    assert SpeakerVerifier.from_pretrained(model).calibration == stored
    assert main(["calibrate", str(model), "--restore"]) == 0
    assert "(before) is back" in capsys.readouterr().out
    assert Calibration.load(model / "calibration.json").data == "before"


def test_into_a_folder_of_its_own_and_for_machines(model, pairs, tmp_path, capsys):
    before = (model / "calibration.json").read_bytes()
    assert main(["calibrate", str(model), str(pairs), "--out", str(tmp_path / "own"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["pairs"] == 190 and values["missing"]["far_1_percent"] == 820
    assert (model / "calibration.json").read_bytes() == before and (tmp_path / "own/calibration.json").is_file()


def test_a_damaged_calibration_does_not_stand_in_the_way(model, pairs, capsys):
    (model / "calibration.json").write_text('{"a": 1')
    assert main(["calibrate", str(model), str(pairs)]) == 0
    assert "It is now calibration.damaged.json" in capsys.readouterr().err
    assert Calibration.load(model / "calibration.json").trials == 190
    assert (model / "calibration.damaged.json").read_text() == '{"a": 1'


def test_flaws_of_the_recordings_are_told_of(model, pairs, tmp_path, capsys):
    place = tmp_path / "clipped"
    shutil.copytree(pairs.parent, place)
    samples, rate = soundfile.read(place / "0 0.wav")
    soundfile.write(place / "0 0.wav", np.clip(30 * samples, -1, 1), rate)
    assert main(["calibrate", str(model), str(place / "pairs.csv")]) == 0
    assert "is clipped" in capsys.readouterr().err


def test_another_folder_s_calibration_decides_where_it_is_named(model, pairs, tmp_path, recordings_of, capsys):
    assert main(["calibrate", str(model), str(pairs), "--out", str(tmp_path / "own")]) == 0
    capsys.readouterr()
    command = ["verify", *recordings_of, "--model", str(model), "--json"]
    assert main(command) in (0, 1)
    of_model = json.loads(capsys.readouterr().out)
    assert main([*command, "--calibration", str(tmp_path / "own")]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["llr"] != of_model["llr"]
    assert main([*command, "--calibration", str(tmp_path / "no")]) == 2
    assert "There is no calibration.json in" in capsys.readouterr().err


def test_what_cannot_be_is_one_sentence_and_changes_nothing(model, pairs, tmp_path, capsys):
    before = (model / "calibration.json").read_bytes()
    lines = pairs.read_text().splitlines()
    rows = [line.replace(",", f",{pairs.parent}/", 1).rpartition(",") for line in lines[1:]]
    whole = [f"{head},{pairs.parent}/{tail}" for head, _, tail in rows]
    lists = {
        "missing": [*whole, "same,nowhere.wav,nobody.wav"],
        "one class": [line for line in whole if line.startswith("different")],
        "few": whole[:5],
        "words": [*whole, f"maybe{whole[0].partition(',')[1]}{whole[0].partition(',')[2]}"],
        "itself": [*whole, f"same,{pairs.parent}/0 0.wav,{pairs.parent}/0 0.wav"],
    }
    for name, content in lists.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(content))
    for words, sentence in (
        ([str(tmp_path / "missing.csv")], "There is no recording at"),
        ([str(tmp_path / "one class.csv")], "trials are of one class"),
        ([str(tmp_path / "few.csv")], "5 pairs were given: 20 to 20,000 are needed"),
        ([str(tmp_path / "words.csv")], "is 'maybe': 1 or same, and 0 or different are needed"),
        ([str(tmp_path / "itself.csv")], "with itself: give two recordings"),
        (
            [str(pairs), "--operating_point", "far_0.1_percent"],
            "needs 10,000 different-speaker pairs and there are 180",
        ),
        ([str(pairs), "--operating_point", "best"], "operating_point is 'best': use one of"),
        ([str(pairs), "--restore"], "Pairs were given beside --restore"),
        (["--restore"], "keeps no earlier calibration"),
        ([], "There are no pairs: give a CSV file"),
        (["no.csv"], "There is no list of pairs at 'no.csv'"),
    ):
        assert main(["calibrate", str(model), *words]) == 2
        err = capsys.readouterr().err
        assert sentence in err and err.count("\n") == 1, err
        assert (model / "calibration.json").read_bytes() == before


def test_a_calibration_goes_with_its_weights_and_with_no_others(model, tmp_path, recordings_of):
    verifier = SpeakerVerifier.from_pretrained(model)
    first, second = recordings_of
    assert verifier.verify(first, second).llr is not None
    network = verifier.embedder.model
    network.save_speaker_adapter(tmp_path / "adapter")
    network.load_speaker_adapter(tmp_path / "adapter", "copy")
    network.set_speaker_adapter("copy")
    assert verifier.verify(first, second).llr is not None, "an adapter with the same weights is the same model"
    for parameter in network.head.parameters():
        parameter.data.add_(0.1)
    answer = verifier.verify(first, second)
    assert answer.llr is None and any("calibration is of other weights" in warning for warning in answer.warnings)
    network.set_speaker_adapter("default")
    assert verifier.verify(first, second).llr is not None, "the adapter that it was measured with"
    network.save_pretrained(tmp_path / "again")
    assert Calibration.load(tmp_path / "again/calibration.json") == verifier.calibration
    for parameter in network.parameters():
        parameter.data.mul_(1.5)
    network.save_pretrained(tmp_path / "trained on")
    assert not (tmp_path / "trained on/calibration.json").exists()


@pytest.fixture
def recordings_of(voices):
    return sorted(str(file) for file in voices.rglob("*.flac"))[:2]
