"""Compare the last decisions of a verifier with its first ones, or with the trials of its thresholds. NumPy alone.

Nobody tells a running verifier who was who. The scores of each answer are compared on their own: those on one side of
the threshold with those that were there before, by the population stability index (PSI, over ten bins of equal
probability) and by the distance of Kolmogorov and Smirnov. Beside the trials of the thresholds, the share of
same-speaker decisions is estimated first: the one whose mixture of both kinds of trials lies nearest to the scores.

The trials of a few speakers are not the population that a service meets, and false alarms are frequent beside them:
`docs/results/monitoring.md` has their measured rate, for both references.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..scoring.thresholds import Thresholds

Floats = NDArray[np.float64]
LEAST = 100  # decisions; fewer say nothing
LEAST_OF_SIDE = 50
BINS = 10
# A side is looked at above the first PSI, and has moved above the second: the usual limits (Siddiqi 2006).
LOOK, MOVED = 0.1, 0.25
# The distance of Kolmogorov and Smirnov that chance exceeds once in 1,000, times the root of the decisions.
CHANCE = 1.95
CHANCE_OF_SHARES = 3.3  # standard errors that chance exceeds once in 1,000
NEAR = 0.1  # of the distance between the medians of both kinds: a decision so close to the threshold is near it
MIXED_UP = 0.1  # share of near decisions above the expected one, from which on the two kinds overlap more than before
WARNED_MORE = 0.1  # share of decisions with a warning, above that of the decisions before
OTHER_SHARE = 0.1  # change of the share of accepted decisions; it is looked at, where chance makes it once in 1,000
HOLDS, LOOK_AT_IT, RECALIBRATE, TRAIN_ANEW = "holds", "look", "recalibrate", "train anew"
TOO_FEW = "too few"
COMMANDS = {
    HOLDS: "",
    LOOK_AT_IT: "oskdft evaluate MODEL TRIALS --data DIR",
    RECALIBRATE: "oskdft renew MODEL --data DIR --out DIR",
    TRAIN_ANEW: "oskdft renew MODEL --data DIR --old DATA --out DIR",
}


class Scored(NamedTuple):
    """Hold what is known of a decision.

    Attributes:
        score: cosine.
        threshold: score from which on the answer was "the same".
        is_warned: whether the answer had a warning.
    """

    score: float
    threshold: float
    is_warned: bool


@dataclass(frozen=True)
class Side:
    """Hold how far the scores of one answer have moved.

    Attributes:
        decisions: their number.
        psi: population stability index against what was expected; None for too few decisions.
        distance: of Kolmogorov and Smirnov, times the root of the decisions; None for too few.
    """

    decisions: int
    psi: float | None
    distance: float | None

    def is_beyond(self, limit: float) -> bool:
        """Return whether the scores have moved by more than a PSI, and by more than chance."""
        return self.psi is not None and self.distance is not None and self.psi > limit and self.distance > CHANCE


@dataclass(frozen=True)
class Verdict:
    """Hold whether the decisions are still what the thresholds promise.

    Attributes:
        verdict: "holds", "look", "recalibrate", "train anew", or "too few" decisions.
        decisions: number of decisions that were compared.
        share_of_targets: estimated share of same-speaker decisions.
        accepted: the answers "the same".
        rejected: the answers "different".
        near: share of decisions near the threshold.
        near_expected: the share that the mixture has there.
        warned: share of decisions with a warning.
        reasons: sentences.
        command: what to run, with names in capitals to fill in.
    """

    verdict: str
    decisions: int
    share_of_targets: float | None
    accepted: Side
    rejected: Side
    near: float | None
    near_expected: float | None
    warned: float | None
    reasons: tuple[str, ...]
    command: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has."""
        return asdict(self) | {"reasons": list(self.reasons)}


def judge(decisions: Sequence[Scored], reference: Sequence[Scored] | Thresholds) -> Verdict:
    """Judge the last decisions.

    Args:
        decisions: with a threshold.
        reference: the first decisions of the same weights, or their thresholds with quantiles of the trials. Beside
            trials the verdict is "look" at most: their speakers are not those of the service.

    Returns:
        The verdict.

    Raises:
        ValueError: for thresholds without quantiles, as an early version stored them, and for first decisions that
            are too few.
    """
    if len(decisions) < LEAST:
        nothing = Side(0, None, None)
        reason = f"There are {len(decisions)} decisions, and {LEAST} are needed."
        return Verdict(TOO_FEW, len(decisions), None, nothing, nothing, None, None, None, (reason,))
    scores = np.asarray([decision.score for decision in decisions])
    limits = np.asarray([decision.threshold for decision in decisions])
    before = _Trials(reference, scores) if isinstance(reference, Thresholds) else _Earlier(reference)
    accepted = scores >= limits
    sides = {
        "accepted": _side(before.places(scores[accepted], limits[accepted], True), before.sizes[0]),
        "rejected": _side(before.places(scores[~accepted], limits[~accepted], False), before.sizes[1]),
    }
    width = NEAR * before.gap
    near = float(np.mean(np.abs(scores - limits) < width))
    expected = before.near(limits, width)
    warned = float(np.mean([decision.is_warned for decision in decisions]))
    share = float(np.mean(accepted))
    reasons = _other_share(share, len(scores), before.accepted, sum(before.sizes))
    verdict, more = _conclude(sides, near, expected, warned, before.warned)
    reasons += more
    if verdict == HOLDS and reasons or isinstance(reference, Thresholds) and verdict != HOLDS:
        verdict = LOOK_AT_IT
    return Verdict(
        verdict,
        len(decisions),
        before.share,
        **sides,
        near=near,
        near_expected=expected,
        warned=warned,
        reasons=reasons,
        command=COMMANDS[verdict],
    )


class _Trials:
    """Mix both kinds of trials so that they lie nearest to some scores."""

    sizes, warned, accepted = (math.inf, math.inf), None, None

    def __init__(self, thresholds: Thresholds, scores: Floats) -> None:
        if not {"target", "non_target"} <= set(thresholds.quantiles):
            raise ValueError("The thresholds have no quantiles of their trials: measure them anew.")
        self.kinds = [np.asarray(thresholds.quantiles[kind]) for kind in ("target", "non_target")]
        self.gap = float(np.median(self.kinds[0]) - np.median(self.kinds[1]))
        ordered = np.sort(scores)
        found = (np.arange(len(ordered)) + 0.5) / len(ordered)
        targets, others = (_share_below(kind, ordered) for kind in self.kinds)
        difference = targets - others
        # The share with the least squared distance between both distribution functions.
        share = float((found - others) @ difference / max(float(difference @ difference), 1e-12))
        self.share: float | None = min(max(share, 0.0), 1.0)

    def _below(self, scores: Floats) -> Floats:
        assert self.share is not None
        targets, others = (_share_below(kind, scores) for kind in self.kinds)
        return self.share * targets + (1 - self.share) * others

    def places(self, scores: Floats, limits: Floats, is_above: bool) -> Floats:
        """Place each score within its side of the threshold: evenly between 0 and 1 where nothing has changed."""
        start, end = (self._below(limits), 1.0) if is_above else (0.0, self._below(limits))
        return np.clip((self._below(scores) - start) / np.maximum(end - start, 1e-12), 0.0, 1.0)

    def near(self, limits: Floats, width: float) -> float:
        """Return the share of decisions that are expected near the threshold."""
        return float(np.mean(self._below(limits + width) - self._below(limits - width)))


class _Earlier:
    """Hold earlier decisions, by their answers."""

    share = None

    def __init__(self, decisions: Sequence[Scored]) -> None:
        if len(decisions) < LEAST:
            raise ValueError(f"There are {len(decisions)} first decisions, and {LEAST} are needed.")
        self.margins = np.asarray([decision.score - decision.threshold for decision in decisions])
        self.warned: float | None = float(np.mean([decision.is_warned for decision in decisions]))
        self.sides = [np.sort(self.margins[self.margins >= 0]), np.sort(self.margins[self.margins < 0])]
        self.sizes = (float(len(self.sides[0])), float(len(self.sides[1])))
        self.accepted: float | None = self.sizes[0] / sum(self.sizes)
        self.gap = float(np.median(self.sides[0]) - np.median(self.sides[1])) if min(self.sizes) else 0.0

    def places(self, scores: Floats, limits: Floats, is_above: bool) -> Floats:
        """Place each distance from the threshold among the earlier ones of its side."""
        known = self.sides[0 if is_above else 1]
        margins = scores - limits
        # Of equal distances, as of recordings that are sent twice, the middle.
        both = np.searchsorted(known, margins, "left") + np.searchsorted(known, margins, "right")
        return np.clip(both / max(2 * len(known), 1), 0.0, 1.0)

    def near(self, limits: Floats, width: float) -> float:
        """Return the share of earlier decisions near the threshold."""
        return float(np.mean(np.abs(self.margins) < width))


def _share_below(quantiles: Floats, scores: Floats) -> Floats:
    return np.interp(scores, quantiles, np.linspace(0, 1, len(quantiles)), 0.0, 1.0)


def _side(places: Floats, known: float) -> Side:
    """Compare places with even ones; `known` is the number of earlier decisions that they were found among."""
    number = len(places)
    if min(number, known) < LEAST_OF_SIDE:
        return Side(number, None, None)
    # Half a decision more in each bin: an empty one has no logarithm.
    shares = (np.histogram(places, BINS, (0, 1))[0] + 0.5) / (number + 0.5 * BINS)
    psi = float(np.sum((shares - 1 / BINS) * np.log(shares * BINS)))
    ordered, steps = np.sort(places), np.arange(number + 1) / number
    distance = max(float(np.max(steps[1:] - ordered)), float(np.max(ordered - steps[:-1])))
    return Side(number, psi, distance * math.sqrt(number / (1 + number / known)))


def _other_share(share: float, number: int, before: float | None, known: float) -> tuple[str, ...]:
    """Compare the shares of accepted decisions: a service that accepts everybody has no rejected ones to compare."""
    if before is None:
        return ()
    pooled = (share * number + before * known) / (number + known)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / number + 1 / known))
    if abs(share - before) <= OTHER_SHARE or abs(share - before) <= CHANCE_OF_SHARES * spread:
        return ()
    return (f"{share:.0%} of the decisions are accepted, where {before:.0%} were before.",)


def _conclude(
    sides: dict[str, Side], near: float, expected: float, warned: float, warned_before: float | None
) -> tuple[str, tuple[str, ...]]:
    reasons = []
    for name, side in sides.items():
        if side.is_beyond(LOOK):
            reasons.append(f"The scores of {side.decisions:,} {name} decisions have moved (PSI {side.psi:.2f}).")
    moved = [name for name, side in sides.items() if side.is_beyond(MOVED)]
    is_mixed_up = near - expected > MIXED_UP
    if is_mixed_up:
        reasons.append(f"{near:.0%} of the decisions are near the threshold, where {expected:.0%} are expected.")
    if warned_before is not None and warned - warned_before > WARNED_MORE:
        reasons.append(f"{warned:.0%} of the decisions have a warning, and {warned_before:.0%} had one before.")
    if moved and is_mixed_up:
        return TRAIN_ANEW, tuple(reasons)
    if moved:
        return RECALIBRATE, tuple(reasons)
    return (LOOK_AT_IT if reasons else HOLDS), tuple(reasons)
