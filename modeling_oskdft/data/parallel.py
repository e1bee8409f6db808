"""Process many files in parallel, with results in order and only a few waiting items a worker."""

import contextlib
import ctypes
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CHUNK = 100  # items that are sent to a process at once
AHEAD = 4  # items or chunks a worker that are started before their results are taken


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Apply a function to every item with threads: for work that waits for other programs.

    Args:
        function: called once an item.
        items: read only a little ahead of the results.
        workers: number of threads.

    Returns:
        An iterator of the results, in the order of the items.
    """
    with ThreadPoolExecutor(workers) as executor:
        yield from _ordered(executor, function, items, AHEAD * workers)


def in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Apply a function to every item with processes.

    Args:
        function: called once an item. Each worker receives it once, with the data that it is bound to.
        items: read only a little ahead of the results.
        workers: number of processes; 1: all work is done in this process.

    Returns:
        An iterator of the results, in the order of the items.

    Raises:
        OSError: when a worker dies.
    """
    if workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, initializer=_begin, initargs=(function,)) as executor:
        remaining = iter(items)
        chunks = iter(lambda: list(islice(remaining, CHUNK)), [])
        try:
            for results in _ordered(executor, _process_chunk, chunks, AHEAD * workers):
                yield from results
        except BrokenProcessPool:
            raise OSError(
                "A worker died, killed by the system or by a file that its reader could not stand: run again with "
                "--workers 1 to see where."
            ) from None


_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    """Start a worker: keep its function, end with the parent, and leave Ctrl-C to the parent."""
    global _function
    _function = function
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides


def end_with_parent(number: int) -> None:
    """Make the system send a signal to this process when its parent ends, for whatever reason; on Linux alone.

    Args:
        number: number of the signal.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def _process_chunk(chunk: list[Any]) -> list[Any]:
    return [_function(item) for item in chunk]


def _ordered(executor: Executor, function: Callable[[Any], Any], items: Iterable[Any], limit: int) -> Iterator[Any]:
    """Yield the results in the order of the items; at most `limit` items are started and not yet yielded."""
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after an error or an interruption, no further item is started
        for future in waiting:
            future.cancel()
