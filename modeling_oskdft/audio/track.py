"""Hold a recording of any length as one channel, and cut it into windows over its speech.

A long recording lies in a temporary file that has no name and goes with the process, so that memory stays bounded.
This file stands alone: an exported folder has a copy beside verify.py. It needs numpy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

SAMPLING_RATE = 16000
WHOLE_SECONDS = 30  # a recording up to here is embedded as it is, like the recordings of a trial list
WINDOW_SECONDS = 2  # of a longer recording, as the crops that students learn from; memory grows with it
LEAST_SPEECH = 0.5  # seconds of speech in a window that is embedded
LEAST_WINDOW = 1.0  # seconds; a shorter rest at the end joins the window before it
BLOCK = 10 * SAMPLING_RATE  # samples that are inspected at a time
CANCELLED = 0.03  # as in decoding.py
Resample = Callable[[np.ndarray, bool], np.ndarray]  # samples, and whether they are the last ones, to samples


class Window(NamedTuple):
    """Describe a stretch of a recording.

    Attributes:
        start: first sample.
        stop: sample behind the last one.
        speech: seconds of speech in it.
    """

    start: int
    stop: int
    speech: float


class Track:
    """Hold a recording as one channel at 16 kHz.

    Args:
        waveform: (samples,); None: blocks follow by `write`, and go to a temporary file.
    """

    def __init__(self, waveform: np.ndarray | None = None) -> None:
        self._waveform = waveform
        self._file = None if waveform is not None else tempfile.TemporaryFile(prefix="oskdft")
        self._samples = 0 if waveform is None else len(waveform)

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    def __len__(self) -> int:
        return self._samples

    def write(self, blocks: Iterable[np.ndarray], name: str, channel: int | None, resample: Resample) -> None:
        """Append a part of a recording: its channels are mixed, and resampled to 16 kHz.

        The channels that are digital silence from the first to the last sample are left out of the mix, as
        `decoding.mixed` does for a recording in memory.

        Args:
            blocks: (frames, channels) each.
            name: name of the recording in errors.
            channel: number of the channel to take; None mixes them.
            resample: converts the samples of one channel to 16 kHz.

        Raises:
            ValueError: for a channel that is not there, and for channels that cancel each other.
        """
        first = self._samples
        channels = _Channels(name, channel)
        previous: np.ndarray | None = None
        for block in blocks:
            if previous is not None:
                self._append(resample(channels.sum_of(previous), False))
            previous = block
        if previous is None:
            return
        self._append(resample(channels.sum_of(previous), True))
        gain, constant = channels.mix()
        if (gain, constant) != (1.0, 0.0):
            self._rescale(first, gain, constant)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read samples.

        Args:
            start: first sample.
            stop: sample behind the last one; None: the end.

        Returns:
            (samples,) float32.
        """
        stop = self._samples if stop is None else min(stop, self._samples)
        if self._file is None:
            assert self._waveform is not None
            return self._waveform[start:stop]
        self._file.seek(4 * start)
        return np.frombuffer(self._file.read(4 * max(stop - start, 0)), np.float32)

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the whole track, in blocks of 10 s."""
        for start in range(0, self._samples, BLOCK):
            yield self.read(start, start + BLOCK)

    def _append(self, samples: np.ndarray) -> None:
        assert self._file is not None
        self._file.write(np.ascontiguousarray(samples, np.float32).tobytes())
        self._samples += len(samples)

    def _rescale(self, first: int, gain: float, constant: float) -> None:
        """Turn the sum of all channels into the mean of the live ones, block by block."""
        assert self._file is not None
        for start in range(first, self._samples, BLOCK):
            samples = (self.read(start, start + BLOCK) - constant) * gain
            self._file.seek(4 * start)
            self._file.write(samples.astype(np.float32).tobytes())


class _Channels:
    """Add up the channels of blocks, and find out which of them are alive."""

    def __init__(self, name: str, channel: int | None) -> None:
        self.name, self.channel = name, channel
        self.low = self.high = np.zeros(0)
        self.squares = self.means = np.zeros(0)  # sums, for the level of each channel and, last, of all together
        self.frames = 0

    def sum_of(self, frames: np.ndarray) -> np.ndarray:
        """Return the chosen channel of a block, or the sum of all, (frames,)."""
        channels = frames.shape[1]
        if self.channel is not None:
            if not isinstance(self.channel, int | np.integer) or not 0 <= self.channel < channels:
                raise ValueError(f"channel is {self.channel}: {self.name} has channels 0 to {channels - 1}.")
            return np.ascontiguousarray(frames[:, self.channel])
        if channels == 1:
            return frames[:, 0]
        total = frames.sum(1, dtype=np.float32)
        low, high = frames.min(0), frames.max(0)
        every = np.concatenate([frames, total[:, None]], axis=1).astype(np.float64)
        squares, means = np.square(every).sum(0), every.sum(0)
        if self.frames:
            low, high = np.minimum(low, self.low), np.maximum(high, self.high)
            squares, means = squares + self.squares, means + self.means
        self.low, self.high, self.squares, self.means = low, high, squares, means
        self.frames += len(frames)
        return total

    def mix(self) -> tuple[float, float]:
        """Return what turns the sum of all channels into the mean of the live ones: a gain, and a constant before."""
        if not self.frames:
            return 1.0, 0.0
        alive = self.high > self.low
        if not alive.any():
            return 1.0 / len(alive), 0.0
        levels = np.sqrt(np.maximum(self.squares / self.frames - np.square(self.means / self.frames), 0))
        if alive.sum() > 1 and levels[-1] / alive.sum() < CANCELLED * levels[:-1].max():
            raise ValueError(
                f"{self.name} has channels that cancel each other when they are mixed: give one of them, channel 0 to "
                f"{len(alive) - 1}."
            )
        return 1.0 / int(alive.sum()), float(self.low[~alive].sum())


def windows_over(seconds_between: Callable[[int, int], float], samples: int) -> list[Window]:
    """Choose the windows of a recording that are embedded.

    A recording of up to 30 s is one window, whatever is in it. A longer one is cut into windows of 2 s, of which
    those with speech are taken; a rest of less than 1 s joins the window before it. The end of a recording of 38.4 s,
    with speech where # stands:

        32 s      34 s      36 s      38 s
        |##..###..|.........|..##...##|#
        |window   |         |window     |

    Args:
        seconds_between: returns the seconds of speech between two samples, as `Speech.seconds_between`.
        samples: length of the recording.
    """
    if samples <= WHOLE_SECONDS * SAMPLING_RATE:
        return [Window(0, samples, seconds_between(0, samples))]
    size = WINDOW_SECONDS * SAMPLING_RATE
    starts = list(range(0, samples, size))
    if samples - starts[-1] < LEAST_WINDOW * SAMPLING_RATE:
        starts.pop()
    edges = [*starts, samples]
    windows = [
        Window(start, stop, seconds_between(start, stop)) for start, stop in zip(edges, edges[1:], strict=False)
    ]
    with_speech = [window for window in windows if window.speech >= LEAST_SPEECH]
    return with_speech or [max(windows, key=lambda window: window.speech)]


def weights_of(windows: list[Window]) -> np.ndarray:
    """Weigh windows by their speech.

    Args:
        windows: at least one.

    Returns:
        (windows,), with the sum 1; equal where no window has speech.
    """
    speech = np.asarray([window.speech for window in windows])
    return speech / speech.sum() if speech.sum() > 0 else np.full(len(windows), 1 / len(windows))
