"""How things are measured: on what, with which versions, how large, how fast."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def forget_peak_memory() -> None:
    """Of this process; on Linux."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """The most that this process has held since `forget_peak_memory`; on Linux."""
    line = next(
        line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Processes started in here return freed memory to the system, so that what they hold is what they need."""
    kept = {
        name: os.environ.pop(name) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_") if name in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(kept)
