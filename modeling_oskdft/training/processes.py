"""Find the place of this process in a launch, and end the process group on every way out."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import distributed


def is_a_launch() -> bool:
    """Whether `accelerate launch` or torchrun started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process() -> bool:
    """Whether this process writes files and messages for all."""
    return not in_a_group() or distributed.get_rank() == 0


def in_a_group() -> bool:
    """Whether a process group exists."""
    return distributed.is_available() and distributed.is_initialized()


def device_of_this_process() -> torch.device:
    """Return the device of this process; in a launch, this creates the process group."""
    if is_a_launch():
        from accelerate import Accelerator

        return Accelerator().device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def ended_process_group() -> Iterator[None]:
    """End the process group whichever way the block is left: by its end, an error, `SystemExit` or a signal's.

    gloo's worker threads hold tensors; a thread that drops the last one while the interpreter finalises ends the
    process with SIGABRT, after everything was done.
    """
    try:
        yield
    finally:
        end_process_group()


def end_process_group() -> None:
    """End the process group where there is one. No other process is waited for: it may have ended."""
    if in_a_group():
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()
