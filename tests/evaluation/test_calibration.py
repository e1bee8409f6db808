import json

import numpy as np
import pytest

from modeling_oskdft.evaluation.calibration import THRESHOLDS_NAME, Thresholds, measure_thresholds
from modeling_oskdft.evaluation.metrics import equal_error_rate


def trials(count, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], count)
    return generator.normal(size=2 * count) + 2 * labels, labels


def test_the_share_of_false_accepts_is_what_was_asked():
    scores, labels = trials(20_000)
    found = measure_thresholds(scores, labels, 40, "made up", "f").values
    assert found["eer"] == equal_error_rate(scores, labels).threshold
    for name, share in (("far_1_percent", 0.01), ("far_0.1_percent", 0.001)):
        accepted = np.mean(scores[labels == 0] >= found[name])
        assert share - 1e-4 <= accepted <= share


def test_ties_at_the_threshold_are_not_let_through():
    scores = np.concatenate([np.zeros(900), np.full(100, 0.5), np.full(10, 1.0)])
    labels = np.concatenate([np.zeros(1000), np.ones(10)])
    found = measure_thresholds(scores, labels, 2, "made up", "f").values
    assert np.mean(scores[labels == 0] >= found["far_1_percent"]) == 0.0


def test_what_too_few_trials_cannot_say_is_none():
    scores, labels = trials(2000)
    found = measure_thresholds(scores, labels, 40, "made up", "f")
    assert found.values["far_1_percent"] is not None and found.values["far_0.1_percent"] is None
    assert (found.trials, found.target_trials) == (4000, 2000)


def test_round_trip_and_damage(tmp_path):
    scores, labels = trials(100)
    found = measure_thresholds(scores, labels, 40, "made up", "f")
    found.save(tmp_path)
    assert Thresholds.load(tmp_path / THRESHOLDS_NAME) == found
    for content in ("{", json.dumps({"values": {}}), "[]"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match="does not hold thresholds"):
            Thresholds.load(tmp_path / "bad.json")


def test_rates_of_equal_scores():
    """Half of the strangers score 0.5 exactly: a threshold there accepts them, one above does not."""
    thresholds = Thresholds(
        {"eer": 0.5}, 100, 50, 10, "made up", "f", {"non_target": [0.0, 0.5, 0.5], "target": [1.0] * 3}
    )
    assert thresholds.false_accept_rate(0.5) == pytest.approx(0.5) and thresholds.false_accept_rate(0.6) == 0.0
    assert thresholds.false_accept_rate(-1) == 1.0 and thresholds.false_accept_rate(0.25) == pytest.approx(0.75)
    assert thresholds.false_reject_rate(1.0) == 0.0 and thresholds.false_reject_rate(1.1) == 1.0
