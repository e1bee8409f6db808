"""Thresholds: at which score two recordings are taken for one speaker, and what that was measured on."""

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..files import whole_file
from .metrics import equal_error_rate

THRESHOLDS_NAME = "thresholds.json"
# Operating points by name, and the share of different-speaker trials that they accept at most.
FALSE_ACCEPTS = {"far_1_percent": 0.01, "far_0.1_percent": 0.001}
OPERATING_POINTS = ("eer", *FALSE_ACCEPTS)
LEVELS = 1001  # quantiles kept of each kind of trial: enough to read rates of 0.1 % off them


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one model by operating point; None where there were too few trials to measure it.

    trials, target_trials, speakers, data: what they were measured on. fingerprint: of the model's weights, see
    `companions_oskdft`. quantiles: of the scores of "target" and "non_target" trials, evenly spaced from the lowest
    to the highest: what error rates at any other threshold are read from.
    """

    values: dict[str, float | None]
    trials: int
    target_trials: int
    speakers: int
    data: str
    fingerprint: str
    quantiles: dict[str, list[float]] = field(default_factory=dict)

    def false_accept_rate(self, threshold: float) -> float:
        """Share of different-speaker trials that score at or above `threshold`, between the stored quantiles."""
        return 1.0 - self._share_below(threshold, "non_target")

    def false_reject_rate(self, threshold: float) -> float:
        """Share of same-speaker trials that score below `threshold`, between the stored quantiles."""
        return self._share_below(threshold, "target")

    def _share_below(self, threshold: float, kind: str) -> float:
        scores = np.asarray(self.quantiles[kind])
        # The first of equal quantiles: what scores the threshold itself is not below it.
        after = int(np.searchsorted(scores, threshold, side="left"))
        if after in (0, len(scores)):
            return 0.0 if after == 0 else 1.0
        part = (threshold - scores[after - 1]) / (scores[after] - scores[after - 1])
        return float((after - 1 + part) / (len(scores) - 1))

    def save(self, folder: str | Path) -> None:
        """Write `thresholds.json`, whole or not at all."""
        with whole_file(Path(folder, THRESHOLDS_NAME)) as file:
            file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Thresholds":
        """Read the file. Raises `ValueError` when it is not one."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            needed = {one.name for one in fields(cls) if one.default_factory is MISSING}
            return cls(**{one.name: values[one.name] for one in fields(cls) if one.name in needed | set(values)})
        except (KeyError, TypeError, json.JSONDecodeError):
            raise ValueError(f"'{path}' does not hold thresholds: measure them again.") from None


def measure_thresholds(scores: ArrayLike, labels: ArrayLike, speakers: int, data: str, fingerprint: str) -> Thresholds:
    """Thresholds at the EER and at 1 % and 0.1 % false accepts.

    scores, labels (1 same speaker, 0 different): of trials whose speakers the model was not trained on. Raises
    `ValueError` as `equal_error_rate` does.
    """
    values, targets = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    points: dict[str, float | None] = {"eer": equal_error_rate(values, targets).threshold}
    others = np.sort(values[targets == 0])[::-1]
    for name, share in FALSE_ACCEPTS.items():
        accepted = int(share * len(others))
        # The lowest threshold that lets no more than `accepted` of them through; ten are needed to speak of a rate.
        points[name] = float(np.nextafter(others[accepted], np.inf)) if accepted >= 10 else None
    quantiles = {
        name: np.quantile(values[targets == label], np.linspace(0, 1, LEVELS)).round(4).tolist()
        for name, label in (("target", 1), ("non_target", 0))
    }
    return Thresholds(points, len(targets), int(targets.sum()), speakers, data, fingerprint, quantiles)
