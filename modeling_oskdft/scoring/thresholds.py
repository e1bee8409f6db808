"""Measure and store thresholds: the scores from which on two recordings are taken for one speaker."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..files import read_json, whole_file
from .metrics import equal_error_rate, interval_of, speaker_weights

THRESHOLDS_NAME = "thresholds.json"
# Operating points by name, and the share of non-target trials that they accept at most.
FALSE_ACCEPTS = {"far_1_percent": 0.01, "far_0.1_percent": 0.001}
OPERATING_POINTS = ("eer", *FALSE_ACCEPTS)
SET_ASIDE = "speakers set aside from the training data"  # end of `data` for thresholds that a training run measured
ENOUGH_SPEAKERS = 20  # a threshold of fewer speakers fits them more than others
LIMIT = 1.1  # of a cosine; a threshold just above 1 rejects every trial
DRAWS = 1000
LEVELS = 1001  # quantiles stored of each kind of trial: error rates of 0.1 % can be read from them
ENOUGH_ACCEPTS = 10  # false accepts that a threshold at a false-accept rate must rest on


@dataclass(frozen=True, repr=False)
class Thresholds:
    """Hold the decision thresholds of one model, and the trials that they were measured on.

    Attributes:
        values: threshold of the cosine by operating point; None where there were too few trials to measure it.
        trials: number of trials.
        target_trials: number of same-speaker trials among them.
        speakers: number of speakers.
        data: description of the trials.
        fingerprint: fingerprint of the model's weights, see `companions_oskdft`.
        quantiles: quantiles of the scores of "target" and "non_target" trials, evenly spaced from the lowest score to
            the highest; error rates at any other threshold are read from them.
        intervals: (low, high) of the 95 % intervals of the values, by bootstrap over speakers; without the points
            where the speakers of the trials were not given.
        graph: SHA-256 of the exported graph that lies beside the thresholds.
    """

    values: dict[str, float | None]
    trials: int
    target_trials: int
    speakers: int
    data: str
    fingerprint: str
    quantiles: dict[str, list[float]] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    graph: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        shown = [f"{name}={'None' if value is None else f'{value:.4f}'}" for name, value in self.values.items()]
        shown += [f"trials={self.trials}", f"speakers={self.speakers}", f"data={self.data!r}"]
        return f"Thresholds({', '.join(shown)})"

    def check(self) -> None:
        """Check every field, because a value outside of its range must not decide.

        Raises:
            ValueError: naming the first field with a wrong type or a number that is not finite or out of its range.
        """
        for name in ("values", "quantiles", "intervals"):
            _check(isinstance(getattr(self, name), dict), name, getattr(self, name), "an object")
        for name, value in self.values.items():
            _check(value is None or _is_a_score(value), f"values.{name}", value, "a number from -1 to 1, or null")
        for name in ("trials", "target_trials", "speakers"):
            value = getattr(self, name)
            is_a_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            _check(is_a_count, name, value, "a whole number")
        _check(isinstance(self.data, str), "data", self.data, "a text")
        is_a_digest = isinstance(self.fingerprint, str) and bool(re.fullmatch(r"[0-9a-f]{64}", self.fingerprint))
        _check(is_a_digest, "fingerprint", self.fingerprint, "64 hexadecimal digits")
        for name, scores in self.quantiles.items():
            fits = isinstance(scores, list) and len(scores) > 1 and all(map(_is_a_score, scores))
            _check(fits and scores == sorted(scores), f"quantiles.{name}", scores, "rising numbers from -1 to 1")
        for name, ends in self.intervals.items():
            fits = isinstance(ends, list) and len(ends) == 2 and all(map(_is_a_score, ends))
            _check(fits and ends == sorted(ends), f"intervals.{name}", ends, "two numbers from -1 to 1")

    def doubt(self, operating_point: str) -> str | None:
        """Write a sentence about a threshold that was measured on few speakers.

        Args:
            operating_point: a key of `values`.

        Returns:
            The sentence, or None where the speakers are enough or there is no such threshold.
        """
        if self.values.get(operating_point) is None or self.speakers >= ENOUGH_SPEAKERS:
            return None
        ends = self.intervals.get(operating_point)
        interval = "" if ends is None else f" (95 %: {ends[0]:.2f} to {ends[1]:.2f})"
        return (
            f"The threshold {self.values[operating_point]:.2f}{interval} stands on {self.speakers} speakers: below "
            f"{ENOUGH_SPEAKERS} it may not hold for others; measure it on more."
        )

    def false_accept_rate(self, threshold: float) -> float:
        """Interpolate the share of non-target trials that score at or above a threshold from the quantiles."""
        return 1.0 - self._share_below(threshold, "non_target")

    def false_reject_rate(self, threshold: float) -> float:
        """Interpolate the share of target trials that score below a threshold from the quantiles."""
        return self._share_below(threshold, "target")

    def _share_below(self, threshold: float, kind: str) -> float:
        scores = np.asarray(self.quantiles[kind])
        # The first of equal quantiles: a score that equals the threshold is not below it.
        after = int(np.searchsorted(scores, threshold, side="left"))
        if after in (0, len(scores)):
            return 0.0 if after == 0 else 1.0
        fraction = (threshold - scores[after - 1]) / (scores[after] - scores[after - 1])
        return float((after - 1 + fraction) / (len(scores) - 1))

    def save(self, folder: str | Path) -> None:
        """Write `thresholds.json` into a folder, whole or not at all."""
        with whole_file(Path(folder, THRESHOLDS_NAME)) as file:
            file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Thresholds":
        """Read and check a file of thresholds; fields of later versions are left out.

        Raises:
            ValueError: for a file without thresholds, or with values that `check` refuses.
        """
        stored = read_json(path)
        known = {field.name for field in fields(cls)}
        try:
            thresholds = cls(**{name: value for name, value in stored.items() if name in known})
            thresholds.check()
            return thresholds
        except TypeError:
            missing = sorted({"values", "trials", "target_trials", "speakers", "data", "fingerprint"} - set(stored))
            raise ValueError(
                f"'{path}' does not hold thresholds ({', '.join(missing)}): measure them again."
            ) from None
        except ValueError as error:
            raise ValueError(f"'{path}' does not hold thresholds ({error}): measure them again.") from None


def _check(fits: bool, name: str, value: object, wanted: str) -> None:
    if not fits:
        raise ValueError(f"{name} is {str(value)[:40]}: {wanted} is needed")


def _is_a_score(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and abs(value) <= LIMIT


def measure_thresholds(
    scores: ArrayLike,
    labels: ArrayLike,
    speakers: int,
    data: str,
    fingerprint: str,
    speakers_of_trials: Sequence[tuple[str, str]] | None = None,
) -> Thresholds:
    """Measure the thresholds at the EER and at 1 % and 0.1 % false accepts.

    Args:
        scores: (trials,), cosines of trials whose speakers the model was not trained on.
        labels: (trials,), 1 for a target trial (the same speaker) and 0 for a non-target trial.
        speakers: number of speakers in the trials.
        data: description of the trials, for people.
        fingerprint: fingerprint of the model's weights.
        speakers_of_trials: (trials,) pairs of speakers; with them, the thresholds get 95 % intervals.

    Raises:
        ValueError: as `equal_error_rate` does.
    """
    values, targets = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    quantiles = {
        name: np.quantile(values[targets == label], np.linspace(0, 1, LEVELS)).round(4).tolist()
        for name, label in (("target", 1), ("non_target", 0))
    }
    points = _points(values, targets)
    intervals = {} if speakers_of_trials is None else _intervals(values, targets, speakers_of_trials, points)
    return Thresholds(points, len(targets), int(targets.sum()), speakers, data, fingerprint, quantiles, intervals)


def _points(values: NDArray[np.float64], targets: NDArray[np.int64]) -> dict[str, float | None]:
    """Measure the threshold of each operating point; None where the trials are too few for it."""
    points: dict[str, float | None] = {"eer": equal_error_rate(values, targets).threshold}
    non_targets = np.sort(values[targets == 0])[::-1]
    for name, share in FALSE_ACCEPTS.items():
        accepted = int(share * len(non_targets))
        # The lowest threshold that accepts no more than `accepted` of them.
        is_measurable = accepted >= ENOUGH_ACCEPTS
        points[name] = float(np.nextafter(non_targets[accepted], np.inf)) if is_measurable else None
    return points


def _intervals(
    values: NDArray[np.float64],
    targets: NDArray[np.int64],
    pairs: Sequence[tuple[str, str]],
    points: dict[str, float | None],
) -> dict[str, list[float]]:
    """Estimate 95 % intervals of the points that were measured, over draws of speakers."""
    drawn: dict[str, list[float]] = {name: [] for name, value in points.items() if value is not None}
    for weights in speaker_weights(targets, pairs, DRAWS, seed=0):
        repeated = np.repeat(np.arange(len(values)), weights.astype(np.int64))
        for name, value in _points(values[repeated], targets[repeated]).items():
            if name in drawn and value is not None:
                drawn[name].append(value)
    return {name: np.round(interval_of(draws), 4).tolist() for name, draws in drawn.items() if draws}
