"""Keep the workers of a data loader alive when a signal goes to every process of a job."""

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

FORKS = 4  # attempts to fork a worker that starts in time; after them, the worker is not waited for
SECONDS_TO_START = 15.0
_Loader = TypeVar("_Loader", bound="DataLoader[object]")


class WorkersThatStay:
    """Make workers ignore SIGTERM until `release`; after it, SIGTERM ends them, as multiprocessing expects at exit.

    They always ignore Ctrl-C. Schedulers send SIGTERM to every process of a job; torch's own handler ends a worker at
    once, and with it the last step before a checkpoint. A forked worker is safe from its first instruction on; a
    worker that is started in another way, only from the call of its `worker_init_fn` on.
    """

    def __init__(self) -> None:
        self._released = torch.zeros((), dtype=torch.bool).share_memory_()

    def keep(self) -> None:
        """Make workers ignore SIGTERM again."""
        self._released.fill_(False)

    def release(self) -> None:
        """Let SIGTERM end the workers from now on."""
        self._released.fill_(True)

    def protect(self, loader: _Loader) -> _Loader:
        """Protect the workers of a loader; its own `worker_init_fn` is called as before.

        Args:
            loader: data loader, which is changed.

        Returns:
            The same loader.
        """
        loader.worker_init_fn = partial(_begin, self._released, loader.worker_init_fn)
        forks = multiprocessing.get_context().get_start_method() == "fork"
        if sys.platform != "win32" and forks and loader.num_workers and loader.multiprocessing_context is None:
            loader.multiprocessing_context = _ForkWithoutSigterm()
        return loader


if sys.platform != "win32":

    class _BlockedFromStart(multiprocessing.context.ForkProcess):
        """Start with SIGTERM blocked: torch sets its handler first, ours is set some milliseconds later.

        A child that does not run at once is forked again. Until Python 3.12 a fork can happen while another thread,
        such as one of gloo's, holds the interpreter's list of threads; the child then waits for that list without end.
        """

        _pipe_end = -1  # the child writes to it when it runs

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
            """Fork, and wait until the child writes to the pipe; return whether it did in time."""
            own_end, self._pipe_end = os.pipe()
            task = {name: getattr(self, name) for name in ("_target", "_args", "_kwargs")}
            super().start()  # deletes these attributes
            os.close(self._pipe_end)
            self._pipe_end = -1
            is_running = connection.wait([own_end], SECONDS_TO_START)
            os.close(own_end)
            if not is_running:
                self.kill()
                self.join()
                self._popen = None  # `start` refuses a process that has one
                vars(self).update(task)
            return bool(is_running)

        def run(self) -> None:
            if self._pipe_end >= 0:
                os.write(self._pipe_end, b".")
                os.close(self._pipe_end)
            super().run()

    class _ForkWithoutSigterm(multiprocessing.context.ForkContext):
        Process = _BlockedFromStart


def _begin(released: torch.Tensor, init_fn: Callable[[int], None] | None, worker: int) -> None:
    """Set the signal handlers of a worker, then call the loader's own `worker_init_fn`."""

    def receive(number: int, frame: FrameType | None) -> None:
        if bool(released):
            os._exit(0)

    signal.signal(signal.SIGTERM, receive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the trainer decides
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    if init_fn is not None:
        init_fn(worker)
