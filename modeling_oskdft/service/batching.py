"""Embed the waveforms of several threads in one batch: worth its wait on a GPU, not on a CPU (`benchmark service`)."""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..audio.loading import SAMPLING_RATE, Waveform
from ..embedding.runtimes import BATCH_SIZE, SECONDS_PER_RECORDING, Embedder

if TYPE_CHECKING:
    import torch

MOST_SAMPLES = BATCH_SIZE * SECONDS_PER_RECORDING * SAMPLING_RATE  # of a padded batch


class _Asked(NamedTuple):
    waveforms: list[Waveform]
    answer: "Future[NDArray[np.float32]]"


class BatchingEmbedder:
    """Embed for many threads with one that owns the model.

    The owner takes what waits, and never waits for more: a lone request is embedded at once.

    Args:
        embedder: the model in its runtime.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.embedding_size = embedder, embedder.embedding_size
        self._asked: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        threading.Thread(target=self._own, name="oskdft-model", daemon=True).start()

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights."""
        return self.embedder.fingerprint()

    def to(self, device: "str | torch.device") -> Self:
        """Move the weights to a device."""
        self.embedder.to(device)
        return self

    def embed(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """Embed waveforms, beside those of other threads: see `Embedder.embed`."""
        answer: Future[NDArray[np.float32]] = Future()
        self._asked.put(_Asked(list(waveforms), answer))
        return answer.result()

    def _own(self) -> None:
        held: _Asked | None = None
        while True:
            batch, held = self._gather(self._asked.get() if held is None else held)
            self._answer(batch)

    def _gather(self, first: _Asked) -> tuple[list[_Asked], _Asked | None]:
        """Take what waits and fits beside the first; returns also the one that did not fit."""
        batch, rows, longest = [first], len(first.waveforms), max(map(len, first.waveforms), default=0)
        while True:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                return batch, None
            rows, longest = rows + len(asked.waveforms), max(longest, *map(len, asked.waveforms), 0)
            if rows > BATCH_SIZE or rows * longest > MOST_SAMPLES:
                return batch, asked
            batch.append(asked)

    def _answer(self, batch: list[_Asked]) -> None:
        try:
            rows = self.embedder.embed([waveform for asked in batch for waveform in asked.waveforms])
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for asked in batch:  # the fault of one is not that of the others
                self._answer([asked])
            return
        for asked in batch:
            asked.answer.set_result(rows[: len(asked.waveforms)])
            rows = rows[len(asked.waveforms) :]
