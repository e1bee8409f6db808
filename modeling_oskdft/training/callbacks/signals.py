"""What keeps a long run alive: steps that are not finite are left out, and SIGTERM or Ctrl-C leaves a checkpoint."""

import os
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

from ...data.workers import WorkersThatStay


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


class SaveOnSignal(TrainerCallback):
    """SIGTERM, as schedulers send it before they kill, and Ctrl-C: finish the step, save a checkpoint, leave.

    A second Ctrl-C ends the run at once. transformers' own `enable_jit_checkpoint` waits three seconds and may save
    between a forward pass and its optimiser step, from where a resumed run draws other numbers; this one saves between
    steps.
    """

    def __init__(self) -> None:
        self.signal: int = 0  # the one that was received
        self.workers = WorkersThatStay()
        self._previous: dict[int, Any] = {}

    @property
    def received(self) -> bool:
        """Whether the run ends early."""
        return self.signal != 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Listen."""
        self.signal = 0
        self.workers.hold()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            os.write(2, b"oskdft: stopping after this step, with a checkpoint; Ctrl-C again stops at once.\n")
        self.signal = number

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint and the end, on every process as soon as one has heard the signal."""
        self.agree(args)
        if self.received:
            control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A partial epoch must not become the best checkpoint."""
        if self.received and abs(state.epoch - round(state.epoch)) > 1e-6:
            control.should_evaluate = control.should_save = False

    def agree(self, args: TrainingArguments) -> None:
        """Let every process know of a signal that one has heard."""
        if args.world_size > 1:
            heard = torch.tensor(self.signal, device=args.device)
            torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
            self.signal = int(heard)

    def stop_listening(self) -> None:
        """Give the signals back to whoever had them, and workers their end."""
        self.workers.release()
        for number, handler in self._previous.items():
            if handler is not None:  # one of C, set before Python began, cannot be given back
                signal.signal(number, handler)
        self._previous = {}
