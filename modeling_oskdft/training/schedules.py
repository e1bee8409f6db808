"""Learning rates and the distillation weight as functions of time.

Time is counted in epochs from 1, as the authors count: `epoch` is the time at the end of the current unit, and `unit`
is how long that unit lasts, 1 where a value holds for an epoch (faithful to the authors) or 1 / steps_per_epoch where
it changes every step. Values at whole epochs are those of the authors' code: see tests/test_reference.py.
"""

import math
from collections.abc import Callable
from typing import NamedTuple


def cosine(epoch: float, num_epochs: float, start: float, end: float, unit: float = 1.0) -> float:
    """From `start` at the beginning of the first unit along a half cosine to `end` at the end of the last."""
    progress = min((epoch - unit) / num_epochs, 1.0)
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))


def warmup_then_decay(
    epoch: float, head_rate: Callable[[float], float], warmup_epochs: float = 10.0, decay: float = 0.93
) -> float:
    """The shared layers' rate: up to the head's over the warm-up, then `decay` per epoch (paper's code: 10, 0.93).

    head_rate: the head's rate as a function of the epoch. The last warm epoch is `warmup_epochs - 1`, at that fraction
    of the head's rate; without a warm-up the decay starts at the head's first rate.
    """
    if warmup_epochs <= 1:
        return head_rate(0.0) * decay**epoch
    last = warmup_epochs - 1.0
    if epoch <= last:
        return head_rate(epoch) * epoch / warmup_epochs
    return head_rate(last) * last / warmup_epochs * decay ** (epoch - last)


def linear_to_zero(epoch: float, num_epochs: float) -> float:
    """(E - epoch) / E: the paper's weight of the distillation loss, exactly 0 at the end."""
    return max((num_epochs - epoch) / num_epochs, 0.0)


def cosine_to_zero(epoch: float, num_epochs: float) -> float:
    """A half cosine from 1 to exactly 0 at the end."""
    return cosine(epoch, num_epochs, 1.0, 0.0, unit=0.0)


def constant(epoch: float, num_epochs: float) -> float:
    """1: the authors' repository recipes."""
    return 1.0


KD_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": constant,
    "linear": linear_to_zero,
    "cosine": cosine_to_zero,
}


class Clock(NamedTuple):
    """Turns finished optimiser steps into the time that the schedules read.

    unit: "step" for a value of its own each step, "epoch" for one that holds for a whole epoch.
    """

    steps_per_epoch: int
    num_epochs: float
    unit: str = "step"

    @property
    def length(self) -> float:
        """Epochs in a unit."""
        return 1.0 if self.unit == "epoch" else 1.0 / self.steps_per_epoch

    def epoch(self, finished_steps: int) -> float:
        """The time at the end of the unit in which the next step falls."""
        if self.unit == "epoch":
            return float(finished_steps // self.steps_per_epoch + 1)
        return (finished_steps + 1) / self.steps_per_epoch
