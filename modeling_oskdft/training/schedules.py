"""Compute learning rates and the distillation weight as functions of time.

Time is counted in epochs from 1, as in the authors' code: `epoch` is the time at the end of the current unit, and
`unit` is the length of a unit in epochs: 1 for one value an epoch (the authors' way), 1 / steps_per_epoch for one
value a step. At whole epochs, the values are those of the authors' code: tests/test_reference.py.
"""

import math
from collections.abc import Callable
from typing import NamedTuple


def cosine(epoch: float, num_epochs: float, start: float, end: float, unit: float = 1.0) -> float:
    """Follow a half cosine from `start` at the beginning of the first unit to `end` at the end of the last one."""
    progress = min((epoch - unit) / num_epochs, 1.0)
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))


def warmup_then_decay(
    epoch: float, head_rate: Callable[[float], float], warmup_epochs: float = 10.0, decay: float = 0.93
) -> float:
    """Raise the shared layers' rate to the head's during the warm-up, then let it decay.

    The last epoch of the warm-up is `warmup_epochs - 1`, at that share of the head's rate. Without a warm-up, the
    decay starts at the head's first rate.

    Args:
        epoch: time in the run.
        head_rate: the head's rate as a function of the epoch.
        warmup_epochs: length of the warm-up; the paper's code has 10.
        decay: factor an epoch after the warm-up; the paper's code has 0.93.
    """
    if warmup_epochs <= 1:
        return head_rate(0.0) * decay**epoch
    last = warmup_epochs - 1.0
    if epoch <= last:
        return head_rate(epoch) * epoch / warmup_epochs
    return head_rate(last) * last / warmup_epochs * decay ** (epoch - last)


def linear_to_zero(epoch: float, num_epochs: float) -> float:
    """Return (E - epoch) / E, the paper's weight of the distillation loss, exactly 0 at the end."""
    return max((num_epochs - epoch) / num_epochs, 0.0)


def cosine_to_zero(epoch: float, num_epochs: float) -> float:
    """Follow a half cosine from 1 to exactly 0 at the end."""
    return cosine(epoch, num_epochs, 1.0, 0.0, unit=0.0)


def constant(epoch: float, num_epochs: float) -> float:
    """Return 1, as the recipes of the authors' repository."""
    return 1.0


KD_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": constant,
    "linear": linear_to_zero,
    "cosine": cosine_to_zero,
}


class Clock(NamedTuple):
    """Turns finished optimiser steps into the time that the schedules read.

    Args:
        steps_per_epoch: optimiser steps of an epoch.
        num_epochs: length of the run.
        unit: "step" for a value of its own each step, "epoch" for one value a whole epoch.
    """

    steps_per_epoch: int
    num_epochs: float
    unit: str = "step"

    @property
    def length(self) -> float:
        """Length of a unit, in epochs."""
        return 1.0 if self.unit == "epoch" else 1.0 / self.steps_per_epoch

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return math.ceil(round(self.num_epochs * self.steps_per_epoch, 6))

    def epoch(self, finished_steps: int) -> float:
        """Return the time at the end of the unit in which the next step falls."""
        if self.unit == "epoch":
            return float(finished_steps // self.steps_per_epoch + 1)
        return (finished_steps + 1) / self.steps_per_epoch
