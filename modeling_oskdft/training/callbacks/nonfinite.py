"""Leave out optimiser steps that are not finite."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments


class NonFiniteGuard(TrainerCallback):
    """Skips an optimiser step with a gradient that is not finite, and restores the buffers of before.

    Parameters, Adam's moments and batch-norm statistics stay as they were; the schedules go on. All processes decide
    alike, because gradients are reduced before. The decision makes the host wait for the device once a step.

    Args:
        limit: skipped steps after which the run ends with a `ValueError`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy the buffers: a few vectors of the head's batch norms."""
        self._buffers = [] if model is None else [(buffer, buffer.clone()) for buffer in model.buffers()]

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Remove all gradients when one is not finite: an optimiser changes no parameter without a gradient."""
        parameters = [] if model is None else [each for each in model.parameters() if each.grad is not None]
        norm = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
        if bool(torch.isfinite(norm)):
            return
        for parameter in parameters:
            parameter.grad = None
        for buffer, before in self._buffers:
            buffer.copy_(before)
        self.skipped += 1
        warnings.warn(
            f"Step {state.global_step + 1} has a loss or gradient that is not finite and was skipped ({self.skipped} "
            f"so far; the run ends after {self.limit}).",
            stacklevel=2,
        )
        if self.skipped > self.limit:
            raise ValueError(
                f"{self.skipped} steps were not finite, {self.limit} are allowed: lower learning_rate or look at the "
                "data, and go on from the last checkpoint with --resume_from_checkpoint last."
            )
