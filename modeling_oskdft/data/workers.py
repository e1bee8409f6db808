"""Loader workers that a signal to a whole job does not take away from the process that still needs them."""

import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType

import torch


class WorkersThatStay:
    """SIGTERM leaves workers alone until `release`, from where on it ends them, as multiprocessing expects at exit.

    Schedulers send SIGTERM to every process of a job; torch's own handler ends a worker at once, and with it the step
    that was to be the last before a checkpoint.
    """

    def __init__(self) -> None:
        self._released = torch.zeros((), dtype=torch.bool).share_memory_()

    def hold(self) -> None:
        """From here on workers stay."""
        self._released.fill_(False)

    def release(self) -> None:
        """From here on SIGTERM ends them."""
        self._released.fill_(True)

    def initialiser(self, then: Callable[[int], None] | None = None) -> Callable[[int], None]:
        """A `worker_init_fn` for a loader. then: another one, called after it."""
        return partial(_initialise, self._released, then)


def _initialise(released: torch.Tensor, then: Callable[[int], None] | None, worker: int) -> None:
    def receive(number: int, frame: FrameType | None) -> None:
        if bool(released):
            os._exit(0)

    signal.signal(signal.SIGTERM, receive)
    if then is not None:
        then(worker)
