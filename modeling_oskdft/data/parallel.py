"""Work on many files at once, results in order, never more in flight than a few a worker."""

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
CHUNK = 100
AHEAD = 4


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`function` of every item, in order, by threads: for work that waits on other programs."""
    with ThreadPoolExecutor(workers) as executor:
        yield from _ordered(executor, function, items, AHEAD * workers)


def in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`function` of every item, in order, by processes; in this one for one worker.

    Each worker gets the function once, whatever it carries with it. Raises `OSError` when a worker dies.
    """
    if workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, initializer=_keep, initargs=(function,)) as executor:
        source = iter(items)
        chunks = iter(lambda: list(islice(source, CHUNK)), [])
        try:
            for results in _ordered(executor, _of_chunk, chunks, AHEAD * workers):
                yield from results
        except BrokenProcessPool:
            raise OSError(
                "A worker died, killed by the system or by a file that its reader could not stand: run again with "
                "--workers 1 to see where."
            ) from None


_function: Callable[[Any], Any]


def _keep(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides


def end_with_parent(number: int) -> None:
    """Ask the system to send this process a signal when its parent ends, however that ends. Linux alone does."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def _of_chunk(chunk: list[Any]) -> list[Any]:
    return [_function(item) for item in chunk]


def _ordered(executor: Executor, function: Callable[[Any], Any], items: Iterable[Any], limit: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # an error or an interruption: what has not begun never does
        for future in waiting:
            future.cancel()
