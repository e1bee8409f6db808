"""Save a checkpoint and end the run on SIGTERM or Ctrl-C."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ...data.workers import WorkersThatStay


class SaveOnSignal(TrainerCallback):
    """Finishes the step, saves a checkpoint and ends the run on SIGTERM (sent by schedulers before a kill) or Ctrl-C.

    A second Ctrl-C ends the run at once. transformers' own `enable_jit_checkpoint` waits three seconds and may save
    between a forward pass and its optimiser step; a run that resumes from there draws other random numbers. This
    callback saves between two steps.
    """

    def __init__(self) -> None:
        self.signal: int = 0  # number of the received signal
        self.workers = WorkersThatStay()
        self._previous: dict[int, Any] = {}

    @property
    def received(self) -> bool:
        """Whether the run ends early."""
        return self.signal != 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Install the signal handlers."""
        self.signal = 0
        self.workers.keep()
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
        """Request a checkpoint and the end on every process, as soon as one process has received a signal."""
        self.agree(args)
        if self.received:
            control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Skip evaluation and saving at the end of a partial epoch, which must not become the best checkpoint."""
        if self.received and abs(state.epoch - round(state.epoch)) > 1e-6:
            control.should_evaluate = control.should_save = False

    def agree(self, args: TrainingArguments) -> None:
        """Share a signal that one process has received with all processes."""
        if args.world_size > 1:
            received = torch.tensor(self.signal, device=args.device)
            torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
            self.signal = int(received)

    def stop_listening(self) -> None:
        """Restore the previous signal handlers, and let SIGTERM end the loader's workers."""
        self.workers.release()
        for number, handler in self._previous.items():
            if handler is not None:  # a handler set in C before Python began cannot be restored
                signal.signal(number, handler)
        self._previous = {}
