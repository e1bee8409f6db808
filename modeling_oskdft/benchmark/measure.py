"""Measure the peak memory of a process."""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def forget_peak_memory() -> None:
    """Set the peak memory of this process back to the memory that it holds now; on Linux."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """Return the most bytes that this process has held since `forget_peak_memory`; on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Let processes that are started inside return freed memory to the system.

    Without that, a process holds more than it needs, and its peak memory is not that of the model.
    """
    kept = {
        name: os.environ.pop(name) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_") if name in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(kept)


def in_new_processes(function: Callable[..., Result], calls: Mapping[str, tuple[Any, ...]]) -> dict[str, Result]:
    """Call a function several times, each time in a new process, so that one call's memory is not the next one's.

    Args:
        function: a function of a module, which the new process imports.
        calls: name of a call to its positional arguments.

    Returns:
        Name of a call to its result.
    """
    with memory_given_back(), multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {name: pool.apply(function, arguments) for name, arguments in calls.items()}
