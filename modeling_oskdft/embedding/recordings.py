"""Embed recordings of any length: short ones as they are, long ones in windows over their speech."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..audio import speech
from ..audio.forms import AudioSource, Waveform
from ..audio.loading import SAMPLING_RATE, name_of, open_track
from ..audio.speech import Inspection, Speech
from ..audio.track import Track, Window, weights_of, windows_over
from .exported import NO_RECORDINGS
from .runtimes import BATCH_SIZE, Embedder, bounded_batches

Floats = NDArray[np.float32]
NOT_SOUND = "The model gives an embedding that is zero or not finite: its weights are not sound."


@dataclass(frozen=True)
class Recording:
    """Hold a recording that was read and inspected.

    Attributes:
        name: name in sentences, such as "'a.flac'" or "Recording 1".
        track: the recording at 16 kHz.
        speech: where speech is in it.
        warnings: a sentence for each flaw.
        is_clipped: whether more than 1 % of its samples are at full scale.
        is_narrow_band: whether it is telephone speech, or speech of a narrow-band codec.
    """

    name: str
    track: Track
    speech: Speech
    warnings: tuple[str, ...] = ()
    is_clipped: bool = False
    is_narrow_band: bool = False

    @property
    def windows(self) -> list[Window]:
        """Return the windows that are embedded, see `windows_over`."""
        return windows_over(self.speech.seconds_between, len(self.track))


class EmbeddedRecording(NamedTuple):
    """Hold the embedding of a recording.

    Attributes:
        embedding: (embedding_size,), unit length.
        windows: (windows, embedding_size), unit length; one for a recording of up to 30 s.
        speech: (windows,), seconds of speech in each.
    """

    embedding: Floats
    windows: Floats
    speech: NDArray[np.float64]


def read_for_embedding(
    source: AudioSource, number: int = 1, channel: int | None = None, max_seconds: float | None = None
) -> Recording:
    """Read and inspect a recording of any length, with bounded memory.

    Args:
        source: recording, as in `load_audio`.
        number: its number in sentences; a path is named by itself.
        channel: number of the channel, as in `load_audio`.
        max_seconds: seconds from the start that are read; None: all.

    Raises:
        ValueError: for a silent recording, and as `open_track` does.
        OSError, TypeError: as `open_track` does.
    """
    name = name_of(source) if isinstance(source, str | PathLike) else f"Recording {number}"
    track, notes = open_track(source, channel, max_seconds)
    inspection = Inspection(speech.speech_network())
    for block in track.blocks():
        inspection.add(block)
    found = inspection.finish()
    sentences = [*(f"{name} {note}" for note in notes), *inspection.faults(name)]
    return Recording(name, track, found, tuple(sentences), inspection.is_clipped, inspection.is_narrow_band)


def read_all(
    sources: Iterable[AudioSource], channel: int | None = None, max_seconds: float | None = None
) -> Iterator[Recording]:
    """Read recordings one after the other, see `read_for_embedding`.

    Args:
        sources: the recordings.
        channel: number of the channel, as in `load_audio`.
        max_seconds: seconds of each that are read; None: all.
    """
    for number, source in enumerate(sources, 1):
        yield read_for_embedding(source, number, channel, max_seconds)


def sentences_about(recordings: Sequence[Recording]) -> list[str]:
    """Return the flaws of recordings, a sentence each.

    Args:
        recordings: they were read and inspected.
    """
    return [*level_alone(recordings), *(sentence for recording in recordings for sentence in recording.warnings)]


def level_alone(recordings: Sequence[Recording]) -> list[str]:
    """Return a sentence where the network that finds speech was not at hand, else none.

    Args:
        recordings: they were read and inspected.
    """
    return [speech.LEVEL_ALONE] if any(recording.speech.network is None for recording in recordings) else []


def embed_recordings(
    embedder: Embedder, recordings: Iterable[Recording], batch_size: int = BATCH_SIZE
) -> list[EmbeddedRecording]:
    """Embed recordings, each with the embedding that it has alone.

    A recording of more than 30 s is embedded in windows of 2 s; its embedding is the mean of their unit vectors,
    weighted by speech.

    Args:
        embedder: the model in its runtime.
        recordings: they are read a batch at a time.
        batch_size: short recordings in a batch at most, see `bounded_batches`.

    Returns:
        In the order of the recordings.

    Raises:
        ValueError: for no recordings, for one that is shorter than one frame, and for weights that are not sound.
    """
    long: dict[int, EmbeddedRecording] = {}
    short: list[tuple[int, float]] = []  # number and seconds of speech

    def waveforms() -> Iterator[Waveform]:
        for number, recording in enumerate(recordings):
            windows = recording.windows
            if len(windows) == 1 and windows[0].stop - windows[0].start == len(recording.track):
                short.append((number, windows[0].speech))
                yield recording.track.read()
            else:
                long[number] = _embed_windows(embedder, recording.track, windows)

    embeddings = [row for batch in bounded_batches(waveforms(), batch_size) for row in unit_rows(embedder, batch)]
    embedded = long | {
        number: EmbeddedRecording(row, row[None], np.asarray([seconds]))
        for (number, seconds), row in zip(short, embeddings, strict=True)
    }
    if not embedded:
        raise ValueError(NO_RECORDINGS)
    return [embedded[number] for number in sorted(embedded)]


def unit_rows(embedder: Embedder, waveforms: list[Waveform]) -> Floats:
    """Embed one batch of waveforms.

    Args:
        embedder: the model in its runtime.
        waveforms: (samples,) each, at 16 kHz.

    Returns:
        (recordings, embedding_size), float32, unit length.

    Raises:
        ValueError: for an embedding without a direction: zero, or not finite; and as `Embedder.embed` does.
    """
    embeddings = embedder.embed(waveforms)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError(NOT_SOUND)
    return embeddings / norms


def weighted_mean(embeddings: Floats, weights: NDArray[np.floating]) -> Floats:
    """Average unit vectors.

    Args:
        embeddings: (rows, embedding_size), unit length.
        weights: (rows,), with the sum 1.

    Returns:
        (embedding_size,), unit length.

    Raises:
        ValueError: for vectors that cancel each other.
    """
    mean = weights @ embeddings.astype(np.float64)
    norm = float(np.linalg.norm(mean))
    if not norm > 1e-6:
        raise ValueError("The recordings have opposite embeddings and no mean: give recordings of one speaker.")
    return (mean / norm).astype(np.float32)


def halves_of(recording: Recording) -> tuple[Waveform, Waveform] | None:
    """Cut a short recording where half of its speech is over.

    Args:
        recording: of up to 30 s.

    Returns:
        The two waveforms; None where a half would have less than 2 s of speech.
    """
    edges = np.arange(len(recording.speech.frames)) * speech.FRAME
    seconds = np.cumsum(recording.speech.frames) * speech.FRAME / SAMPLING_RATE
    if not len(seconds) or seconds[-1] < 4.0:
        return None
    middle = int(edges[np.argmax(seconds >= seconds[-1] / 2)])
    waveform = recording.track.read()
    return waveform[:middle], waveform[middle:]


def _embed_windows(embedder: Embedder, track: Track, windows: list[Window]) -> EmbeddedRecording:
    # One at a time, so that an hour takes no more memory than a window.
    rows = [unit_rows(embedder, [track.read(window.start, window.stop)]) for window in windows]
    embeddings = np.concatenate(rows)
    speech_of_windows = np.asarray([window.speech for window in windows])
    return EmbeddedRecording(weighted_mean(embeddings, weights_of(windows)), embeddings, speech_of_windows)
