"""Decide whether two recordings are of one speaker."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..audio.loading import AudioSource, Waveform, name_of, read_recording
from ..audio.speech import inspect_recording
from ..embedding.locations import find, locate
from ..embedding.runtimes import BATCH_SIZE, Embedder, OnnxEmbedder, bounded_batches, open_embedder
from ..errors import check_choice
from ..scoring.cosine import unit_length
from ..scoring.thresholds import OPERATING_POINTS, THRESHOLDS_NAME, Thresholds

if TYPE_CHECKING:
    import torch

Embedding = NDArray[np.float32]  # (embedding_size,), unit length
Embeddings = NDArray[np.float32]  # (recordings, embedding_size), unit length
OTHER_WEIGHTS = "The thresholds are of other weights and were left out: measure them anew."


@dataclass(frozen=True, repr=False)
class VerificationResult:
    """Hold the answer to the question whether two recordings are of one speaker.

    Attributes:
        score: cosine of the two embeddings, in [-1, 1].
        same_speaker: whether the score reaches the threshold; None where the model has no threshold.
        threshold: the threshold, in [-1, 1]; None where the model has none.
        warnings: sentences about flaws of the recordings, such as little speech, and about the threshold.
    """

    score: float
    same_speaker: bool | None
    threshold: float | None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        threshold = None if self.threshold is None else f"{self.threshold:.4f}"
        warned = f", warnings={self.warnings}" if self.warnings else ""
        return f"VerificationResult(score={self.score:.4f}, same_speaker={self.same_speaker}, {threshold=!s}{warned})"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has."""
        return asdict(self) | {"warnings": list(self.warnings)}


class SpeakerVerifier:
    """Verify speakers with a model, run by PyTorch or onnxruntime, and its thresholds.

    Flaws of recordings (little speech, clipping, no voice) are reported in two ways. `verify` returns them in its
    result, because they belong to a decision that may be stored. `embed`, `embed_many` and `encode` return bare
    arrays, and report flaws through `warnings`.

    Args:
        embedder: the model in its runtime, such as `TorchEmbedder(model, feature_extractor)`.
        thresholds: thresholds that were measured with these weights; others are left out with a warning.

    Raises:
        TypeError: for a model in the place of an embedder.

    Example:
        >>> verifier = SpeakerVerifier.from_pretrained("org/oskdft-hubert")  # doctest: +SKIP
        >>> verifier.verify("a.flac", "b.flac").same_speaker  # doctest: +SKIP
        True
    """

    def __init__(self, embedder: Embedder, thresholds: Thresholds | None = None) -> None:
        if not hasattr(embedder, "embed"):
            raise TypeError(
                f"SpeakerVerifier was given a {type(embedder).__name__}: an Embedder is needed, such as "
                "runtimes.TorchEmbedder(model, feature_extractor); or use SpeakerVerifier.from_pretrained."
            )
        self.embedder = embedder
        if thresholds is not None and thresholds.fingerprint != embedder.fingerprint():
            warnings.warn(OTHER_WEIGHTS, stacklevel=2)
            thresholds = None
        self.thresholds = thresholds

    def __repr__(self) -> str:
        return f"SpeakerVerifier({self.embedder!r}, {self.thresholds!r})"

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        device: "str | torch.device | None" = None,
        backend: str = "auto",
        dtype: "str | torch.dtype | None" = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
    ) -> "SpeakerVerifier":
        """Open a verifier from a folder or a repository on the Hub.

        Args:
            name_or_path: path of a folder, or org/name of a repository. A folder that PEFT's `save_pretrained` wrote
                is opened with its base.
            revision: branch, tag or commit of the repository.
            device: device of torch, such as "cuda"; None: the CPU, which is the only one of onnxruntime.
            backend: "torch" for a saved model, "onnxruntime" for an export of `oskdft export`, "auto" for the one that
                is there. Both decide the same; of an export in int8, decisions near the threshold may differ, because
                the threshold is that of float32.
            dtype: "float32", "bfloat16" or "float16" for torch; None: float32. Embeddings are float32 in any case.
            token: access token of the Hub for a private repository; None or True: the stored one, False: none. It is
                used while the model is opened and not kept.
            cache_dir: folder in which downloaded files are kept; None: the cache of huggingface_hub.
            local_files_only: use downloaded files alone and make no request.
            subfolder: folder inside of `name_or_path` that has the files.

        Raises:
            OSError: for a folder or repository that does not exist or may not be read.
            ValueError: for files that are no verifier, or none for this backend, and for a backend, device or dtype
                that does not exist.
            ImportError: without onnxruntime for an export, and without PEFT for its folder.
        """
        location = locate(str(name_or_path), revision, token, cache_dir, local_files_only, subfolder)
        embedder = open_embedder(location, backend, device, dtype)
        path = find(location, THRESHOLDS_NAME)
        thresholds = None if path is None else Thresholds.load(path)
        if thresholds is not None and isinstance(embedder, OnnxEmbedder):
            embedder.check_graph(thresholds.graph)
        return cls(embedder, thresholds)

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

    def embed(self, audio: AudioSource, channel: int | None = None) -> Embedding:
        """Embed the voice in a recording.

        Args:
            audio: a path, bytes, an open file, (array, rate), or a `datasets` audio dict or decoder, of any rate and
                number of channels; or an array or tensor (samples,) at 16 kHz.
            channel: the channel to take, from 0; None mixes them.

        Returns:
            (embedding_size,), float32, unit length. Flaws of recordings are reported through `warnings`.

        Raises:
            ValueError: for silence, for a recording shorter than one frame, and as `load_audio` does.
            OSError, TypeError: as `load_audio` does.
        """
        return self.embed_many([audio], channel)[0]

    def embed_many(
        self, recordings: Iterable[AudioSource], channel: int | None = None, batch_size: int = BATCH_SIZE
    ) -> Embeddings:
        """Embed several recordings, in batches; they are read a batch at a time.

        Args:
            recordings: recordings as in `embed`.
            channel: the channel to take of each, from 0; None mixes them.
            batch_size: recordings in a batch at most; long recordings come in smaller batches, see `bounded_batches`.

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
        notes: list[str] = []
        embeddings = self.embed_waveforms(_waveforms_of(recordings, channel, notes), batch_size)
        for sentence in notes:
            warnings.warn(sentence, stacklevel=3)
        return embeddings

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

    def verify(
        self,
        first: AudioSource | list[AudioSource],
        second: AudioSource,
        operating_point: str = "eer",
        channel: int | None = None,
    ) -> VerificationResult:
        """Decide whether two recordings are of one speaker.

        Args:
            first: a recording as in `embed`, or a list of several of one speaker, whose embeddings are averaged.
            second: a recording.
            operating_point: name of the threshold: "eer", or "far_1_percent" or "far_0.1_percent", which accept at
                most 1 % or 0.1 % of different-speaker trials.
            channel: the channel to take of each, from 0; None mixes them.

        Returns:
            The answer. Flaws of the recordings stand in its `warnings`; none is reported through `warnings`.

        Raises:
            ValueError: for another operating point, for no recordings, and as `embed` does.
            OSError, TypeError: as `embed` does.
        """
        check_choice("operating_point", operating_point, OPERATING_POINTS)
        enrolments = cast(list[AudioSource], first if isinstance(first, list) else [first])
        if not enrolments:
            raise ValueError("There are no recordings to compare with: give one or more.")
        notes: list[str] = []
        *enrolled, other = self.embed_waveforms(_waveforms_of([*enrolments, second], channel, notes))
        return self.decide(np.stack(enrolled), other, operating_point, notes)

    def decide(
        self, enrolled: Embeddings, other: Embedding, operating_point: str = "eer", notes: Iterable[str] = ()
    ) -> VerificationResult:
        """Decide whether an embedding is of an enrolled speaker.

        Thresholds decide only while the weights are the ones that they were measured with.

        Args:
            enrolled: (enrolments, embedding_size), unit length, of one speaker; their mean is compared.
            other: (embedding_size,), unit length.
            operating_point: as in `verify`.
            notes: sentences about the recordings, which come first in the warnings of the answer.

        Raises:
            ValueError: for a score that is not finite.
        """
        warned = list(notes)
        speaker = enrolled.mean(0)
        score = float(speaker @ other / max(float(np.linalg.norm(speaker)), 1e-12))
        if not np.isfinite(score):
            raise ValueError("The score is not a finite number: look at the model and the recordings.")
        threshold = None
        if self.thresholds is not None and self.thresholds.fingerprint != self.embedder.fingerprint():
            warned.append(OTHER_WEIGHTS)
        elif self.thresholds is not None:
            threshold = self.thresholds.values.get(operating_point)
            doubt = self.thresholds.doubt(operating_point)
            warned += [] if doubt is None else [doubt]
        if threshold is None:
            warned.append(
                f"The model has no threshold at {operating_point}: the score is all that can be said; measure "
                "thresholds on trials of your own."
            )
        return VerificationResult(score, None if threshold is None else score >= threshold, threshold, tuple(warned))

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
        embeddings = np.concatenate([self.embedder.embed(batch) for batch in bounded_batches(waveforms, batch_size)])
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and (norms > 0).all()):
            raise ValueError("The model gives an embedding that is zero or not finite: its weights are not sound.")
        return embeddings / norms


def is_a_recording(value: object) -> bool:
    """Test for one recording in any form, as against several: a list, a column of a dataset, an iterator."""
    if isinstance(value, tuple):
        return len(value) == 2 and any(map(_is_a_number, value))  # (array, rate); several paths have no number
    is_a_file_or_array = isinstance(value, str | bytes | bytearray | memoryview | PathLike | Mapping | np.ndarray)
    return is_a_file_or_array or hasattr(value, "read") or hasattr(value, "detach") or not isinstance(value, Iterable)


def _is_a_number(value: object) -> bool:
    return isinstance(value, int | float) or getattr(value, "ndim", None) == 0


def _waveforms_of(recordings: Iterable[AudioSource], channel: int | None, notes: list[str]) -> Iterator[Waveform]:
    """Read recordings one after the other, and add their flaws to `notes`, a sentence each."""
    for number, audio in enumerate(recordings, 1):
        name = name_of(audio) if isinstance(audio, str | PathLike) else f"Recording {number}"
        loaded = read_recording(audio, channel)
        notes += [*(f"{name} {note}" for note in loaded.notes), *inspect_recording(loaded.waveform, name)]
        yield loaded.waveform
