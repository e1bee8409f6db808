import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from modeling_oskdft.scoring.likelihood_ratios import (
    actual_detection_cost,
    bayes_threshold,
    cllr,
    det_points,
    min_cllr,
    optimal_llrs,
)
from modeling_oskdft.scoring.metrics import error_rates, min_detection_cost

trial_lists = st.lists(
    st.tuples(st.integers(-20, 20).map(lambda score: score / 4), st.integers(0, 1)), min_size=2, max_size=60
).filter(lambda trials: len({label for _, label in trials}) == 2)


def test_hand_worked_costs():
    # log2(1 + e^-llr) of ratios 1, 3 and 1/3: 1, log2(4/3), 2.
    assert cllr([0.0, 0.0], [1, 0]) == pytest.approx(1)
    assert cllr([math.log(3), -math.log(3)], [1, 0]) == pytest.approx(math.log2(4 / 3))
    assert cllr([-math.log(3), math.log(3)], [1, 0]) == pytest.approx(2)
    assert cllr([math.inf, -math.inf], [1, 0]) == 0 and cllr([-math.inf, 0], [1, 0]) == math.inf
    assert cllr([0.0, 5.0, -5.0], [1, 1, 0], weights=[1, 0, 1]) == pytest.approx((1 + math.log2(1 + math.exp(-5))) / 2)


def test_hand_worked_pool_adjacent_violators():
    # Scores 1, 2, 3, 4 with labels 0, 1, 0, 1: the two in the middle are pooled to a share of 1/2.
    llrs = optimal_llrs([1, 2, 3, 4], [0, 1, 0, 1])
    assert llrs.tolist() == [-math.inf, 0, 0, math.inf]
    assert min_cllr([1, 2, 3, 4], [0, 1, 0, 1]) == pytest.approx(0.5)
    assert min_cllr([1, 1, 1, 1], [0, 1, 0, 1]) == pytest.approx(1) and min_cllr([0, 1], [0, 1]) == 0


@given(trial_lists)
def test_the_optimal_ratios_are_those_of_isotonic_regression(trials):
    scores, labels = map(np.asarray, zip(*trials, strict=True))
    shares = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, labels)
    prior = labels.mean()
    with np.errstate(divide="ignore"):
        expected = np.log(shares) - np.log(1 - shares) - math.log(prior / (1 - prior))
    np.testing.assert_allclose(optimal_llrs(scores, labels), expected, atol=1e-9)


@given(trial_lists, st.floats(0.1, 5), st.floats(-3, 3))
def test_calibration_loses_what_lies_above_the_minimum(trials, slope, offset):
    scores, labels = map(np.asarray, zip(*trials, strict=True))
    least = min_cllr(scores, labels)
    assert -1e-12 <= least <= 1 + 1e-12
    assert cllr(slope * scores + offset, labels) >= least - 1e-9
    assert min_cllr(np.exp(scores), labels) == pytest.approx(least, abs=1e-9)
    for p_target in (0.01, 0.5):
        least_cost = min_detection_cost(scores, labels, p_target)
        assert actual_detection_cost(slope * scores + offset, labels, p_target) >= least_cost - 1e-9


@given(trial_lists)
def test_weights_count_trials_several_times(trials):
    scores, labels = map(np.asarray, zip(*trials, strict=True))
    counts = np.random.default_rng(len(trials)).integers(1, 4, len(trials))
    assert cllr(scores, labels, counts) == pytest.approx(cllr(np.repeat(scores, counts), np.repeat(labels, counts)))
    repeated = min_cllr(np.repeat(scores, counts), np.repeat(labels, counts))
    assert min_cllr(scores, labels, counts) == pytest.approx(repeated, abs=1e-9)


def test_bayes_decisions():
    assert bayes_threshold(0.5) == 0 and bayes_threshold(0.01) == pytest.approx(math.log(99))
    assert bayes_threshold(0.01, c_miss=99) == pytest.approx(0)
    # At prior 0.5: one of two targets missed, no false accept: (0.5 * 1/2) / 0.5.
    assert actual_detection_cost([1, -1, -1, -1], [1, 1, 0, 0], p_target=0.5) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="The prior is 1: a probability between 0 and 1"):
        bayes_threshold(1)
    with pytest.raises(ValueError, match="c_fa is 0: a finite cost above 0"):
        bayes_threshold(0.5, c_fa=0)
    with pytest.raises(ValueError, match="All 2 trials are of one class"):
        cllr([0.0, 1.0], [1, 1])


def test_det_points_lie_on_the_axes_of_the_plot():
    scores, labels = [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]
    points, rates = det_points(scores, labels), error_rates(scores, labels)
    np.testing.assert_array_equal(points.false_accepts, rates.false_accepts)
    assert points.probits.shape == (2, len(rates.thresholds)) and np.isfinite(points.probits).all()
    half = int(np.argmin(np.abs(points.false_accepts - 0.5)))
    assert points.probits[0, half] == pytest.approx(0)
