import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modeling_oskdft.service.engine import Engine, check_still_wanted
from modeling_oskdft.service.refusals import Refused


def run(coroutine):
    """In a thread of its own: a test with a browser leaves a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asyncio.wait_for(coroutine, 30)).result()


def test_a_full_queue_refuses_at_once_and_the_others_are_answered():
    engine, gate = Engine(workers=2, waiting=3, patience=20), threading.Event()

    async def load():
        tasks = [asyncio.create_task(engine.run(lambda n=n: gate.wait() and n, lambda _: None)) for n in range(5)]
        await asyncio.sleep(0.05)
        assert (engine.taken, engine.waiting) == (5, 3)
        with pytest.raises(Refused, match="5 requests are here already: ask again in") as refusal:
            await engine.run(lambda: 5, lambda _: None)
        assert refusal.value.status == 429 and int(refusal.value.headers["Retry-After"]) >= 1
        gate.set()
        answers = await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        return answers

    assert run(load()) == [0, 1, 2, 3, 4] and engine.taken == 0
    assert engine.close(10)


def test_work_that_takes_too_long_keeps_its_place_until_it_ends():
    engine, gate = Engine(workers=1, waiting=1, patience=0.2), threading.Event()

    async def load():
        waits = [asyncio.create_task(engine.run(gate.wait, lambda _: None)) for _ in range(2)]
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert [error.status for error in errors] == [503, 503]
        assert engine.taken == 1, "the one that waited is dropped, the other still runs"
        gate.set()
        while engine.taken:
            await asyncio.sleep(0.01)
        return await engine.run(lambda: "free", lambda _: None)

    assert run(load()) == "free"
    assert engine.close(10)


def test_the_loop_answers_while_threads_work():
    engine = Engine(workers=1, waiting=1, patience=20)

    async def load():
        gate = threading.Event()
        task = asyncio.create_task(engine.run(lambda: gate.wait(20), lambda _: None))
        for _ in range(50):
            await asyncio.sleep(0)  # the loop turns while the thread waits for this very loop
        gate.set()
        return await task

    assert run(load())
    assert engine.close(10)


def test_errors_of_the_work_are_raised_and_leaving_takes_no_more():
    engine = Engine(workers=1, waiting=1, patience=20)
    with pytest.raises(ZeroDivisionError):
        run(engine.run(lambda: 1 / 0, lambda _: None))
    engine.leave()
    with pytest.raises(Refused, match="leaving") as refusal:
        run(engine.run(lambda: 1, lambda _: None))
    assert refusal.value.status == 503
    assert engine.close(10)


def test_work_that_was_given_up_changes_nothing_any_more():
    engine, gate, changed = Engine(workers=1, waiting=1, patience=0.1), threading.Event(), []

    def work():
        gate.wait(20)
        check_still_wanted()
        changed.append(True)

    async def load():
        with pytest.raises(Refused, match="no answer within"):
            await engine.run(work, lambda _: None)
        gate.set()

    run(load())
    assert engine.close(10) and not changed
    check_still_wanted()  # outside of a request


def test_a_thread_that_does_not_end_is_not_waited_for():
    engine, gate = Engine(workers=1, waiting=1, patience=0.1), threading.Event()

    async def load():
        with pytest.raises(Refused):
            await engine.run(lambda: gate.wait(30), lambda _: None)

    run(load())
    begin = time.monotonic()
    assert not engine.close(0.2) and time.monotonic() - begin < 10
    gate.set()
