"""Loader workers that a signal to a whole job does not take away from the process that still needs them."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import connection
from types import FrameType
from typing import TypeVar

import torch
from torch.utils.data import DataLoader

FORKS, SECONDS_TO_START = 4, 15.0
_Loader = TypeVar("_Loader", bound="DataLoader[object]")


class WorkersThatStay:
    """SIGTERM leaves workers alone until `release`, from where on it ends them, as multiprocessing expects at exit.

    Ctrl-C never reaches them. Schedulers send SIGTERM to every process of a job; torch's own handler ends a worker at
    once, and with it the step that was to be the last before a checkpoint. A forked worker is safe from its first
    instruction on; one that is started in another way, only when it has begun.
    """

    def __init__(self) -> None:
        self._released = torch.zeros((), dtype=torch.bool).share_memory_()

    def hold(self) -> None:
        """From here on workers stay."""
        self._released.fill_(False)

    def release(self) -> None:
        """From here on SIGTERM ends them."""
        self._released.fill_(True)

    def serve(self, loader: _Loader) -> _Loader:
        """The same loader, whose workers are of this kind; its own `worker_init_fn` is called as before."""
        loader.worker_init_fn = partial(_begin, self._released, loader.worker_init_fn)
        forks = multiprocessing.get_context().get_start_method() == "fork"
        if sys.platform != "win32" and forks and loader.num_workers and loader.multiprocessing_context is None:
            loader.multiprocessing_context = _ForkWithoutSigterm()
        return loader


if sys.platform != "win32":

    class _DeafFromStart(multiprocessing.context.ForkProcess):
        """Inherits a mask with SIGTERM blocked: torch sets its handler first, ours comes some milliseconds later.

        A child that does not run at once is forked anew. Until Python 3.12 a fork can catch another thread, such as
        one of gloo's, while it holds the interpreter's list of threads, which the child then waits for without end.
        """

        _word = -1  # the end of the pipe that the child speaks into

        def start(self) -> None:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            try:
                for _ in range(FORKS):
                    if self._starts():
                        return
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        def _starts(self) -> bool:
            """Fork, and wait for the child's first word."""
            heard, self._word = os.pipe()
            kept = {name: getattr(self, name) for name in ("_target", "_args", "_kwargs")}
            super().start()  # which forgets them
            os.close(self._word)
            self._word = -1
            answered = connection.wait([heard], SECONDS_TO_START)
            os.close(heard)
            if not answered:
                self.kill()
                self.join()
                self._popen = None  # what `start` looks at
                vars(self).update(kept)
            return bool(answered)

        def run(self) -> None:
            if self._word >= 0:
                os.write(self._word, b".")
                os.close(self._word)
            super().run()

    class _ForkWithoutSigterm(multiprocessing.context.ForkContext):
        Process = _DeafFromStart


def _begin(released: torch.Tensor, then: Callable[[int], None] | None, worker: int) -> None:
    def receive(number: int, frame: FrameType | None) -> None:
        if bool(released):
            os._exit(0)

    signal.signal(signal.SIGTERM, receive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the trainer decides
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    if then is not None:
        then(worker)
