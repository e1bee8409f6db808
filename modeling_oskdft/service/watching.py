"""Hold the first and the last decisions of a service, and judge whether it still decides as it did."""

import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from ..scoring.thresholds import Thresholds
from ..verification.monitoring import LEAST, Scored, Verdict, judge
from .score_log import Decision, read_decisions

FIRST = LAST = 1000  # decisions


class Watcher:
    """Hold decisions of one model; several threads may add to them.

    Args:
        thresholds: of the model; None, or without quantiles: until there are first decisions, nothing is judged.
        fingerprint: fingerprint of the model; decisions of others are left out.
        calibration: as `calibration_id` returns it; decisions of others are left out, and the first ones begin anew.
        first: decisions that the last ones are compared with.
        last: decisions that are judged.
    """

    def __init__(
        self,
        thresholds: Thresholds | None,
        fingerprint: str,
        calibration: str | None = None,
        first: int = FIRST,
        last: int = LAST,
    ) -> None:
        has_quantiles = thresholds is not None and {"target", "non_target"} <= set(thresholds.quantiles)
        self.thresholds, self.most = thresholds if has_quantiles else None, first
        self.fingerprint, self.calibration = fingerprint, calibration
        self._first: list[Scored] = []
        self._last: deque[Scored] = deque(maxlen=last)
        self._after = 0  # decisions after the first ones
        self._lock = threading.Lock()

    def add(self, decision: Decision) -> None:
        """Add a decision.

        One of other weights or another calibration, at another operating point than "eer", or without a threshold, is
        left out: clients choose these, and their choice is no change of the scores.

        Args:
            decision: as the service made it.
        """
        if (decision.fingerprint, decision.calibration) != (self.fingerprint, self.calibration):
            return
        if decision.threshold is None or decision.operating_point != "eer":
            return
        scored = Scored(decision.score, decision.threshold, decision.warnings > 0)
        with self._lock:
            if len(self._first) < self.most:
                self._first.append(scored)
            else:
                self._after += 1
            self._last.append(scored)

    def add_all(self, decisions: Iterable[Decision]) -> None:
        """Add the decisions of a log, in their order."""
        for decision in decisions:
            self.add(decision)

    def verdict(self) -> tuple[Verdict | None, str]:
        """Judge the last decisions.

        Returns:
            The verdict, None where there is nothing to compare with; and what they were compared with, for people.
        """
        with self._lock:
            first, last, after = list(self._first), list(self._last), self._after
        if after >= LEAST and len(first) >= LEAST:
            return judge(last[-after:], first), f"the first {len(first):,} decisions"
        if self.thresholds is None:
            return None, "nothing: the model has no quantiles of its trials"
        return judge(last, self.thresholds), f"the trials of {self.thresholds.speakers} speakers"


def watcher_of(
    thresholds: Thresholds | None,
    fingerprint: str,
    calibration: str | None,
    log: str | Path | None,
    first: int = FIRST,
    last: int = LAST,
) -> Watcher:
    """Make a watcher that knows the decisions of a log.

    Args:
        thresholds: as in `Watcher`.
        fingerprint: as in `Watcher`.
        calibration: as in `Watcher`.
        log: file that `oskdft serve --scores` wrote; None, or no file yet: no decisions.
        first: as in `Watcher`.
        last: as in `Watcher`.

    Raises:
        OSError: for a log that cannot be read.
    """
    watcher = Watcher(thresholds, fingerprint, calibration, first, last)
    if log is not None and Path(log).is_file():
        watcher.add_all(read_decisions(log))
    return watcher
