"""Find the place of this process in a launch, and end the process group on every way out."""

import contextlib
import gc
import os
import time
import traceback
from collections.abc import Iterator

import torch
from torch import distributed

SECONDS_TO_DROP_TENSORS = 0.1  # for gloo's thread, which needs the interpreter's lock for that


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
    process with SIGABRT, after everything was done. A DDP module that outlives the group ends it at the interpreter's
    end: its destructor waits for gloo's thread, which waits for the interpreter's lock, for ever. So the frames of an
    error, which hold that module, are cleared first.
    """
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        end_process_group()


def end_process_group() -> None:
    """End the process group where there is one. No other process is waited for: it may have ended."""
    if in_a_group():
        gc.collect()  # a trainer refers to itself: only the collector frees its DDP module
        time.sleep(SECONDS_TO_DROP_TENSORS)
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()
