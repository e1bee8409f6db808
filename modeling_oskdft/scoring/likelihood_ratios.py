"""Measure how good log-likelihood ratios are: Cllr, its minimum, detection costs and DET points. Needs NumPy alone.

A log-likelihood ratio (LLR) is the natural logarithm of P(recordings | same speaker) / P(recordings | different
speakers). Labels are (trials,), 1 for a target trial and 0 for a non-target trial.

Sources: N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 20, 2006 (Cllr, PAV, Bayes decisions); NIST SRE evaluation plans (actual and minimum detection cost).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics import checked_trials, error_rates

Floats = NDArray[np.float64]


def cllr(llrs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Compute Cllr, the cost of log-likelihood ratios in bits: 0 for perfect ones, 1 for ones that say nothing.

    Cllr = (mean over targets of log2(1 + e^-llr) + mean over non-targets of log2(1 + e^llr)) / 2
    (Brümmer and du Preez, 2006, equation 33).

    Args:
        llrs: (trials,), natural logarithms; infinite ones are allowed.
        labels: (trials,), 0 or 1.
        weights: (trials,), how often each trial counts; None: once.

    Returns:
        Cllr, not negative; above 1 for ratios that mislead.

    Raises:
        ValueError: as `error_rates` does.
    """
    values, targets = checked_trials(llrs, labels)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    losses = np.logaddexp(0.0, np.where(targets == 1, -values, values)) / math.log(2)
    costs = []
    for label in (1, 0):
        of_class = counts * (targets == label)
        costs.append(float(np.sum(np.where(of_class > 0, losses, 0.0) * of_class) / of_class.sum()))
    return sum(costs) / 2


def optimal_llrs(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Compute the best log-likelihood ratios that rise with the scores, by the pool-adjacent-violators algorithm.

    They minimise Cllr among all rising functions of the score (Brümmer and du Preez, 2006, section 5).

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.
        weights: (trials,), how often each trial counts; None: once.

    Returns:
        (trials,), infinite where all trials of a score's block are of one class.

    Raises:
        ValueError: as `error_rates` does.
    """
    values, targets = checked_trials(scores, labels)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    distinct, inverse = np.unique(values, return_inverse=True)
    of_targets: Floats = np.bincount(inverse, counts * targets, len(distinct)).astype(np.float64)
    of_all: Floats = np.bincount(inverse, counts, len(distinct)).astype(np.float64)
    share = _pool_adjacent_violators(of_targets, of_all)
    prior = of_targets.sum() / of_all.sum()
    with np.errstate(divide="ignore"):
        posterior_odds = np.log(share) - np.log1p(-share)
    return (posterior_odds - math.log(prior / (1 - prior)))[inverse]


def min_cllr(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Compute the Cllr that the best rising function of the scores would have: what calibration cannot improve.

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.
        weights: (trials,), how often each trial counts; None: once.

    Raises:
        ValueError: as `error_rates` does.
    """
    return cllr(optimal_llrs(scores, labels, weights), labels, weights)


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Compute the log-likelihood ratio from which on "same" has the lower expected cost.

    Args:
        p_target: prior probability of a target trial, in (0, 1).
        c_miss: cost of a miss, above 0.
        c_fa: cost of a false accept, above 0.

    Raises:
        ValueError: for a number outside of its range.
    """
    if not 0 < p_target < 1:
        raise ValueError(f"The prior is {p_target}: a probability between 0 and 1 is needed; 0.5 favours neither.")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not (cost > 0 and math.isfinite(cost)):
            raise ValueError(f"{name} is {cost}: a finite cost above 0 is needed; 1 is usual.")
    return math.log(c_fa * (1 - p_target)) - math.log(c_miss * p_target)


def actual_detection_cost(
    llrs: ArrayLike, labels: ArrayLike, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Compute the detection cost of decisions at the Bayes threshold, divided by that of the better blind decision.

    The same cost as in `min_detection_cost`, whose threshold is chosen afterwards: the difference is what calibration
    loses.

    Args:
        llrs: (trials,), natural logarithms.
        labels: (trials,), 0 or 1.
        p_target: prior probability of a target trial.
        c_miss: cost of a miss.
        c_fa: cost of a false accept.

    Raises:
        ValueError: as `error_rates` and `bayes_threshold` do.
    """
    threshold = bayes_threshold(p_target, c_miss, c_fa)
    values, targets = checked_trials(llrs, labels)
    accepted = values >= threshold
    misses, false_accepts = np.mean(~accepted[targets == 1]), np.mean(accepted[targets == 0])
    cost = p_target * c_miss * misses + (1 - p_target) * c_fa * false_accepts
    return float(cost / min(p_target * c_miss, (1 - p_target) * c_fa))


class DetPoints(NamedTuple):
    """Hold the points of a detection error trade-off curve.

    Attributes:
        false_accepts: (points,), rising from 0 to 1.
        false_rejects: (points,), falling from 1 to 0.
        probits: (2, points), both rates on the axes of a DET plot: the quantiles of a normal distribution. Rates of 0
            and 1 are drawn at half a trial.
    """

    false_accepts: Floats
    false_rejects: Floats
    probits: Floats


def det_points(scores: ArrayLike, labels: ArrayLike) -> DetPoints:
    """Compute the points of a DET curve (A. Martin et al., Eurospeech 1997).

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.

    Raises:
        ValueError: as `error_rates` does.
    """
    from statistics import NormalDist

    rates = error_rates(scores, labels)
    targets = int(np.sum(np.asarray(labels)))
    half = (0.5 / (np.size(labels) - targets), 0.5 / targets)
    normal = NormalDist()
    probits = [
        [normal.inv_cdf(min(max(rate, least), 1 - least)) for rate in kind.tolist()]
        for kind, least in zip((rates.false_accepts, rates.false_rejects), half, strict=True)
    ]
    return DetPoints(rates.false_accepts, rates.false_rejects, np.asarray(probits))


def _pool_adjacent_violators(of_targets: Floats, of_all: Floats) -> Floats:
    """Return the rising shares of targets that fit best, (distinct scores,); each input has one number a score."""
    blocks: list[list[float]] = []  # targets, trials, number of scores
    for targets, trials in zip(of_targets.tolist(), of_all.tolist(), strict=True):
        blocks.append([targets, trials, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [before + after for before, after in zip(blocks[-1], last, strict=True)]
    # A block without weight (no trial was drawn there) has no share of its own.
    shares = [targets / trials if trials else np.nan for targets, trials, _ in blocks]
    return np.repeat(shares, [int(count) for *_, count in blocks])
