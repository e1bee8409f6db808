"""Report a run that stands still: a stopped process or a hanging disk holds all other processes without a message."""

import sys
import threading
import time
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

SECONDS = 60.0


class StallWatch(TrainerCallback):
    """Prints one line when no step of training has ended for `seconds`, and again after each doubling of the time.

    Evaluation and saving are not watched: they may take long. With several processes the process group's own time-out
    (`ddp_timeout`) ends the run.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._last = time.monotonic()
        self._step = 0
        self._watching = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the thread that watches; the first step has ten times as long, for compilation."""
        self._note(state, self.seconds * 9)
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, args=(args.ddp_timeout, args.world_size), daemon=True)
        self._thread.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the end of a step; stop watching when evaluation or saving comes next."""
        self._note(state)
        if control.should_evaluate or control.should_save:
            self._watching.clear()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Watch this step."""
        if not self._watching.is_set():  # after evaluation or saving; the longer time of the first step stays
            self._last = max(self._last, time.monotonic())
            self._watching.set()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop watching, because evaluation comes next."""
        self._watching.clear()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the end of an evaluation."""
        self._note(state)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    def pause(self) -> None:
        """Stop watching until a step begins."""
        self._watching.clear()

    def _note(self, state: TrainerState, grace: float = 0.0) -> None:
        self._step, self._last = state.global_step, time.monotonic() + grace

    def _watch(self, timeout: float, processes: int) -> None:
        patience = self.seconds
        while not self._ended.wait(min(self.seconds / 4, 5.0)):
            idle = time.monotonic() - self._last
            if not self._watching.is_set() or idle < self.seconds:
                patience = self.seconds
            elif idle >= patience:
                patience *= 2
                after = f"; without it the run ends {timeout} s after its last answer" if processes > 1 else ""
                print(
                    f"oskdft: no step has ended for {idle:.0f} s (step {self._step}): a process may be stopped, or a "
                    f"disk may hang{after}.",
                    file=sys.stderr,
                    flush=True,
                )
