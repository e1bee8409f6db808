import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from modeling_oskdft.service.batching import BatchingEmbedder


def until(is_so):
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Slow:
    """Embeds a waveform as its mean; the first batch waits, and NaN is refused."""

    embedding_size = 1

    def __init__(self):
        self.gate, self.batches = threading.Event(), []

    def fingerprint(self):
        return "f"

    def to(self, device):
        return self

    def embed(self, waveforms):
        self.batches.append(len(waveforms))
        self.gate.wait(10)
        if any(np.isnan(waveform).any() for waveform in waveforms):
            raise ValueError("not finite")
        return np.asarray([[waveform.mean()] for waveform in waveforms], np.float32)


def test_what_waits_is_one_batch_and_each_gets_its_own():
    slow = Slow()
    embedder = BatchingEmbedder(slow)
    waveforms = [np.full(100 + n, n, np.float32) for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(embedder.embed, waveforms[:2])
        until(lambda: slow.batches)
        rest = [pool.submit(embedder.embed, [waveform]) for waveform in waveforms[2:]]
        until(lambda: embedder._asked.qsize() >= 10)
        slow.gate.set()
        assert first.result(10).tolist() == [[0], [1]]
        assert [answer.result(10).tolist() for answer in rest] == [[[n]] for n in range(2, 12)]
    assert slow.batches == [2, 10], "a lone request did not wait for others"


def test_a_batch_is_bounded_and_a_fault_is_that_of_one():
    slow = Slow()
    embedder = BatchingEmbedder(slow)
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(embedder.embed, [np.zeros(10, np.float32)])
        until(lambda: slow.batches)
        answers = [pool.submit(embedder.embed, [np.full(10, n, np.float32)]) for n in range(35)]
        bad = pool.submit(embedder.embed, [np.full(10, np.nan, np.float32)])
        until(lambda: embedder._asked.qsize() >= 36)
        slow.gate.set()
        first.result(10)
        assert [float(answer.result(10)[0, 0]) for answer in answers] == list(range(35))
        with pytest.raises(ValueError, match="not finite"):
            bad.result(10)
    assert max(slow.batches) == 32


def test_long_recordings_come_in_smaller_batches():
    slow = Slow()
    slow.gate.set()
    embedder = BatchingEmbedder(slow)
    long = [np.zeros(200 * 16000, np.float32)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(embedder.embed, [long] * 4))
    assert max(slow.batches) == 1
