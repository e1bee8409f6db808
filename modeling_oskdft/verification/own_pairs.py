"""Calibrate a verifier on pairs of the user's own recordings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.trials import Trials, check_two_recordings, components_of, label_of
from ..scoring.calibration import Calibration, Rates
from ..scoring.calibration_fitting import fit_calibration, needed_trials
from ..scoring.likelihood_ratios import cllr
from ..scoring.normalization import Cohort
from ..scoring.thresholds import FALSE_ACCEPTS
from .hearing import Heard

Pair = tuple[object, str, str]  # label, enrolment, test
LEAST_PAIRS, MOST_PAIRS = 20, 20_000


@dataclass(frozen=True)
class CalibrationChange:
    """Describe what a calibration on own pairs has changed.

    Attributes:
        calibration: the new calibration.
        operating_point: name of the operating point that the sentences are about.
        before: error rates on the pairs of the decisions until now; None where the model gave no decision.
        after: error rates of the new decisions, as the pairs show them, with 95 % intervals.
        cllr_before: Cllr of the calibration before on the pairs; None without one.
        missing: names of operating points that the pairs are too few for, and how many different-speaker pairs more
            are needed.
        warnings: sentences about flaws of the recordings.
    """

    calibration: Calibration
    operating_point: str
    before: tuple[float, float] | None
    after: Rates
    cllr_before: float | None
    missing: dict[str, int]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """Say what has changed and how sure it is."""
        new, rates = self.calibration, self.after
        lines = []
        if self.before is not None:
            accepts, rejects = (100 * rate for rate in self.before)
            lines.append(
                f"Before: of 100 different speakers {accepts:.0f} were accepted, of 100 same speakers {rejects:.0f} "
                "rejected."
            )
        lines.append(
            f"Now, at {self.operating_point}: of 100 different speakers {_of_100(rates[1:3])} would be accepted, of "
            f"100 same speakers {_of_100(rates[4:6])} rejected (95 %)."
        )
        was = "" if self.cllr_before is None else f"{self.cllr_before:.3f}, now "
        lines.append(f"Cllr {was}{new.cllr:.3f} (0 is perfect, 1 says nothing).")
        lines += [
            f"{name} cannot be set: {missing:,} different-speaker pairs more are needed."
            for name, missing in self.missing.items()
        ]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has."""
        points = {
            name: None if point is None else point.llr for name, point in self.calibration.operating_points.items()
        }
        return {
            "operating_point": self.operating_point,
            "operating_points": points,
            "before": self.before,
            "after": self.after._asdict(),
            "cllr_before": self.cllr_before,
            "cllr": self.calibration.cllr,
            "pairs": self.calibration.trials,
            "speakers": self.calibration.speakers,
            "missing": self.missing,
            "warnings": list(self.warnings),
        }


def read_own_pairs(path: str | Path) -> list[Pair]:
    """Read pairs from a CSV file with the columns label, enrol and test.

    Args:
        path: CSV file, UTF-8; a first line with the names of the columns may stand there.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: naming the first line of another form.
    """
    import csv

    from ..files import read_text

    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no list of pairs at '{path}': give a CSV file with label, enrol, test.")
    text = read_text(path)
    delimiter = max(",;\t", key=(text.splitlines() or [""])[0].count)
    base = Path(path).parent
    pairs: list[Pair] = []
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"'{path}' is no CSV file ({error}): lines of label, enrol, test are needed.") from None
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells[:3]] == ["label", "enrol", "test"]):
            continue
        if len(cells) != 3 or not all(cells):
            raise ValueError(
                f"Line {number} of '{path}' is '{delimiter.join(row)[:80]}': label, enrol and test are needed."
            )
        first, second = (name if Path(name).is_file() else str(base / name) for name in cells[1:])
        pairs.append((cells[0], first, second))
    if not pairs:
        raise ValueError(f"'{path}' has no pairs: lines of label, enrol, test are needed.")
    return pairs


def trials_of_pairs(pairs: Iterable[Pair]) -> Trials:
    """Check pairs, and return them as trials.

    Args:
        pairs: label, enrolment and test of each.

    Raises:
        ValueError: for a label that is neither the same nor different, for a pair of a recording with itself, for
            labels that contradict each other, and for too few or too many pairs.
    """
    listed = list(pairs)
    if not LEAST_PAIRS <= len(listed) <= MOST_PAIRS:
        raise ValueError(f"{len(listed)} pairs were given: {LEAST_PAIRS} to {MOST_PAIRS:,} are needed, of both kinds.")
    labels = [label_of(label, number) for number, (label, _, _) in enumerate(listed, 1)]
    names = [(str(first), str(second)) for _, first, second in listed]
    for number, (first, second) in enumerate(names, 1):
        check_two_recordings(first, second, number)
    return Trials(np.asarray(labels), [first for first, _ in names], [second for _, second in names])


def calibrate_on_pairs(
    trials: Trials,
    heard: Heard,
    fingerprint: str,
    operating_point: str,
    decided_before: Sequence[tuple[float | None, bool | None]],
    cohort: Cohort | None = None,
    data: str = "pairs of the user",
    before: Calibration | None = None,
) -> CalibrationChange:
    """Fit a calibration on trials of the user.

    Args:
        trials: the trials.
        heard: the recordings.
        fingerprint: fingerprint of the model's weights.
        operating_point: operating point that must be supported.
        decided_before: log-likelihood ratio and decision of each trial until now.
        cohort: with which the scores are normalised; None: they are not.
        data: description of the pairs.
        before: the calibration until now, of the same weights; few pairs move it a little, many replace it.

    Raises:
        ValueError: for an operating point that the pairs cannot support, and as `fit_calibration` does.
    """
    pairs = list(zip(trials.enrolments, trials.tests, strict=True))
    scores = heard.cosines(trials)
    if cohort is not None:
        scores = cohort.normalise(scores, trials, heard.embeddings)
    speech = heard.shorter_speech(trials)
    different = int(np.sum(trials.labels == 0))
    missing = {name: needed_trials(name) - different for name in FALSE_ACCEPTS if needed_trials(name) > different}
    if operating_point in missing:
        raise ValueError(
            f"{operating_point} needs {needed_trials(operating_point):,} different-speaker pairs and there are "
            f"{different:,}: give {missing[operating_point]:,} more, or choose another operating point."
        )
    speaker_of = components_of(trials)
    of_trials = [(speaker_of[first], speaker_of[second]) for first, second in pairs]
    digest = None if cohort is None else cohort.digest
    calibration = fit_calibration(
        scores, trials.labels, of_trials, fingerprint, data, speech, heard.network, cohort=digest
    )
    point = calibration.operating_points.get(operating_point)
    wanted = 0.0 if point is None else point.llr
    llrs, decisions = zip(*decided_before, strict=True)
    cllr_before = None if None in llrs else cllr(np.asarray(llrs, np.float64), trials.labels)
    rates = None
    if None not in decisions:
        same = np.asarray(decisions)
        rates = (float(same[trials.labels == 0].mean()), float((~same)[trials.labels == 1].mean()))
    return CalibrationChange(
        calibration, operating_point, rates, calibration.rates_at(wanted), cllr_before, missing, heard.warnings
    )


def _of_100(ends: Sequence[float]) -> str:
    low, high = (100 * end for end in ends)
    if round(low) == round(high):
        return f"{round(low)}"
    return f"{round(low)} to {round(high)}"
