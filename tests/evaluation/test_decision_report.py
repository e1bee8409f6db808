import math

import numpy as np
import pytest
import soundfile

from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials
from modeling_oskdft.embedding.runtimes import TorchEmbedder
from modeling_oskdft.evaluation.decision_report import (
    Attempts,
    HeardUtterances,
    decision_report,
    hear_utterances,
    time_and_size,
)
from modeling_oskdft.scoring.thresholds import Thresholds
from tests.scoring.test_calibration import calibration
from tests.tiny import tiny_verifier


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Trials of 12 made-up speakers with two genders, and scores that are better for one of them."""
    place = tmp_path_factory.mktemp("people")
    lines = ["path,speaker,session,gender"]
    for speaker in range(12):
        for number in range(6):
            file = place / f"s{speaker:02d}/a/{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, np.random.default_rng(speaker).normal(size=8000) * 0.1, 16000)
            lines.append(f"s{speaker:02d}/a/{number}.wav,s{speaker:02d},a,{'f' if speaker % 2 else 'm'}")
    (place / "manifest.csv").write_text("\n".join(lines) + "\n")
    manifest = load_manifest(place / "manifest.csv")
    trials = make_trials(manifest.by_speaker(), most=300)
    generator = np.random.default_rng(0)
    women = np.array(["s01" <= name and int(name[1:3]) % 2 == 1 for name in trials.enrolments])
    scores = generator.normal(np.where(trials.labels == 1, 0.7, 0.2), np.where(women, 0.1, 0.3))
    heard = HeardUtterances({name: 3.0 for name in trials.utterances()}, "silero", {trials.tests[0]: ["It is short."]})
    return manifest, trials, scores, heard


def report(people, thresholds=None, stored=None, **attempts):
    manifest, trials, scores, heard = people
    return decision_report(scores, trials, manifest, heard, thresholds, stored, Attempts(**attempts))


def test_decisions_are_those_of_the_stored_thresholds(people):
    _, trials, scores, _ = people
    thresholds = Thresholds({"eer": 0.45, "far_1_percent": None, "far_0.1_percent": None}, 9, 5, 40, "", "a" * 64)
    (row,) = report(people, thresholds, prior=0.9, a_day=500)["decisions"]
    accepted = scores >= 0.45
    assert (row["operating_point"], row["basis"]) == ("eer", "threshold")
    assert row["false_accepts"][0] == pytest.approx(accepted[trials.labels == 0].mean())
    assert row["false_rejects"][0] == pytest.approx((~accepted)[trials.labels == 1].mean())
    for kind in ("false_accepts", "false_rejects"):
        value, low, high = row[kind]
        assert low <= value <= high
    assert row["rejected_a_day"][0] == pytest.approx(450 * row["false_rejects"][0])
    assert row["accepted_a_day"][0] == pytest.approx(50 * row["false_accepts"][0])


def test_a_calibration_adds_the_decision_of_least_cost(people):
    _, trials, scores, _ = people
    stored = calibration(score=(10.0, -4.5), duration=None, operating_points={})
    result = report(people, None, stored, prior=0.2, c_fa=2.0)
    (row,) = result["decisions"]
    accepted = 10 * scores - 4.5 >= math.log(2 * 0.8 / 0.2)
    assert row["operating_point"] == "bayes" and row["false_accepts"][0] == accepted[trials.labels == 0].mean()
    of_ratios = result["calibration"]
    assert of_ratios["min_cllr"] <= of_ratios["cllr"] and of_ratios["min_cost"] <= of_ratios["actual_cost"]
    assert sum(count for *_, count in result["curves"]["reliability"]) == len(trials.labels)
    with pytest.raises(ValueError, match="The prior is 0.0: a probability"):
        report(people, None, stored, prior=0.0)


def test_a_model_without_measurements_has_no_decisions(people):
    result = report(people)
    assert result["decisions"] == [] and "calibration" not in result and result["flagged"] == 1


def test_slices_tell_groups_apart(people):
    slices = {(row["column"], row["value"]): row for row in report(people)["slices"]}
    assert slices["gender", "f"]["eer"] < slices["gender", "m"]["eer"]
    assert slices["gender", "f"]["eer_low"] <= slices["gender", "f"]["eer"] <= slices["gender", "f"]["eer_high"]
    assert not [key for key in slices if key[0] == "speech"], "all trials are of one length: that is no slice"


def test_the_worst_trials_come_first(people):
    _, trials, scores, _ = people
    worst = report(people)["worst"]
    assert [row["score"] for row in worst["false_accepts"]] == sorted(scores[trials.labels == 0])[::-1][:10]
    assert [row["score"] for row in worst["false_rejects"]] == sorted(scores[trials.labels == 1])[:10]


def test_speech_and_flaws_of_real_files(voices):
    manifest = load_manifest(voices)
    trials = make_trials(manifest.by_speaker(), most=4)
    heard = hear_utterances(manifest, trials)
    assert set(heard.seconds) == set(trials.utterances()) and heard.network == "silero" and not heard.flagged
    assert all(seconds > 1 for seconds in heard.seconds.values())


def test_time_is_that_of_one_thread_and_leaves_the_threads(feature_extractor):
    import torch

    before = torch.get_num_threads()
    times = time_and_size({"model": TorchEmbedder(tiny_verifier(), feature_extractor)}, seconds=0.5, rounds=2)
    row = times["models"]["model"]
    assert torch.get_num_threads() == before and times["speech_milliseconds"] > 0
    seconds = (row["milliseconds"] + times["speech_milliseconds"]) / 1000
    assert row["recordings_a_day"] == pytest.approx(24 * 3600 / seconds)
