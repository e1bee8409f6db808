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
    loader = DataLoader(Slow(), 1, num_workers=2, worker_init_fn=workers.initialiser())
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


def test_what_comes_after_is_called():
    called = []
    before = signal.getsignal(signal.SIGTERM)
    try:
        WorkersThatStay().initialiser(called.append)(3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == [3]
