"""Measure error rates of a verifier from its scores, with intervals. Needs NumPy alone.

Scores are (trials,), larger for voices that are more alike. Labels are (trials,), 1 for a target trial (the same
speaker) and 0 for a non-target trial. A verifier decides "same" where score >= threshold. All rates are fractions.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
WORSE_THAN_CHANCE = 0.6  # a larger EER does not come from chance on a few trials


class EqualErrorRate(NamedTuple):
    """Hold the rate at which false accepts and false rejects are equally frequent, and its threshold."""

    value: float
    threshold: float


class ErrorRates(NamedTuple):
    """Hold both error rates at every distinct threshold, from "accept nothing" to "accept everything".

    Attributes:
        thresholds: (points,), falling, infinity first.
        false_accepts: (points,), rising from 0 to 1.
        false_rejects: (points,), falling from 1 to 0.
    """

    thresholds: Floats
    false_accepts: Floats
    false_rejects: Floats


def error_rates(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> ErrorRates:
    """Compute both error rates at each distinct score of a set of trials.

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.
        weights: (trials,), not negative; None: 1 for each trial.

    Raises:
        ValueError: for unequal lengths, a NaN, a label that is not 0 or 1, or a class without weight.
    """
    values, targets = checked_trials(scores, labels)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != values.shape or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("The weights are not one finite number of at least 0 for each trial: give that, or None.")
    for label, kind in ((1, "target"), (0, "non-target")):
        if counts[targets == label].sum() == 0:
            raise ValueError(f"The {kind} trials have no weight: trials of both classes are needed.")
    order = np.argsort(-values, kind="stable")
    return _rates_of_sorted(values[order], targets[order], counts[order])


def equal_error_rate(scores: ArrayLike, labels: ArrayLike) -> EqualErrorRate:
    """Compute the equal error rate, by straight lines between the points of the ROC curve.

    A rate above 60 % is warned about: exchanged labels give such rates.

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.

    Raises:
        ValueError: as `error_rates` does.
    """
    result = _equal_error_rate(error_rates(scores, labels))
    if result.value > WORSE_THAN_CHANCE:
        warnings.warn(
            f"The EER is {100 * result.value:.1f} %: scores that say nothing give 50 %; labels must be 1 for the same "
            "speaker, and scores larger for more alike.",
            stacklevel=2,
        )
    return result


def min_detection_cost(
    scores: ArrayLike, labels: ArrayLike, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Compute the smallest detection cost over all thresholds, divided by the cost of the better blind decision.

    The cost is that of NIST SRE: p_target * c_miss * P(miss) + (1 - p_target) * c_fa * P(false accept). A blind
    decision accepts or rejects all trials.

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.
        p_target: prior probability of a target trial.
        c_miss: cost of a miss.
        c_fa: cost of a false accept.

    Returns:
        minDCF, from 0 to 1.

    Raises:
        ValueError: as `error_rates` does, for a p_target outside (0, 1), and for a cost that is not above 0.
    """
    return _min_detection_cost(error_rates(scores, labels), p_target, c_miss, c_fa)


def eer_in_percent(report: Mapping[str, Any], digits: int = 1) -> str:
    """Format an EER and its interval in per cent for a table, such as "4.3 (2.6–6.6)".

    Args:
        report: has `eer`, `eer_low` and `eer_high` as fractions, as `TrialReport.as_dict` returns them.
        digits: digits behind the point.
    """
    value, low, high = (f"{100 * report[name]:.{digits}f}" for name in ("eer", "eer_low", "eer_high"))
    return f"{value} ({low}–{high})"


class Interval(NamedTuple):
    """Hold the two ends of a 95 % interval."""

    low: float
    high: float


def bootstrap_rates(
    scores: Sequence[ArrayLike],
    labels: ArrayLike,
    speakers: Sequence[tuple[str, str]],
    draws: int = 1000,
    seed: int = 0,
    p_target: float = 0.01,
) -> tuple[Floats, Floats]:
    """Measure EER and minDCF of several systems on bootstrap draws of speakers.

    Each draw takes as many speakers as there are, with replacement; a non-target trial weighs count(a) * count(b), a
    target trial count(a). Trials share speakers, so that drawing trials would give an interval that is too narrow. All
    systems get the same draws, so that the difference of two columns is a paired one.

    Args:
        scores: (trials,) for each system.
        labels: (trials,), 0 or 1.
        speakers: (trials,) pairs: the speaker of the enrolment and of the test recording.
        draws: number of draws.
        seed: seed of the draws.
        p_target: prior probability of a target trial, for minDCF.

    Returns:
        EERs and minDCFs, each (draws, systems). Draws without trials of both classes are left out.

    Raises:
        ValueError: as `error_rates` does, and when no draw has trials of both classes.
    """
    checked = [checked_trials(system_scores, labels) for system_scores in scores]
    orders = [np.argsort(-values, kind="stable") for values, _ in checked]
    targets = checked[0][1]
    eers, costs = [], []
    for weights in speaker_weights(targets, speakers, draws, seed):
        rates = [
            _rates_of_sorted(values[order], targets[order], weights[order])
            for (values, _), order in zip(checked, orders, strict=True)
        ]
        eers.append([_equal_error_rate(system_rates).value for system_rates in rates])
        costs.append([_min_detection_cost(system_rates, p_target, 1.0, 1.0) for system_rates in rates])
    if not eers:
        raise ValueError("No draw held both classes: give trials of more speakers.")
    return np.asarray(eers), np.asarray(costs)


def speaker_weights(
    targets: NDArray[np.int64], speakers: Sequence[tuple[str, str]], draws: int, seed: int
) -> Iterator[Floats]:
    """Weigh the trials for each bootstrap draw of as many speakers as there are, with replacement.

    Args:
        targets: (trials,), 0 or 1.
        speakers: (trials,) pairs: the speaker of the enrolment and of the test recording.
        draws: number of draws.
        seed: seed of the draws.

    Yields:
        (trials,), how often each trial is in the draw. Draws without trials of both classes are left out.
    """
    names, inverse = np.unique(np.asarray(speakers, dtype=object).astype(str), return_inverse=True)
    first, second = inverse.reshape(-1, 2).T
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        count = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        weights = np.where(targets == 1, count[first], count[first] * count[second]).astype(np.float64)
        if weights[targets == 1].sum() > 0 and weights[targets == 0].sum() > 0:
            yield weights


def interval_of(draws: ArrayLike) -> Interval:
    """Take the 95 % interval of bootstrap draws.

    Args:
        draws: (draws,), the statistic on each draw.
    """
    low, high = np.quantile(np.asarray(draws), [0.025, 0.975])
    return Interval(float(low), float(high))


def bootstrap_intervals(
    scores: ArrayLike,
    labels: ArrayLike,
    speakers: Sequence[tuple[str, str]],
    draws: int = 1000,
    seed: int = 0,
    p_target: float = 0.01,
) -> tuple[Interval, Interval]:
    """Estimate the 95 % intervals of EER and minDCF of one system by bootstrap over speakers.

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.
        speakers: (trials,) pairs, as in `bootstrap_rates`.
        draws: number of draws.
        seed: seed of the draws.
        p_target: prior probability of a target trial, for minDCF.

    Returns:
        The intervals of EER and of minDCF.

    Raises:
        ValueError: as `bootstrap_rates` does.
    """
    eers, costs = bootstrap_rates([scores], labels, speakers, draws, seed, p_target)
    return interval_of(eers[:, 0]), interval_of(costs[:, 0])


def checked_trials(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Flatten scores and labels, and refuse trials that have no error rates.

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.

    Returns:
        Both as (trials,).

    Raises:
        ValueError: for unequal lengths, a NaN, a label that is not 0 or 1, and for trials of one class.
    """
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    targets = np.asarray(labels).reshape(-1)
    if len(values) != len(targets):
        raise ValueError(f"{len(values)} scores were given with {len(targets)} labels: give one label for each score.")
    if np.isnan(values).any():
        raise ValueError("The scores have a NaN: every trial needs a number.")
    if not np.isin(targets, (0, 1)).all():
        unknown = targets[~np.isin(targets, (0, 1))][0]
        raise ValueError(f"The labels have {unknown}: use 1 for a target trial and 0 for a non-target trial.")
    targets = targets.astype(np.int64)
    if targets.size == 0 or targets.min() == targets.max():
        raise ValueError(f"All {len(targets)} trials are of one class: target and non-target trials are both needed.")
    return values, targets


def _rates_of_sorted(values: Floats, targets: NDArray[np.int64], weights: Floats) -> ErrorRates:
    """Compute both error rates for falling scores; equal scores are one point."""
    last_of_tie = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    accepted_targets = np.cumsum(weights * targets)[last_of_tie]
    accepted_non_targets = np.cumsum(weights * (1 - targets))[last_of_tie]
    return ErrorRates(
        np.concatenate([[np.inf], values[last_of_tie]]),
        np.concatenate([[0.0], accepted_non_targets / accepted_non_targets[-1]]),
        np.concatenate([[1.0], 1.0 - accepted_targets / accepted_targets[-1]]),
    )


def _equal_error_rate(rates: ErrorRates) -> EqualErrorRate:
    thresholds, accepts, rejects = rates
    gap = accepts - rejects  # rises from -1 to 1
    right = int(np.argmax(gap >= 0))
    left = right - 1
    fraction = -gap[left] / (gap[right] - gap[left])
    value = accepts[left] + fraction * (accepts[right] - accepts[left])
    if not np.isfinite(thresholds[left]):
        return EqualErrorRate(float(value), float(thresholds[right]))
    return EqualErrorRate(float(value), float(thresholds[left] + fraction * (thresholds[right] - thresholds[left])))


def _min_detection_cost(rates: ErrorRates, p_target: float, c_miss: float, c_fa: float) -> float:
    if not 0 < p_target < 1:
        raise ValueError(f"p_target is {p_target}: a probability between 0 and 1 is needed; 0.01 is usual.")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not (cost > 0 and math.isfinite(cost)):
            raise ValueError(f"{name} is {cost}: a finite cost above 0 is needed; 1 is usual.")
    costs = p_target * c_miss * rates.false_rejects + (1 - p_target) * c_fa * rates.false_accepts
    return float(costs.min() / min(p_target * c_miss, (1 - p_target) * c_fa))
