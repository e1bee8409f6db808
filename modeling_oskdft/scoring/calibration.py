"""Turn scores into log-likelihood ratios, and store what was measured with them. Needs NumPy alone.

A calibration belongs to particular weights: it states their fingerprint, and applies to no others.
"""

import json
import math
import os
import re
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from ..files import read_json, whole_file

CALIBRATION_NAME = "calibration.json"
PREVIOUS_NAME = "calibration.previous.json"
RESTORING_NAME = "calibration.restoring.json"
SCHEMA = 1
TUPLES = ("score", "bounds", "speech", "duration")  # fields that are lists in JSON
LEAST_SECONDS = 0.1  # of speech, whose logarithm is taken


class Rates(NamedTuple):
    """Hold both error rates at a threshold, with 95 % intervals by bootstrap over speakers.

    Attributes:
        false_accepts: share of different-speaker trials that are accepted.
        false_accepts_low: lower end of its interval.
        false_accepts_high: upper end.
        false_rejects: share of same-speaker trials that are rejected.
        false_rejects_low: lower end of its interval.
        false_rejects_high: upper end.
    """

    false_accepts: float
    false_accepts_low: float
    false_accepts_high: float
    false_rejects: float
    false_rejects_low: float
    false_rejects_high: float


@dataclass(frozen=True)
class OperatingPoint:
    """Hold a threshold of the log-likelihood ratio.

    Attributes:
        llr: the threshold.
        low: lower end of its 95 % interval, by bootstrap over speakers.
        high: upper end.
    """

    llr: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class Calibration:
    """Hold the function from score and speech to log-likelihood ratio, and the trials that it was fitted on.

    llr = a * score + b, or, with the speech of the shorter side in seconds,
    llr = a * score + b + c * log(speech) + e * score * log(speech).

    Attributes:
        fingerprint: fingerprint of the model's weights, adapter and head included; see `companions_oskdft`.
        score: a and b.
        duration: a, b, c and e; None where the trials do not support them.
        speech: shortest and longest speech of the trials in seconds; others are taken for these.
        network: network that found the speech, as `Speech.network`; the terms with speech need the same one.
        bounds: lowest and highest log-likelihood ratio that the number of trials supports.
        prior: prior probability of a target trial that weighed the trials.
        trials: number of trials.
        target_trials: number of same-speaker trials among them.
        speakers: number of speakers.
        data: description of the trials.
        date: day of the fit, YYYY-MM-DD.
        cllr: Cllr of the trials, of speakers that were left out of the fit where there are enough.
        min_cllr: the least Cllr that a rising function of the score would have.
        operating_points: thresholds by name; None where there were too few trials to measure one.
        curve: `llr` and the fields of `Rates`, each a list of the same length: the error rates at thresholds.
        adapter: name of the speaker adapter that was in use, for people; None for the model's own.
        cohort: digest of the cohort with which scores are normalised before; None: cosines.
        schema: version of the file.
    """

    fingerprint: str
    score: tuple[float, float]
    bounds: tuple[float, float]
    trials: int
    target_trials: int
    speakers: int
    data: str
    date: str
    cllr: float
    min_cllr: float
    operating_points: dict[str, OperatingPoint | None]
    curve: dict[str, list[float]] = field(repr=False)
    duration: tuple[float, float, float, float] | None = None
    speech: tuple[float, float] = (1.0, 1.0)
    network: str | None = None
    prior: float = 0.5
    adapter: str | None = None
    cohort: str | None = None
    schema: int = SCHEMA

    def __repr__(self) -> str:
        form = "score" if self.duration is None else "score and speech"
        return (
            f"Calibration({form}, Cllr {self.cllr:.3f}, trials={self.trials}, speakers={self.speakers}, "
            f"data={self.data!r})"
        )

    def llr(self, score: float, speech: float | None = None, network: str | None = None) -> float:
        """Compute the log-likelihood ratio of a score.

        Args:
            score: cosine of two embeddings, normalised where the calibration has a `cohort`.
            speech: seconds of speech of the shorter side; None: unknown.
            network: what found the speech; seconds of another one are not used.

        Returns:
            Natural logarithm, within `bounds`.
        """
        slope, offset = self._line(speech, network)
        return float(np.clip(slope * score + offset, *self.bounds))

    def score_at(self, llr: float, speech: float | None = None, network: str | None = None) -> float:
        """Return the score that has a log-likelihood ratio: the inverse of `llr` without its bounds.

        Args:
            llr: the ratio.
            speech: as in `llr`.
            network: as in `llr`.
        """
        slope, offset = self._line(speech, network)
        return (llr - offset) / slope

    def llrs(self, scores: np.ndarray, speech: np.ndarray, network: str | None) -> np.ndarray:
        """Compute the log-likelihood ratios of many scores, as `llr` does.

        Args:
            scores: (trials,).
            speech: (trials,), seconds of speech of the shorter sides.
            network: what found the speech.

        Returns:
            (trials,).
        """
        if self.duration is None or network != self.network:
            return np.clip(self.score[0] * scores + self.score[1], *self.bounds)
        a, b, c, e = self.duration
        logs = np.log(np.clip(speech, max(LEAST_SECONDS, self.speech[0]), self.speech[1]))
        return np.clip((a + e * logs) * scores + b + c * logs, *self.bounds)

    def _line(self, speech: float | None, network: str | None) -> tuple[float, float]:
        """Return slope and offset of the line over the score, for this much speech."""
        if self.duration is None or speech is None or network != self.network:
            return self.score
        a, b, c, e = self.duration
        log_speech = math.log(min(max(speech, LEAST_SECONDS, self.speech[0]), self.speech[1]))
        return a + e * log_speech, b + c * log_speech

    def rates_at(self, llr: float) -> Rates:
        """Interpolate the error rates at a threshold from the curve.

        Args:
            llr: the threshold.
        """
        low, high = self.bounds
        if llr > high:  # no ratio reaches it
            return Rates(*[0.0] * 3, *[1.0] * 3)
        if llr <= low:
            return Rates(*[1.0] * 3, *[0.0] * 3)
        return Rates(*(float(np.interp(llr, self.curve["llr"], self.curve[name])) for name in Rates._fields))

    def target_quantile(self, share: float) -> float:
        """Return the log-likelihood ratio below which a share of the same-speaker trials lies.

        Args:
            share: in (0, 1).
        """
        return float(np.interp(share, self.curve["false_rejects"], self.curve["llr"]))

    def check(self) -> None:
        """Check every field, because a value outside of its range must not decide.

        Raises:
            ValueError: naming the first field with a wrong type or a number that is not finite or out of its range.
        """
        _check(self.schema == SCHEMA, "schema", self.schema, f"{SCHEMA}")
        digits = isinstance(self.fingerprint, str) and bool(re.fullmatch(r"[0-9a-f]{64}", self.fingerprint))
        _check(digits, "fingerprint", self.fingerprint, "64 hexadecimal digits")
        _check(_are_numbers(self.score, 2) and self.score[0] > 0, "score", self.score, "a positive slope, an offset")
        _check(_are_numbers(self.speech, 2, 0), "speech", self.speech, "two lengths in seconds")
        if self.duration is not None:
            _check(_are_numbers(self.duration, 4), "duration", self.duration, "four numbers, or null")
            slopes = [self._line(seconds, self.network)[0] for seconds in self.speech]
            _check(min(slopes) > 0, "duration", self.duration, "a slope above 0 at each length of speech")
        low_to_high = _are_numbers(self.bounds, 2) and self.bounds[0] < 0 < self.bounds[1]
        _check(low_to_high, "bounds", self.bounds, "a number below 0 and one above")
        for name in ("trials", "target_trials", "speakers"):
            value = getattr(self, name)
            is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            _check(is_count, name, value, "a whole number")
        _check(0 < self.prior < 1, "prior", self.prior, "a probability")
        for name in ("cllr", "min_cllr"):
            _check(_are_numbers([getattr(self, name)], 1, 0), name, getattr(self, name), "a number from 0 on")
        for name, point in self.operating_points.items():
            fits = point is None or _are_numbers([point.llr, point.low, point.high], 3)
            _check(fits, f"operating_points.{name}", point, "three numbers, or null")
        lengths = {len(self.curve.get(name, ())) for name in ("llr", *Rates._fields)}
        _check(len(lengths) == 1 and min(lengths) > 1, "curve", sorted(self.curve), "lists of one length")
        for name in ("llr", *Rates._fields):
            values = self.curve[name]
            fits = _are_numbers(values, len(values)) and (name == "llr" or 0 <= min(values) <= max(values) <= 1)
            _check(fits, f"curve.{name}", "a list", "finite numbers, and rates from 0 to 1")
        _check(self.curve["llr"] == sorted(self.curve["llr"]), "curve.llr", "a list", "rising numbers")

    def save(self, folder: str | Path) -> None:
        """Write `calibration.json` into a folder, whole or not at all; the one before stays beside it.

        Args:
            folder: it is made when it does not exist.
        """
        path = Path(folder, CALIBRATION_NAME)
        if path.is_file() and _is_whole(path):
            with whole_file(path.with_name(PREVIOUS_NAME)) as copy:
                shutil.copyfile(path, copy)
        with whole_file(path) as file:
            file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a file; fields of later versions of this schema are left out.

        Raises:
            ValueError: for a file without a calibration, or with values that `check` refuses.
        """
        stored = read_json(path)
        known = {field.name for field in fields(cls)}
        try:
            values = {name: value for name, value in stored.items() if name in known}
            values |= {name: tuple(values[name]) for name in TUPLES if values.get(name) is not None}
            values["operating_points"] = {
                name: None if point is None else OperatingPoint(**point)
                for name, point in values["operating_points"].items()
            }
            calibration = cls(**values)
            calibration.check()
            return calibration
        except (TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ValueError(f"'{path}' does not hold a calibration ({error}): calibrate again.") from None
        except ValueError as error:
            raise ValueError(f"'{path}' does not hold a calibration ({error}): calibrate again.") from None


def restore_calibration(folder: str | Path) -> Calibration:
    """Put the calibration before the last one back; a second call undoes the first.

    Args:
        folder: the folder that holds both.

    Returns:
        The calibration that is in use now.

    Raises:
        FileNotFoundError: where no earlier one is kept.
        ValueError: where the earlier one is damaged or of other weights.
    """
    current, previous = Path(folder, CALIBRATION_NAME), Path(folder, PREVIOUS_NAME)
    aside = Path(folder, RESTORING_NAME)  # holds the current one until both have changed places
    if aside.is_file():  # a process was killed between the two halves of an exchange
        os.replace(aside, previous)
    if not previous.is_file():
        raise FileNotFoundError(f"'{folder}' keeps no earlier calibration: there is nothing to put back.")
    calibration = Calibration.load(previous)
    if current.is_file() and _is_whole(current) and Calibration.load(current).fingerprint != calibration.fingerprint:
        raise ValueError(f"The earlier calibration in '{folder}' is of other weights: it cannot be put back.")
    if current.is_file():
        with whole_file(aside) as copy:
            shutil.copyfile(current, copy)
    with whole_file(current) as copy:
        shutil.copyfile(previous, copy)
    if aside.is_file():
        os.replace(aside, previous)
    return calibration


def _is_whole(path: Path) -> bool:
    try:
        Calibration.load(path)
    except ValueError:
        return False
    return True


def _check(fits: bool, name: str, value: object, wanted: str) -> None:
    if not fits:
        raise ValueError(f"{name} is {str(value)[:60]}: {wanted} is needed")


def _are_numbers(values: object, count: int, least: float = -math.inf) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == count
        and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least
            for value in values
        )
    )
