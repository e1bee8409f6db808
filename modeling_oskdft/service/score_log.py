"""Keep a line for each decision, for `oskdft monitor`: scores and ratios, no names, no audio, no addresses."""

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..scoring.calibration import Calibration
from ..verification.decision import VerificationResult


class Decision(NamedTuple):
    """Hold what the log keeps of a decision.

    Attributes:
        time: moment in UTC.
        fingerprint: fingerprint of the weights.
        score: cosine.
        llr: log-likelihood ratio; None without calibration.
        same_speaker: the answer; None: none.
        threshold: score from which on the answer is "the same"; None: none.
        speech: seconds of speech in the shorter side.
        warnings: number of warnings.
        operating_point: name of the threshold; "client" for one that the client gave.
        calibration: as `calibration_id` returns it; None without calibration.
    """

    time: str
    fingerprint: str
    score: float
    llr: float | None
    same_speaker: bool | None
    threshold: float | None
    speech: float
    warnings: int
    operating_point: str = "eer"
    calibration: str | None = None


def calibration_id(calibration: Calibration | None) -> str | None:
    """Return a short digest of what a calibration computes: decisions of two calibrations are not compared.

    Args:
        calibration: of the model; None: it has none.
    """
    if calibration is None:
        return None
    points = {name: None if point is None else point.llr for name, point in calibration.operating_points.items()}
    line = [calibration.score, calibration.duration, calibration.speech, calibration.bounds, calibration.cohort]
    return hashlib.sha256(json.dumps([line, sorted(points.items())]).encode()).hexdigest()[:12]


def decision_of(
    result: VerificationResult,
    fingerprint: str,
    speech: float,
    operating_point: str = "eer",
    calibration: str | None = None,
) -> Decision:
    """Describe a decision for the log.

    Args:
        result: the answer.
        fingerprint: fingerprint of the weights.
        speech: seconds of speech in the shorter side.
        operating_point: as in `Decision`.
        calibration: as in `Decision`.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    score, llr = round(result.score, 5), None if result.llr is None else round(result.llr, 4)
    threshold = None if result.threshold is None else round(result.threshold, 5)
    facts = (result.same_speaker, threshold, round(speech, 2), len(result.warnings), operating_point, calibration)
    return Decision(now, fingerprint, score, llr, *facts)


class ScoreLog:
    """Append decisions to a file, a line of JSON each; several processes may write to one file.

    Args:
        path: the file; None: nothing is kept.

    Raises:
        OSError: for a file that cannot be written.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = None
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")  # the last line was cut off by a crash

    def add(self, decision: Decision) -> None:
        """Append a decision: one write, so that lines of several processes do not mix.

        A full disk costs the line and not the answer.
        """
        if self._file is None:
            return
        with self._lock:
            try:
                os.write(self._file, json.dumps(decision._asdict()).encode() + b"\n")
            except OSError:
                return


def read_decisions(path: str | Path) -> Iterator[Decision]:
    """Read the decisions of a log, in their order; a line that was cut off by a crash is left out.

    Args:
        path: the file.

    Raises:
        OSError: for a file that cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            decision = _decision_in(line)
            if decision is not None:
                yield decision


def _decision_in(line: str) -> Decision | None:
    try:
        fields: dict[str, Any] = json.loads(line)
        decision = Decision(**fields)
        numbers = [decision.score, decision.warnings, *([] if decision.threshold is None else [decision.threshold])]
        return decision if all(math.isfinite(number) for number in numbers) else None
    except (ValueError, TypeError):
        return None
