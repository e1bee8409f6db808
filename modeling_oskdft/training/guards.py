"""What keeps a long run alive: steps that are not finite are left out, and SIGTERM leaves a checkpoint."""

import signal
import threading
import warnings
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ..data.workers import WorkersThatStay


class NonFiniteGuard(TrainerCallback):
    """Skips an optimiser step with a gradient that is not finite, and undoes what its forward pass did to the buffers.

    Parameters, Adam's moments and batch-norm statistics are as if the batch had not been there; the schedules go on.
    After `limit` skipped steps the run ends with a `ValueError`. All processes decide alike: gradients are reduced by
    then.
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
        """Remember the buffers: a few vectors of the head's batch norms."""
        self._buffers = [] if model is None else [(buffer, buffer.clone()) for buffer in model.buffers()]

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Take the gradients away where one is not finite: an optimiser leaves parameters without gradient alone."""
        parameters = [] if model is None else [p for p in model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
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


class SaveOnSigterm(TrainerCallback):
    """SIGTERM, as schedulers send it before they kill: finish the step, save a checkpoint, leave.

    transformers' own `enable_jit_checkpoint` waits three seconds and may save between a forward pass and its optimiser
    step, from where a resumed run draws other numbers; this one saves between steps.
    """

    def __init__(self) -> None:
        self.received = False
        self.workers = WorkersThatStay()
        self._previous: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Listen."""
        self.received = False
        self.workers.hold()
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint and the end, on every process as soon as one has heard the signal."""
        if args.world_size > 1:
            heard = torch.tensor(int(self.received), device=args.device)
            torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
            self.received = bool(heard)
        if self.received:
            control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """No validation in the middle of an epoch: it would cost time, and could select what no whole run selects."""
        if self.received and abs(state.epoch - round(state.epoch)) > 1e-6:
            control.should_evaluate = control.should_save = False

    def stop_listening(self) -> None:
        """Give the signal back to whoever had it, and workers their end."""
        self.workers.release()
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None
