import os
import threading

import pytest

from modeling_oskdft.data.parallel import AHEAD, CHUNK, in_processes, in_threads


def square(number):
    return number * number


def pid(_):
    return os.getpid()


def fail_at_500(number):
    if number == 500:
        raise ValueError("500 is bad")
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order(workers):
    assert list(in_processes(square, range(1234), workers)) == [n * n for n in range(1234)]
    assert list(in_threads(square, range(123), workers)) == [n * n for n in range(123)]
    assert list(in_processes(square, [], workers)) == []


def test_processes_are_other_processes():
    assert os.getpid() not in set(in_processes(pid, range(300), 2))


def test_no_more_is_taken_than_a_few_chunks_ahead():
    taken = []

    def items():
        for number in range(100_000):
            taken.append(number)
            yield number

    results = in_processes(square, items(), 2)
    for _ in range(10):
        next(results)
    assert len(taken) <= 2 * AHEAD * CHUNK
    results.close()


def test_an_error_comes_through_and_ends_the_work():
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="500 is bad"):
        list(in_processes(fail_at_500, range(100_000), 2))
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), thread
