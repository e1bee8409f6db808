"""Fit a calibration: prior-weighted logistic regression from score and speech to log-likelihood ratio.

The fit needs scikit-learn (extra `calibration`), its application does not: see `calibration`.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .calibration import LEAST_SECONDS, Calibration, OperatingPoint, Rates
from .likelihood_ratios import cllr, min_cllr
from .metrics import checked_trials, error_rates, interval_of, speaker_weights
from .thresholds import ENOUGH_ACCEPTS, FALSE_ACCEPTS, OPERATING_POINTS

Floats = NDArray[np.float64]
PRIOR = 0.5  # Cllr weighs both kinds of trial alike
FOLDS = 5
ENOUGH_SPEAKERS = 20  # for the terms with speech, and for a Cllr on speakers that were left out
SPREAD = 1.5  # the longest speech must be this many times the shortest one
DRAWS = 500
CURVE = 201  # points of the curve of error rates
LEAST_TRIALS = 5  # of each kind
EARLIER_TRIALS = 30  # of each kind, as which an earlier calibration counts; ours, not tuned


def fit_calibration(
    scores: ArrayLike,
    labels: ArrayLike,
    speakers_of_trials: Sequence[tuple[str, str]],
    fingerprint: str,
    data: str,
    speech: ArrayLike | None = None,
    network: str | None = None,
    prior: float = PRIOR,
    cohort: str | None = None,
    adapter: str | None = None,
    cuts: int = 1,
    before: Calibration | None = None,
) -> Calibration:
    """Fit the function from score to log-likelihood ratio, and measure what it is worth.

    The logistic regression weighs the targets with `prior` and the non-targets with 1 - `prior`; the ratio is its
    log-odds minus the logit of `prior` (Brümmer and du Preez, 2006, section 6). With 20 speakers or more, it takes the
    terms with speech where they lower the Cllr of speakers that were left out: 5 folds over speakers. Where both
    kinds of trial do not overlap, no fit is best; then one misleading trial of each kind is added.

    Args:
        scores: (trials,).
        labels: (trials,), 0 or 1.
        speakers_of_trials: (trials,) pairs of speakers.
        fingerprint: fingerprint of the model's weights.
        data: description of the trials, for people.
        speech: (trials,), seconds of speech of the shorter side; None: unknown.
        network: network that found the speech.
        prior: prior probability of a target trial, in (0, 1).
        cohort: digest of the cohort with which the scores were normalised.
        adapter: name of the speaker adapter in use.
        cuts: trials of each pair of recordings, which were cut in several ways: bounds count pairs.
        before: the calibration until now, of the same weights. Its own trials then count as 30 of each kind, so that a
            few trials move it a little and many replace it; the terms with speech are left out.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for fewer than 5 trials of a kind, for scores that do not rise with the label, and as
            `error_rates` does.
    """
    values, targets = checked_trials(scores, labels)
    if not 0 < prior < 1:
        raise ValueError(f"prior is {prior}: a probability between 0 and 1 is needed; 0.5 favours neither kind.")
    counts = [int(np.sum(targets == label)) for label in (1, 0)]
    if min(counts) < LEAST_TRIALS:
        raise ValueError(
            f"There are {counts[0]} same-speaker and {counts[1]} different-speaker trials: a calibration needs "
            f"{LEAST_TRIALS} of each; give more."
        )
    speakers = len({speaker for pair in speakers_of_trials for speaker in pair})
    logs = None if speech is None else np.log(np.maximum(np.asarray(speech, np.float64), LEAST_SECONDS))
    earlier = None if before is None or before.cohort != cohort else _trials_of(before)
    line = _fit(values[:, None], targets, prior, earlier)
    if not line[0] > 0:
        raise ValueError(
            "The scores of same-speaker trials are not higher than those of different-speaker trials: check the "
            "labels (1 is the same speaker), or the model."
        )
    held_out = None
    duration: tuple[float, float, float, float] | None = None
    if speakers >= ENOUGH_SPEAKERS:
        held_out = _held_out_llrs(values[:, None], targets, speakers_of_trials, prior, earlier)
        if earlier is None and logs is not None and np.ptp(logs) > math.log(SPREAD):
            duration, held_out = _with_speech(values, logs, targets, speakers_of_trials, prior, held_out)
    # With n different-speaker pairs, no ratio above n + 1 can be told from n + 1; and so for the same speaker. As in
    # the bounds of P. Vergeer et al., Science & Justice 56, 2016, one misleading pair more is thought of.
    bounds = (-math.log(counts[0] / cuts + 1), math.log(counts[1] / cuts + 1))
    a, b, c, e = (*line, 0.0, 0.0) if duration is None else duration
    raw = a * values + b if duration is None or logs is None else a * values + b + (c + e * values) * logs
    llrs = np.clip(raw, *bounds)
    honest = llrs if held_out is None else np.where(np.isnan(held_out), np.nan, np.clip(held_out, *bounds))
    known = ~np.isnan(honest)
    points, curve = _measure(llrs, targets, speakers_of_trials, bounds, cuts)
    return Calibration(
        fingerprint=fingerprint,
        score=(line[0], line[1]),
        bounds=bounds,
        trials=len(targets),
        target_trials=counts[0],
        speakers=speakers,
        data=data,
        date=date.today().isoformat(),
        cllr=cllr(honest[known], targets[known]),
        min_cllr=min_cllr(llrs[known], targets[known]),
        operating_points=points,
        curve=curve,
        duration=duration,
        speech=(1.0, 1.0) if logs is None else (float(np.exp(logs.min())), float(np.exp(logs.max()))),
        network=network,
        prior=prior,
        cohort=cohort,
        adapter=adapter,
    )


def needed_trials(operating_point: str) -> int:
    """Return the different-speaker trials that an operating point rests on at least.

    Args:
        operating_point: a key of `FALSE_ACCEPTS`, or "eer".
    """
    share = FALSE_ACCEPTS.get(operating_point)
    return LEAST_TRIALS if share is None else math.ceil(ENOUGH_ACCEPTS / share)


# ---- the regression -------------------------------------------------------------------------------------------------


class _Earlier(NamedTuple):
    """Hold the trials of an earlier calibration: scores, targets and weights, (trials,) each."""

    scores: Floats
    targets: NDArray[np.int64]
    weights: Floats


def _trials_of(before: Calibration) -> _Earlier:
    """Rebuild the trials of a calibration from its curve; those of each kind weigh `EARLIER_TRIALS` together."""
    llrs = np.asarray(before.curve["llr"])
    scores = np.asarray([before.score_at(llr) for llr in (llrs[1:] + llrs[:-1]) / 2])
    kinds = []
    for name, label in (("false_accepts", 0), ("false_rejects", 1)):
        shares = np.abs(np.diff(before.curve[name]))
        weights = EARLIER_TRIALS * shares / max(float(shares.sum()), 1e-9)
        kinds.append((scores, np.full(len(scores), label), weights))
    return _Earlier(*(np.concatenate(values) for values in zip(*kinds, strict=True)))


def _fit(
    features: Floats, targets: NDArray[np.int64], prior: float, earlier: _Earlier | None = None
) -> tuple[float, ...]:
    """Fit the weights of the features and, second, the offset; features: (trials, terms)."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise ImportError(
            "scikit-learn is not installed, and fits calibrations: pip install 'modeling-oskdft[calibration]'."
        ) from None
    counts = np.ones(len(targets))
    if earlier is not None:
        features = np.concatenate([features, earlier.scores[:, None]])
        targets, counts = np.append(targets, earlier.targets), np.append(counts, earlier.weights)
        features, targets, counts = features[counts > 0], targets[counts > 0], counts[counts > 0]
    of_targets, of_others = features[targets == 1, 0], features[targets == 0, 0]
    if of_targets.min() >= of_others.max():  # no fit is best: the steeper, the better
        rows = [np.argmin(np.where(targets == 1, features[:, 0], np.inf))]
        rows.append(np.argmax(np.where(targets == 0, features[:, 0], -np.inf)))
        features, targets = np.concatenate([features, features[rows]]), np.append(targets, [0, 1])
        counts = np.append(counts, [1.0, 1.0])
    centre, scale = features.mean(0), np.maximum(features.std(0), 1e-9)
    of_each = [counts[targets == label].sum() for label in (0, 1)]
    weights = counts * np.where(targets == 1, prior / of_each[1], (1 - prior) / of_each[0])
    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    regression.fit((features - centre) / scale, targets, sample_weight=weights * len(targets))
    slopes = regression.coef_[0] / scale
    offset = float(regression.intercept_[0] - slopes @ centre) - math.log(prior / (1 - prior))
    return (float(slopes[0]), offset, *map(float, slopes[1:]))


def _llrs(parameters: tuple[float, ...], features: Floats) -> Floats:
    slopes = np.asarray([parameters[0], *parameters[2:]])
    return features @ slopes + parameters[1]


def _with_speech(
    scores: Floats,
    logs: Floats,
    targets: NDArray[np.int64],
    pairs: Sequence[tuple[str, str]],
    prior: float,
    by_score: Floats | None,
) -> tuple[tuple[float, float, float, float] | None, Floats | None]:
    """Fit the terms with speech where they help speakers that were left out; else return None and `by_score`."""
    features = np.stack([scores, logs, scores * logs], axis=1)
    with_speech = _held_out_llrs(features, targets, pairs, prior)
    if by_score is None or with_speech is None:
        return None, by_score
    known = ~np.isnan(by_score) & ~np.isnan(with_speech)
    if cllr(with_speech[known], targets[known]) >= cllr(by_score[known], targets[known]):
        return None, by_score
    a, b, c, e = _fit(features, targets, prior)
    if min(a + e * logs.min(), a + e * logs.max()) <= 0:  # a higher score must never count for less
        return None, by_score
    return (a, b, c, e), with_speech


def _held_out_llrs(
    features: Floats,
    targets: NDArray[np.int64],
    pairs: Sequence[tuple[str, str]],
    prior: float,
    earlier: _Earlier | None = None,
) -> Floats | None:
    """Compute the ratio of each trial by a fit without its speakers.

    Returns:
        (trials,), NaN for trials between folds; None where a fold has trials of one kind alone.
    """
    llrs = np.full(len(targets), np.nan)
    for inside, outside in _folds(pairs):
        if any(len(np.unique(targets[rows])) < 2 for rows in (inside, outside)):
            return None
        llrs[inside] = _llrs(_fit(features[outside], targets[outside], prior, earlier), features[inside])
    return llrs


def _folds(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield, for each fold of speakers, the trials of its speakers alone, and the trials without them."""
    names, inverse = np.unique(np.asarray(pairs, dtype=object).astype(str), return_inverse=True)
    fold_of = np.random.default_rng(0).permutation(len(names)) % FOLDS
    folds = fold_of[inverse.reshape(-1, 2)]
    for fold in range(FOLDS):
        in_fold = folds == fold
        yield in_fold.all(1), ~in_fold.any(1)


# ---- error rates ----------------------------------------------------------------------------------------------------


def _measure(
    llrs: Floats,
    targets: NDArray[np.int64],
    pairs: Sequence[tuple[str, str]],
    bounds: tuple[float, float],
    cuts: int,
) -> tuple[dict[str, OperatingPoint | None], dict[str, list[float]]]:
    """Measure the operating points and the curve of error rates, with intervals by bootstrap over speakers."""
    grid = np.linspace(bounds[0], bounds[1], CURVE)
    order = np.argsort(-llrs, kind="stable")
    sorted_llrs, sorted_targets = llrs[order], targets[order]
    at_grid = np.searchsorted(-sorted_llrs, -grid, side="right")  # trials that are accepted at each threshold

    def rates(weights: Floats) -> tuple[Floats, Floats]:
        shares = []
        for label in (0, 1):
            accepted = np.concatenate([[0.0], np.cumsum(weights * (sorted_targets == label))])
            shares.append(accepted[at_grid] / accepted[-1])
        return shares[0], 1 - shares[1]

    thresholds = _thresholds(sorted_llrs, sorted_targets, np.ones(len(llrs)), cuts)
    drawn: dict[str, list[float]] = {name: [] for name, value in thresholds.items() if value is not None}
    draws: list[tuple[Floats, Floats]] = []
    for weights in speaker_weights(targets, pairs, DRAWS, seed=0):
        draws.append(rates(weights[order]))
        for name, value in _thresholds(sorted_llrs, sorted_targets, weights[order], cuts).items():
            if name in drawn and value is not None:
                drawn[name].append(value)
    curve = {"llr": grid}
    for number, (kind, label) in enumerate((("false_accepts", 0), ("false_rejects", 1))):
        curve[kind] = rates(np.ones(len(llrs)))[number]
        low, high = np.quantile([draw[number] for draw in draws], [0.025, 0.975], axis=0)
        # Draws cannot show an error that was never seen: up to 1 - 0.05^(1/n) is possible (Hanley, 1983).
        unseen = 1 - 0.05 ** (cuts / np.sum(targets == label))
        curve[f"{kind}_low"], curve[f"{kind}_high"] = low, np.maximum(high, unseen)
    points: dict[str, OperatingPoint | None] = {}
    for name, value in thresholds.items():
        ends = interval_of(drawn[name]) if drawn.get(name) else None
        points[name] = None if value is None or ends is None else OperatingPoint(value, ends.low, ends.high)
    return points, {name: np.round(curve[name], 6).tolist() for name in ("llr", *Rates._fields)}


def _thresholds(llrs: Floats, targets: NDArray[np.int64], weights: Floats, cuts: int) -> dict[str, float | None]:
    """Return the threshold of each operating point for falling ratios; None where the pairs are too few."""
    rates = error_rates(llrs, targets, weights)
    gap = rates.false_accepts - rates.false_rejects
    right = int(np.argmax(gap >= 0))
    thresholds: dict[str, float | None] = {"eer": float(rates.thresholds[right])}
    drawn = weights > 0
    lowest, highest = llrs[drawn & (targets == 1)].min(), llrs[drawn & (targets == 0)].max()
    if lowest > highest:  # no errors between: the middle is as far from both
        thresholds["eer"] = float(lowest + highest) / 2
    non_targets = weights[targets == 0].sum()
    for name, share in FALSE_ACCEPTS.items():
        if share * non_targets / cuts < ENOUGH_ACCEPTS:
            thresholds[name] = None
            continue
        # The lowest threshold that accepts no more than this share: just above the first one that accepts more.
        first = int(np.argmax(rates.false_accepts > share))
        thresholds[name] = float(np.nextafter(rates.thresholds[first], np.inf))
    assert tuple(thresholds) == OPERATING_POINTS
    return thresholds
