import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from modeling_oskdft.scoring.metrics import (
    bootstrap_intervals,
    bootstrap_rates,
    equal_error_rate,
    error_rates,
    interval_of,
    min_detection_cost,
)


def test_eer_by_hand():
    # Sorted: 1 1 0 1 0 0. Accepting the first two or three: misses 1/3, false accepts 0 to 1/3.
    eer = equal_error_rate([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 1, 0, 1, 0, 0])
    assert eer.value == pytest.approx(1 / 3) and eer.threshold == pytest.approx(0.7)
    assert equal_error_rate([3, 2, 1, 0], [1, 1, 0, 0]).value == 0.0
    assert equal_error_rate([3, 2, 1, 0], [0, 0, 1, 1]).value == 1.0
    assert equal_error_rate([1, 1, 1, 1], [0, 1, 1, 0]).value == 0.5


def test_the_threshold_decides_same_at_or_above():
    scores, labels = np.array([0.9, 0.6, 0.5, 0.1]), np.array([1, 1, 0, 0])
    threshold = equal_error_rate(scores, labels).threshold
    assert ((scores >= threshold) == (labels == 1)).all()


def test_min_dcf_by_hand():
    scores, labels = [0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]
    # Accepting the first alone: miss 1/2, no false accept: 0.01 * 1/2 / 0.01.
    assert min_detection_cost(scores, labels) == pytest.approx(0.5)
    # With p = 0.5 accepting three costs 0.5 * 0 + 0.5 * 1/2, one costs 0.5 * 1/2; divided by 0.5.
    assert min_detection_cost(scores, labels, p_target=0.5) == pytest.approx(0.5)
    assert min_detection_cost(scores, labels, p_target=0.5, c_miss=3, c_fa=1) == pytest.approx(0.5)
    assert min_detection_cost([3, 2, 1], [1, 1, 0]) == 0.0
    assert min_detection_cost([1, 2, 3], [1, 1, 0]) == 1.0


lists = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 1)), min_size=4, max_size=60).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def split(rows):
    scores, labels = np.asarray(rows).T
    return scores.astype(float), labels


@settings(max_examples=200, deadline=None)
@given(lists)
def test_eer_is_that_of_scikit_learn(rows):
    scores, labels = split(rows)
    accepts, hits, _ = roc_curve(labels, scores)
    expected = (
        brentq(lambda x: 1 - x - np.interp(x, accepts, hits), 0, 1) if len(set(accepts)) == len(accepts) else None
    )
    value = equal_error_rate(scores, labels).value
    if expected is not None:
        assert value == pytest.approx(expected, abs=1e-9)
    assert 0 <= value <= 1


@settings(max_examples=200, deadline=None)
@given(lists, st.floats(0.1, 10), st.floats(-5, 5))
def test_monotone_transforms_change_nothing(rows, slope, offset):
    scores, labels = split(rows)
    for transformed in (slope * scores + offset, np.sign(scores) * scores**2, np.arctan(scores / 5)):
        assert equal_error_rate(transformed, labels).value == pytest.approx(equal_error_rate(scores, labels).value)
        assert min_detection_cost(transformed, labels) == pytest.approx(min_detection_cost(scores, labels))


@settings(max_examples=200, deadline=None)
@given(lists)
def test_swapped_labels_mirror_the_rate(rows):
    scores, labels = split(rows)
    assert equal_error_rate(scores, 1 - labels).value == pytest.approx(1 - equal_error_rate(scores, labels).value)
    assert equal_error_rate(-scores, 1 - labels).value == pytest.approx(equal_error_rate(scores, labels).value)


@settings(max_examples=100, deadline=None)
@given(lists, st.floats(0.01, 0.99))
def test_min_dcf_is_the_smallest_over_all_thresholds(rows, p_target):
    scores, labels = split(rows)
    costs = []
    for threshold in [*np.unique(scores), np.inf]:
        same = scores >= threshold
        miss, accept = np.mean(~same[labels == 1]), np.mean(same[labels == 0])
        costs.append((p_target * miss + (1 - p_target) * accept) / min(p_target, 1 - p_target))
    assert min_detection_cost(scores, labels, p_target) == pytest.approx(min(costs))


def test_rates_run_from_nothing_to_everything():
    rates = error_rates([0.1, 0.5, 0.5, 0.9], [0, 1, 0, 1])
    np.testing.assert_allclose(rates.thresholds, [np.inf, 0.9, 0.5, 0.1])
    np.testing.assert_allclose(rates.false_accepts, [0, 0, 0.5, 1])
    np.testing.assert_allclose(rates.false_rejects, [1, 0.5, 0, 0])


def test_weights_are_repetitions():
    scores, labels, weights = [0.9, 0.7, 0.6, 0.2], [1, 0, 1, 0], [1, 3, 2, 0]
    repeated = error_rates([0.9, 0.7, 0.7, 0.7, 0.6, 0.6], [1, 0, 0, 0, 1, 1])
    weighted = error_rates(scores, labels, weights)
    np.testing.assert_allclose(weighted.false_accepts[:4], repeated.false_accepts)
    np.testing.assert_allclose(weighted.false_rejects[:4], repeated.false_rejects)


def made_up_trials(speakers=12, seed=0):
    generator = np.random.default_rng(seed)
    pairs, labels = [], []
    for first in range(speakers):
        for second in range(first, speakers):
            for _ in range(4 if first == second else 1):
                pairs.append((f"s{first}", f"s{second}"))
                labels.append(int(first == second))
    labels = np.asarray(labels)
    return generator.normal(labels * 1.5, 1.0), labels, pairs


def test_the_interval_holds_the_estimate_and_is_wider_with_fewer_speakers():
    scores, labels, pairs = made_up_trials()
    eer, dcf = bootstrap_intervals(scores, labels, pairs, draws=300)
    assert eer.low < equal_error_rate(scores, labels).value < eer.high
    assert dcf.low <= min_detection_cost(scores, labels) <= dcf.high + 0.05
    assert bootstrap_intervals(scores, labels, pairs, draws=300) == (eer, dcf)
    many, _ = bootstrap_intervals(*made_up_trials(40), draws=300)
    assert many.high - many.low < eer.high - eer.low


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2], [1, 1], "All 2 trials are of one class"),
        ([1, 2], [0, 0], "one class"),
        ([], [], "one class"),
        ([1, np.nan], [0, 1], "have a NaN"),
        ([1, 2, 3], [0, 1], "3 scores were given with 2 labels"),
        ([1, 2], [0, 2], "The labels have 2: use 1"),
        ([1, 2], [-1, 1], "The labels have -1"),
    ],
)
def test_bad_trials_get_one_sentence(scores, labels, message):
    for metric in (equal_error_rate, min_detection_cost):
        with pytest.raises(ValueError, match=message):
            metric(scores, labels)


def test_a_bad_prior_is_named():
    with pytest.raises(ValueError, match="p_target is 1.5"):
        min_detection_cost([1, 0], [1, 0], p_target=1.5)


def test_infinite_scores_that_are_equal_are_one_point():
    for labels in ([1, 0], [0, 1]):
        assert equal_error_rate([np.inf, np.inf], labels).value == 0.5
        assert equal_error_rate([-np.inf, -np.inf], labels).value == 0.5


def test_systems_get_the_same_draws_so_that_differences_are_paired():
    scores, labels, speakers = made_up_trials()
    eers, costs = bootstrap_rates([scores, 3 * scores + 1, -scores], labels, speakers, draws=50)
    assert eers.shape == costs.shape == (50, 3)
    assert np.array_equal(eers[:, 0], eers[:, 1]) and np.array_equal(costs[:, 0], costs[:, 1])
    assert interval_of(eers[:, 0] - eers[:, 1]) == (0.0, 0.0)
    alone, _ = bootstrap_intervals(scores, labels, speakers, draws=50)
    assert alone == interval_of(eers[:, 0])
    assert (eers[:, 2] > eers[:, 0]).mean() > 0.9
