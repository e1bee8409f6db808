"""Keep a line for each decision, for `oskdft monitor`: scores and ratios, no names, no audio, no addresses."""

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import printable
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
    """

    time: str
    fingerprint: str
    score: float
    llr: float | None
    same_speaker: bool | None
    threshold: float | None
    speech: float
    warnings: int


def decision_of(result: VerificationResult, fingerprint: str, speech: float) -> Decision:
    """Describe a decision for the log.

    Args:
        result: the answer.
        fingerprint: fingerprint of the weights.
        speech: seconds of speech in the shorter side.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    score, llr = round(result.score, 5), None if result.llr is None else round(result.llr, 4)
    threshold = None if result.threshold is None else round(result.threshold, 5)
    return Decision(
        now, fingerprint, score, llr, result.same_speaker, threshold, round(speech, 2), len(result.warnings)
    )


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
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

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
        ValueError: for a file without any decision.
    """
    found = False
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            decision = _decision_in(line)
            if decision is not None:
                found = True
                yield decision
    if not found:
        raise ValueError(f"'{printable(str(path))}' has no decision: give a log that `oskdft serve --scores` wrote.")


def _decision_in(line: str) -> Decision | None:
    try:
        fields: dict[str, Any] = json.loads(line)
        return Decision(**fields)
    except (ValueError, TypeError):
        return None
