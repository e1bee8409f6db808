import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from modeling_oskdft.scoring.calibration_fitting import fit_calibration, needed_trials
from modeling_oskdft.scoring.likelihood_ratios import cllr, min_cllr

FINGERPRINT = "a" * 64


def simulated(trials=6000, speakers=60, spread_shrinks=True, seed=0):
    """Trials of which short ones have wider scores, as of real verifiers."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(trials) < 0.4).astype(int)
    first = generator.integers(speakers, size=trials)
    second = np.where(labels == 1, first, (first + generator.integers(1, speakers, size=trials)) % speakers)
    speech = np.exp(generator.uniform(0, 2, trials))
    width = 0.3 / (0.6 + np.log(speech)) if spread_shrinks else np.full(trials, 0.2)
    scores = generator.normal(np.where(labels == 1, 0.6, 0.1), width)
    pairs = [(f"speaker{one}", f"speaker{other}") for one, other in zip(first, second, strict=True)]
    return scores, labels, pairs, speech


def test_the_fit_is_prior_weighted_logistic_regression():
    scores, labels, pairs, _ = simulated()
    for prior in (0.5, 0.05):
        fitted = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up", prior=prior)
        weights = np.where(labels == 1, prior / labels.sum(), (1 - prior) / (1 - labels).sum()) * len(labels)
        regression = LogisticRegression(C=np.inf, tol=1e-10).fit(scores[:, None], labels, sample_weight=weights)
        expected = regression.decision_function(scores[:, None]) - math.log(prior / (1 - prior))
        found = [fitted.llr(score) for score in scores]
        np.testing.assert_allclose(found, np.clip(expected, *fitted.bounds), atol=1e-3)
    assert fitted.speakers == 60 and fitted.target_trials == labels.sum() and fitted.duration is None


def test_speech_is_used_where_it_helps_speakers_that_were_left_out():
    scores, labels, pairs, speech = simulated()
    with_speech = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up", speech, "silero")
    without = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up")
    assert with_speech.duration is not None and with_speech.cllr < without.cllr - 0.01
    new_scores, new_labels, _, new_speech = simulated(seed=1)
    llrs = [with_speech.llr(*side, "silero") for side in zip(new_scores, new_speech, strict=True)]
    assert cllr(llrs, new_labels) == pytest.approx(with_speech.cllr, abs=0.03)
    assert with_speech.llr(0.6, 8, "silero") > with_speech.llr(0.6, 1.1, "silero") > 0


def test_speech_is_left_out_where_it_says_nothing_or_speakers_are_few():
    scores, labels, pairs, speech = simulated(speakers=10)
    assert fit_calibration(scores, labels, pairs, FINGERPRINT, "made up", speech, "silero").duration is None
    scores, labels, pairs, speech = simulated()
    equal = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up", np.full(len(scores), 3.0), "silero")
    assert equal.duration is None and equal.network == "silero"


def test_ratios_are_bounded_by_the_number_of_pairs():
    scores, labels, pairs, _ = simulated(trials=400)
    fitted = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up")
    assert fitted.bounds == (-math.log(labels.sum() + 1), math.log((1 - labels).sum() + 1))
    assert fitted.llr(50) == fitted.bounds[1] and fitted.llr(-50) == fitted.bounds[0]
    quarter = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up", cuts=4)
    assert quarter.bounds[1] == math.log((1 - labels).sum() / 4 + 1)


def test_trials_without_overlap_have_a_finite_fit():
    labels = np.array([1] * 20 + [0] * 20)
    scores = np.where(labels == 1, 0.8, 0.1) + np.linspace(0, 0.05, 40)
    pairs = [("a", "a") if label else ("a", "b") for label in labels]
    fitted = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up")
    assert 0 < fitted.score[0] < 1e3 and fitted.llr(0.45) == pytest.approx(0, abs=3)
    assert fitted.rates_at(0.0).false_accepts == 0 and fitted.rates_at(0.0).false_accepts_high > 0.1


def test_operating_points_accept_what_they_promise():
    scores, labels, pairs, _ = simulated(trials=30000, spread_shrinks=False)
    fitted = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up")
    llrs = np.array([fitted.llr(score) for score in scores])
    for name, share in (("far_1_percent", 0.01), ("far_0.1_percent", 0.001)):
        point = fitted.operating_points[name]
        accepted = np.mean(llrs[labels == 0] >= point.llr)
        assert share - 2 / np.sum(labels == 0) <= accepted <= share and point.low <= point.llr <= point.high
        rates = fitted.rates_at(point.llr)
        assert rates.false_accepts_low <= rates.false_accepts <= rates.false_accepts_high
        assert rates.false_accepts == pytest.approx(share, abs=0.3 * share)
    at_eer = fitted.operating_points["eer"].llr
    assert np.mean(llrs[labels == 0] >= at_eer) == pytest.approx(np.mean(llrs[labels == 1] < at_eer), abs=2e-3)
    few = fit_calibration(scores[:900], labels[:900], pairs[:900], FINGERPRINT, "made up")
    assert few.operating_points["far_1_percent"] is None and few.operating_points["eer"] is not None
    assert (needed_trials("far_1_percent"), needed_trials("far_0.1_percent"), needed_trials("eer")) == (1000, 10000, 5)


def test_few_trials_move_an_earlier_calibration_a_little_and_many_replace_it():
    scores, labels, pairs, _ = simulated(spread_shrinks=False)
    before = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up")
    moved_scores = scores + 0.2  # another microphone
    alone, moved = [
        [
            fit_calibration(moved_scores[:n], labels[:n], pairs[:n], FINGERPRINT, "", before=b).llr(0.55)
            for n in (40, 6000)
        ]
        for b in (None, before)
    ]
    old, new = before.llr(0.55), alone[1]
    assert new < moved[0] < old, "40 trials lie between"
    assert moved[1] == pytest.approx(new, abs=0.15) and abs(moved[0] - new) > 1
    other_scores = fit_calibration(moved_scores, labels, pairs, FINGERPRINT, "", before=before, cohort="0f")
    assert other_scores.llr(0.55) == pytest.approx(new, abs=1e-6), "an earlier one of other scores says nothing"


def test_the_minimum_is_below_what_was_reached():
    scores, labels, pairs, _ = simulated()
    fitted = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up")
    assert fitted.min_cllr <= fitted.cllr
    few = fit_calibration(*simulated(speakers=10)[:3], FINGERPRINT, "made up")  # none is left out
    scores, labels, *_ = simulated(speakers=10)
    assert few.min_cllr == pytest.approx(min_cllr(scores, labels), abs=1e-3)


def test_cuts_of_one_pair_are_no_pairs_of_their_own():
    scores, labels, pairs, _ = simulated(trials=12000, spread_shrinks=False)
    assert fit_calibration(scores, labels, pairs, FINGERPRINT, "made up").operating_points["far_1_percent"] is not None
    cut = fit_calibration(scores[:3000], labels[:3000], pairs[:3000], FINGERPRINT, "made up", cuts=4)
    assert cut.operating_points["far_1_percent"] is None, "450 pairs of different speakers"


def test_the_threshold_between_kinds_that_do_not_overlap_is_the_middle():
    labels = np.array([1] * 20 + [0] * 20)
    scores = np.where(labels == 1, 0.8, 0.1) + np.linspace(0, 0.05, 40)
    pairs = [("a", "a") if label else ("a", "b") for label in labels]
    fitted = fit_calibration(scores, labels, pairs, FINGERPRINT, "made up")
    lowest, highest = fitted.llr(scores[labels == 1].min()), fitted.llr(scores[labels == 0].max())
    assert fitted.operating_points["eer"].llr == pytest.approx((lowest + highest) / 2)


def test_what_cannot_be_calibrated():
    scores, labels, pairs, _ = simulated(trials=200)
    with pytest.raises(ValueError, match="The scores of same-speaker trials are not higher"):
        fit_calibration(-scores, labels, pairs, FINGERPRINT, "made up")
    with pytest.raises(ValueError, match="All 200 trials are of one class"):
        fit_calibration(scores, np.ones(200), pairs, FINGERPRINT, "made up")
    with pytest.raises(ValueError, match="There are 2 same-speaker and 198 different-speaker trials: a calibration n"):
        fit_calibration(scores, [1, 1] + [0] * 198, pairs, FINGERPRINT, "made up")
    with pytest.raises(ValueError, match="prior is 0: a probability between 0 and 1"):
        fit_calibration(scores, labels, pairs, FINGERPRINT, "made up", prior=0)
    with pytest.raises(ValueError, match="NaN"):
        fit_calibration(np.where(labels == 1, np.nan, scores), labels, pairs, FINGERPRINT, "made up")
