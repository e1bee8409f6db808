import json

import numpy as np
import pytest

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.hub.card_facts import collect_facts, example_recordings, run_example
from modeling_oskdft.scoring.thresholds import Thresholds
from tests.tiny import tiny_verifier


@pytest.fixture
def folder(tmp_path, feature_extractor):
    tiny_verifier().save_pretrained(tmp_path)
    feature_extractor.save_pretrained(tmp_path)
    return tmp_path


def test_the_facts_are_those_of_the_folder_and_fit_into_json(folder):
    model = tiny_verifier()
    Thresholds({"eer": 0.5}, 100, 50, 40, "made up", model.fingerprint()).save(folder)
    (folder / "results.json").write_text(json.dumps({"fingerprint": model.fingerprint(), "steps": 3, "secret": "x"}))
    facts = collect_facts(folder)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["name"] == folder.name and facts["fingerprint"] == model.fingerprint()
    assert facts["student"]["parameters"] == model.num_parameters()
    assert facts["student"]["bytes"] == (folder / "model.safetensors").stat().st_size
    assert facts["thresholds"]["values"] == {"eer": 0.5} and "quantiles" not in facts["thresholds"]
    assert facts["steps"] == 3 and facts["test"] is None and "secret" not in facts


def test_measurements_of_other_weights_are_left_out(folder):
    Thresholds({"eer": 0.5}, 100, 50, 40, "made up", "0" * 64).save(folder)
    (folder / "results.json").write_text(json.dumps({"fingerprint": "0" * 64, "steps": 3}))
    facts = collect_facts(folder)
    assert facts["thresholds"] is None and facts["steps"] is None


def test_damaged_results_are_named(folder):
    (folder / "results.json").write_text("{")
    with pytest.raises(ValueError, match="results.json' is damaged"):
        collect_facts(folder)


def test_the_example_decides_by_the_thresholds_of_the_folder(folder):
    score = float(run_example(SpeakerVerifier.from_pretrained(folder)).removeprefix("None "))
    Thresholds({"eer": score - 0.1}, 100, 50, 40, "made up", tiny_verifier().fingerprint()).save(folder)
    assert collect_facts(folder)["example"] == f"True {score}"


def test_the_recordings_of_the_example_fit_into_16_bits():
    first, second = example_recordings()
    assert len(first) == len(second) == 64000 and not np.array_equal(first, second)
    for waveform in (first, second):
        assert np.abs(waveform).max() < 1 and np.array_equal(waveform * 2**15, np.round(waveform * 2**15))
