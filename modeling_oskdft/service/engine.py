"""Run the work of requests in threads, with a bounded queue before them."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

from .refusals import Refused

Result = TypeVar("Result")
_GIVEN_UP: ContextVar[threading.Event | None] = ContextVar("given_up", default=None)  # of the work of this thread


class Engine:
    """Run the work of requests: some at the same time, some waiting, and the others refused at once.

    Its methods are called from one event loop; the work runs in threads, so the loop always answers.

    Args:
        workers: requests that are worked on at the same time.
        waiting: requests that may wait for a worker.
        patience: seconds until a request is given up, its waiting included.
    """

    def __init__(self, workers: int, waiting: int, patience: float) -> None:
        self.workers, self.places, self.patience = workers, workers + waiting, patience
        self.taken = 0  # requests that wait or are worked on
        self.is_leaving = False
        self._pool = ThreadPoolExecutor(workers, "oskdft-work")
        self._seconds = 1.0  # of a piece of work, a mean over the last ones: how long a refused client should wait

    @property
    def waiting(self) -> int:
        """Return the number of requests that wait for a worker."""
        return max(self.taken - self.workers, 0)

    async def run(self, work: Callable[[], Result], started: Callable[[float], None]) -> Result:
        """Run a piece of work in a thread.

        Args:
            work: what is done.
            started: is called by the thread with the seconds that the work has waited.

        Returns:
            What the work returns; what it raises is raised here.

        Raises:
            Refused: with 429 where the queue is full, with 503 where the patience ends, or the service is leaving.
        """
        if self.is_leaving:
            raise Refused(503, "The service is leaving: ask another one.", "leaving", {"Retry-After": "5"})
        if self.taken >= self.places:
            pause = max(1, round(self._seconds * self.places / self.workers))
            raise Refused(
                429,
                f"{self.taken} requests are here already: ask again in {pause} s.",
                "busy",
                {"Retry-After": f"{pause}"},
            )
        self.taken += 1
        loop, arrival = asyncio.get_running_loop(), time.perf_counter()
        given_up = threading.Event()

        def timed() -> Result:
            begin = time.perf_counter()
            started(begin - arrival)
            _GIVEN_UP.set(given_up)
            try:
                return work()
            finally:
                self._seconds += 0.05 * (time.perf_counter() - begin - self._seconds)

        future = self._pool.submit(timed)

        def leave_place(_: object) -> None:
            """Free the place when the thread has ended, and not when its client has gone."""
            with contextlib.suppress(RuntimeError):  # at the end, the loop may be gone before the thread
                loop.call_soon_threadsafe(self._leave_place)

        future.add_done_callback(leave_place)
        return await self._in_time(future, given_up)

    async def _in_time(self, future: "Future[Result]", given_up: threading.Event) -> Result:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.patience)
        except TimeoutError:
            if future.done() and not future.cancelled() and isinstance(future.exception(), TimeoutError):
                raise  # the work itself has waited in vain, for a lock
            given_up.set()
            raise Refused(
                503,
                f"There was no answer within {self.patience:g} s: give less audio, or ask again later.",
                "late",
                {"Retry-After": f"{max(1, round(self._seconds))}"},
            ) from None

    def _leave_place(self) -> None:
        self.taken -= 1

    def leave(self) -> None:
        """Take no more work; what waits or runs is finished."""
        self.is_leaving = True

    def close(self, seconds: float) -> bool:
        """End the threads, after the work that they have.

        Args:
            seconds: that the work has.

        Returns:
            Whether all threads have ended.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + seconds
        for thread in list(getattr(self._pool, "_threads", ())):
            thread.join(max(end - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in getattr(self._pool, "_threads", ()))


def check_still_wanted() -> None:
    """Stop the work of a request that was given up: called before anything is changed for good.

    Raises:
        Refused: in a thread whose request was answered with 503 already.
    """
    given_up = _GIVEN_UP.get()
    if given_up is not None and given_up.is_set():
        raise Refused(503, "The request was given up before it was done.", "late")
