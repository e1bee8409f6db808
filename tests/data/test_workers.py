import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader

from modeling_oskdft.data.workers import WorkersThatStay


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, row):
        time.sleep(0.02)
        return os.getpid()


def test_workers_stay_while_they_are_needed_and_go_when_they_are_not():
    workers = WorkersThatStay()
    loader = workers.protect(DataLoader(Slow(), 1, num_workers=2))
    batches = iter(loader)
    pids = {int(next(batches)) for _ in range(2)}
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert sum(1 for _ in batches) == 38  # none of them died
    batches = iter(loader)
    next(batches)
    children = [child for child in multiprocessing.active_children() if child.pid not in pids]
    workers.release()
    for child in children:  # as multiprocessing does at exit
        child.terminate()
    for child in children:
        child.join(5)
        assert child.exitcode == 0
    with pytest.raises(RuntimeError):
        list(batches)


def test_a_worker_stays_from_its_start_on(monkeypatch):
    """The signal comes after torch has set its own handler and before ours is there."""
    signals = torch.zeros(()).share_memory_()

    def terminate(threads):
        signals.add_(1)
        os.kill(os.getpid(), signal.SIGTERM)

    loader = WorkersThatStay().protect(DataLoader(Slow(), 1, num_workers=1))
    monkeypatch.setattr(torch, "set_num_threads", terminate)  # which torch's worker calls there
    assert sum(1 for _ in loader) == 40
    assert signals == 1


def test_the_process_itself_still_hears():
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        batches = iter(WorkersThatStay().protect(DataLoader(Slow(), 1, num_workers=1)))
        os.kill(os.getpid(), signal.SIGTERM)
        assert sum(1 for _ in batches) == 40
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [True]


def test_a_loader_without_workers_is_served_too():
    loader = WorkersThatStay().protect(DataLoader(Slow(), 1))
    assert {int(pid) for pid in loader} == {os.getpid()}


def test_what_the_loader_did_at_the_start_of_a_worker_is_still_done():
    called = []
    loader = DataLoader(Slow(), 1, num_workers=1, worker_init_fn=called.append)
    before = signal.getsignal(signal.SIGTERM)
    try:
        WorkersThatStay().protect(loader).worker_init_fn(3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == [3]


class HangsOnce(Slow):
    """The first of its workers never runs."""

    def __init__(self):
        self.forks = torch.zeros(()).share_memory_()


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="workers are not forked on this system")
def test_a_worker_that_does_not_run_is_forked_anew(monkeypatch):
    from modeling_oskdft.data import workers

    dataset, run = HangsOnce(), workers._BlockedFromStart.run

    def hang_once(process):
        dataset.forks.add_(1)
        if dataset.forks == 1:
            time.sleep(60)
        run(process)

    monkeypatch.setattr(workers, "SECONDS_TO_START", 5.0)
    monkeypatch.setattr(workers._BlockedFromStart, "run", hang_once)
    loader = WorkersThatStay().protect(DataLoader(dataset, 1, num_workers=1))
    assert sum(1 for _ in loader) == 40
    assert dataset.forks == 2
