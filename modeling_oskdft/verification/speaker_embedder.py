"""Embed recordings of every form with a verifier, in the words of sentence-transformers as well."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sized
from os import PathLike
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..audio.forms import AudioSource, Waveform
from ..embedding.exported import NO_RECORDINGS
from ..embedding.recordings import Recording, embed_recordings, read_all, unit_rows
from ..embedding.runtimes import BATCH_SIZE, Embedder, bounded_batches
from ..scoring.cosine import unit_length

if TYPE_CHECKING:
    import torch

Embedding = NDArray[np.float32]  # (embedding_size,), unit length
Embeddings = NDArray[np.float32]  # (recordings, embedding_size), unit length


class SpeakerEmbedder:
    """Embed recordings: the part of a `SpeakerVerifier` that decides nothing.

    Flaws of recordings (little speech, clipping, no voice) are reported through `warnings`.

    Args:
        embedder: the model in its runtime, such as `TorchEmbedder(model, feature_extractor)`.

    Raises:
        TypeError: for a model in the place of an embedder.
    """

    def __init__(self, embedder: Embedder) -> None:
        if not hasattr(embedder, "embed"):
            raise TypeError(
                f"SpeakerVerifier was given a {type(embedder).__name__}: an Embedder is needed, such as "
                "runtimes.TorchEmbedder(model, feature_extractor); or use SpeakerVerifier.from_pretrained."
            )
        self.embedder = embedder

    @property
    def embedding_size(self) -> int:
        """Return the length of an embedding."""
        return self.embedder.embedding_size

    def to(self, device: "str | torch.device") -> Self:
        """Move the model to a device, as in PyTorch.

        Args:
            device: device of torch, such as "cuda"; onnxruntime has "cpu" alone.

        Returns:
            This verifier.

        Raises:
            ValueError: for a device that the runtime or this machine does not have.
        """
        self.embedder.to(device)
        return self

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights: equal for equal verifiers, in either runtime."""
        return self.embedder.fingerprint()

    def embed(self, audio: AudioSource, channel: int | None = None, max_seconds: float | None = None) -> Embedding:
        """Embed the voice in a recording of any length.

        A recording of more than 30 s is embedded in windows of 2 s over its speech; memory stays bounded.

        Args:
            audio: a path, bytes, an open file, (array, rate), or a `datasets` audio dict or decoder, of any rate and
                number of channels; or an array or tensor (samples,) at 16 kHz.
            channel: the channel to take, from 0; None mixes them.
            max_seconds: seconds from the start that are heard; None: all.

        Returns:
            (embedding_size,), float32, unit length. Flaws of recordings are reported through `warnings`.

        Raises:
            ValueError: for silence, for a recording shorter than one frame, and as `load_audio` does.
            OSError, TypeError: as `load_audio` does.
        """
        return self.embed_many([audio], channel, max_seconds=max_seconds)[0]

    def embed_many(
        self,
        recordings: Iterable[AudioSource],
        channel: int | None = None,
        batch_size: int = BATCH_SIZE,
        max_seconds: float | None = None,
    ) -> Embeddings:
        """Embed several recordings, in batches; they are read a batch at a time.

        Args:
            recordings: recordings as in `embed`.
            channel: the channel to take of each, from 0; None mixes them.
            batch_size: recordings in a batch at most; its padded audio is at most 10 s for each of them, see
                `bounded_batches`.
            max_seconds: seconds of each that are heard; None: all.

        Returns:
            (recordings, embedding_size) in their order, float32, unit length; each row is the embedding that the
            recording has alone. Flaws of recordings are reported through `warnings`.

        Raises:
            TypeError: for a single recording, and as `load_audio` does.
            ValueError: for no recordings, for a batch_size below 1, and as `embed` does.
        """
        if is_a_recording(recordings):
            raise TypeError(
                f"A {type(recordings).__name__} was given: a list of recordings is needed; use embed for one."
            )
        sentences: list[str] = []

        def heard() -> Iterator[Recording]:
            for recording in read_all(recordings, channel, max_seconds):
                sentences.extend(recording.warnings)
                yield recording

        embedded = embed_recordings(self.embedder, heard(), batch_size)
        for sentence in sentences:
            warnings.warn(sentence, stacklevel=3)
        return np.stack([vectors.embedding for vectors in embedded])

    def encode(
        self,
        recordings: AudioSource | Iterable[AudioSource],
        batch_size: int = BATCH_SIZE,
        show_progress_bar: bool | None = None,
    ) -> NDArray[np.float32]:
        """Embed recordings in the words of sentence-transformers.

        Args:
            recordings: one recording as in `embed`, or several.
            batch_size: recordings in a batch at most, as in `embed_many`.
            show_progress_bar: whether to show a bar; None: for more than one batch, where stderr is a terminal.

        Returns:
            (embedding_size,) for one recording and (recordings, embedding_size) for several, float32, unit length.

        Raises:
            ValueError, OSError, TypeError: as `embed_many` does.
        """
        from tqdm.auto import tqdm

        if is_a_recording(recordings):
            return self.embed(cast(AudioSource, recordings))
        several = cast(Iterable[AudioSource], recordings)
        if show_progress_bar is None and isinstance(several, Sized) and len(several) <= batch_size:
            show_progress_bar = False
        hidden = None if show_progress_bar is None else not show_progress_bar  # None: hidden unless on a terminal
        with tqdm(several, desc="embeddings", unit="rec", disable=hidden) as bar:
            return self.embed_many(bar, batch_size=batch_size)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
        """Compute the cosine of each pair of two sets of embeddings, as sentence-transformers does.

        Args:
            a: (n, embedding_size), or (embedding_size,) for one embedding; of any length.
            b: (m, embedding_size), or (embedding_size,).

        Returns:
            (n, m), in [-1, 1].

        Raises:
            ValueError: for embeddings of different sizes, and for one that is zero or not finite.
        """
        first, second = (np.atleast_2d(np.asarray(embeddings, np.float32)) for embeddings in (a, b))
        if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
            raise ValueError(
                f"Embeddings of shapes {np.shape(a)} and {np.shape(b)} were given: (n, embedding_size) and "
                "(m, embedding_size) are needed; give embeddings of one verifier."
            )
        return (unit_length(first) @ unit_length(second).T).astype(np.float32, copy=False)

    def embed_waveforms(self, waveforms: Iterable[Waveform], batch_size: int = BATCH_SIZE) -> Embeddings:
        """Embed waveforms without a search for their flaws.

        Args:
            waveforms: (samples,) each, at 16 kHz.
            batch_size: recordings in a batch at most, see `bounded_batches`.

        Returns:
            (recordings, embedding_size), float32, unit length.

        Raises:
            ValueError: for no waveforms, for samples that are not finite, for a waveform shorter than one frame, and
                for an embedding without a direction: zero, or not finite.
        """
        rows = [unit_rows(self.embedder, batch) for batch in bounded_batches(waveforms, batch_size)]
        if not rows:
            raise ValueError(NO_RECORDINGS)
        return np.concatenate(rows)


def is_a_recording(value: object) -> bool:
    """Test for one recording in any form, as against several: a list, a column of a dataset, an iterator."""
    if isinstance(value, tuple):
        return len(value) == 2 and any(map(_is_a_number, value))  # (array, rate); several paths have no number
    is_a_file_or_array = isinstance(value, str | bytes | bytearray | memoryview | PathLike | Mapping | np.ndarray)
    return is_a_file_or_array or hasattr(value, "read") or hasattr(value, "detach") or not isinstance(value, Iterable)


def _is_a_number(value: object) -> bool:
    return isinstance(value, int | float) or getattr(value, "ndim", None) == 0
