import json

import numpy as np
import pytest

from modeling_oskdft.scoring.metrics import equal_error_rate
from modeling_oskdft.scoring.thresholds import THRESHOLDS_NAME, Thresholds, measure_thresholds


def trials(count, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], count)
    return 0.1 * (generator.normal(size=2 * count) + 2 * labels), labels


FINGERPRINT = "0123456789abcdef" * 4


def test_the_share_of_false_accepts_is_what_was_asked():
    scores, labels = trials(20_000)
    values = measure_thresholds(scores, labels, 40, "made up", "f").values
    assert values["eer"] == equal_error_rate(scores, labels).threshold
    for name, share in (("far_1_percent", 0.01), ("far_0.1_percent", 0.001)):
        accepted = np.mean(scores[labels == 0] >= values[name])
        assert share - 1e-4 <= accepted <= share


def test_ties_at_the_threshold_are_not_let_through():
    scores = np.concatenate([np.zeros(900), np.full(100, 0.5), np.full(10, 1.0)])
    labels = np.concatenate([np.zeros(1000), np.ones(10)])
    values = measure_thresholds(scores, labels, 2, "made up", "f").values
    assert np.mean(scores[labels == 0] >= values["far_1_percent"]) == 0.0


def test_an_operating_point_with_too_few_trials_is_none():
    scores, labels = trials(2000)
    thresholds = measure_thresholds(scores, labels, 40, "made up", "f")
    assert thresholds.values["far_1_percent"] is not None and thresholds.values["far_0.1_percent"] is None
    assert (thresholds.trials, thresholds.target_trials) == (4000, 2000)


def test_round_trip_and_damage(tmp_path):
    scores, labels = trials(100)
    pairs = [(f"a{row % 20}", f"a{row % 20}" if label else f"b{row % 7}") for row, label in enumerate(labels)]
    thresholds = measure_thresholds(scores, labels, 27, "made up", FINGERPRINT, pairs)
    low, high = thresholds.intervals["eer"]
    assert low < thresholds.values["eer"] < high and thresholds.doubt("eer") is None
    thresholds.save(tmp_path)
    assert Thresholds.load(tmp_path / THRESHOLDS_NAME) == thresholds
    for content in ("{", json.dumps({"values": {}}), "[]", "[" * 100_000, '{"values": {"eer": 1e999}}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=r"(does not hold thresholds|is no JSON object of finite numbers) .*\.$"):
            Thresholds.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("values", {"eer": value}) for value in (float("nan"), float("inf"), -float("inf"), "0.4", 7, True, [])),
        *(("quantiles", {"target": value}) for value in (["a", "b"], [0.5], [0.2, 0.1], [0, float("nan")], 3)),
        *(("trials", value) for value in (-1, 1.5, "many", None)),
        *(("fingerprint", value) for value in ("short", 3, None)),
        *(("intervals", {"eer": value}) for value in ([0.1], [0.3, 0.1], ["a", "b"])),
        *(("values", value) for value in ([], None, 3)),
        *(("speakers", value) for value in (None, -3)),
    ],
)
def test_values_that_could_not_decide_are_refused(tmp_path, field, value):
    scores, labels = trials(50)
    measure_thresholds(scores, labels, 40, "made up", FINGERPRINT).save(tmp_path)
    stored = json.loads((tmp_path / THRESHOLDS_NAME).read_text()) | {field: value}
    (tmp_path / THRESHOLDS_NAME).write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=rf"\({field}[. ]|of finite numbers \(it has (NaN|-?Infinity)") as error:
        Thresholds.load(tmp_path / THRESHOLDS_NAME)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_few_speakers_are_doubted():
    few = Thresholds({"eer": 0.4105}, 206, 100, 6, "made up", FINGERPRINT, intervals={"eer": [0.3, 0.52]})
    assert few.doubt("eer").startswith("The threshold 0.41 (95 %: 0.30 to 0.52) stands on 6 speakers: below 20")
    assert few.doubt("far_1_percent") is None


def test_rates_of_equal_scores():
    """Half of the non-target trials score 0.5 exactly: a threshold there accepts them, one above does not."""
    thresholds = Thresholds(
        {"eer": 0.5}, 100, 50, 10, "made up", "f", {"non_target": [0.0, 0.5, 0.5], "target": [1.0] * 3}
    )
    assert thresholds.false_accept_rate(0.5) == pytest.approx(0.5) and thresholds.false_accept_rate(0.6) == 0.0
    assert thresholds.false_accept_rate(-1) == 1.0 and thresholds.false_accept_rate(0.25) == pytest.approx(0.75)
    assert thresholds.false_reject_rate(1.0) == 0.0 and thresholds.false_reject_rate(1.1) == 1.0
