"""The user's door: two recordings in, one answer out."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..audio.loading import AudioSource, LoadedAudio, Waveform, name_of, read_recording
from ..audio.speech import look_at
from ..embedding.locations import find
from ..embedding.runtimes import Embedder, OnnxEmbedder, open_embedder
from ..scoring.thresholds import OPERATING_POINTS, THRESHOLDS_NAME, Thresholds

Embedding = NDArray[np.float32]
OTHER_WEIGHTS = "The thresholds are of other weights and were left out: measure them anew."


@dataclass(frozen=True)
class VerificationResult:
    """The answer: a cosine score in [-1, 1], and the decision at a threshold.

    same_speaker and threshold are None where the model has no threshold. warnings: what is wrong with the recordings,
    a sentence each.
    """

    score: float
    same_speaker: bool | None
    threshold: float | None
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"warnings": list(self.warnings)}


class SpeakerVerifier:
    """A model, run by PyTorch or onnxruntime, with its thresholds.

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

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        device: str | None = None,
        backend: str = "auto",
    ) -> "SpeakerVerifier":
        """Open a folder or a repository on the Hub.

        backend: "torch" for a saved model, "onnxruntime" for what `oskdft export` wrote, "auto" for what is there; the
        decisions are the same, of an export in int8 but for some near the threshold, which is float32's. A folder that
        PEFT's `save_pretrained` wrote is opened with its base.
        Raises `OSError` for what is not there or may not be read, `ValueError` for what is no verifier or not one for
        this backend, `ImportError` without onnxruntime.
        """
        name = str(name_or_path)
        embedder = open_embedder(name, backend, revision, device)
        found = find(name, THRESHOLDS_NAME, revision)
        thresholds = None if found is None else Thresholds.load(found)
        if thresholds is not None and isinstance(embedder, OnnxEmbedder):
            embedder.check_graph(thresholds.graph)
        return cls(embedder, thresholds)

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding."""
        return self.embedder.embedding_size

    def fingerprint(self) -> str:
        """Of the weights: equal for equal verifiers, whatever runs them."""
        return self.embedder.fingerprint()

    def embed(self, audio: AudioSource, channel: int | None = None) -> Embedding:
        """The voice in a recording as a vector of unit length, (embedding_size,).

        audio: a path, bytes, an open file, (array, rate), an array at 16 kHz, or a `datasets` audio dict; any rate,
        any channels, of which `channel` takes one. What is wrong with it is told in warnings. Raises `ValueError` for
        silence, and as `load_audio`.
        """
        return self.embed_many([audio], channel)[0]

    def embed_many(self, recordings: Iterable[AudioSource], channel: int | None = None) -> NDArray[np.float32]:
        """Several at once, (recordings, embedding_size); each row is what the recording gives alone."""
        if isinstance(recordings, str | bytes | PathLike | np.ndarray):
            raise TypeError(
                f"A {type(recordings).__name__} was given: a list of recordings is needed; use embed for one."
            )
        waveforms = []
        for number, audio in enumerate(recordings):
            waveform, said = self._inspected(audio, channel, number)
            for sentence in said:
                warnings.warn(sentence, stacklevel=3)
            waveforms.append(waveform)
        return self.embed_waveforms(waveforms)

    def verify(
        self,
        first: AudioSource | list[AudioSource],
        second: AudioSource,
        operating_point: str = "eer",
        channel: int | None = None,
    ) -> VerificationResult:
        """Whether two recordings are of one speaker.

        first: a recording, or a list of several of one speaker, whose embeddings are averaged. operating_point: "eer",
        or "far_1_percent" or "far_0.1_percent", the share of different speakers that is taken for the same at most.
        channel: of both, from 0; None mixes them. Raises `ValueError` for another operating point, and as `embed`
        does.
        """
        if operating_point not in OPERATING_POINTS:
            raise ValueError(f"operating_point is '{operating_point}': use one of {', '.join(OPERATING_POINTS)}.")
        enrolments = cast(list[AudioSource], first if isinstance(first, list) else [first])
        if not enrolments:
            raise ValueError("There are no recordings to compare with: give one or more.")
        found = [self._inspected(audio, channel, number) for number, audio in enumerate([*enrolments, second])]
        *enrolled, other = self.embed_waveforms([waveform for waveform, _ in found])
        return self.decide(np.stack(enrolled), other, operating_point, [one for _, said in found for one in said])

    def decide(
        self, enrolled: NDArray[np.float32], other: Embedding, operating_point: str = "eer", said: Iterable[str] = ()
    ) -> VerificationResult:
        """The answer for embeddings of unit length: of one speaker (enrolments, embedding_size), and of another voice.

        said: sentences about the recordings, to stand in the answer. Thresholds decide only while the weights are
        those that they were measured with.
        """
        warned = list(said)
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

    def embed_waveforms(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """(recordings, embedding_size) of waveforms (samples,) at 16 kHz; what is wrong with them is not looked for.

        Raises `ValueError` for an embedding that is zero or not finite, which has no direction.
        """
        embeddings = self.embedder.embed(waveforms)
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and (norms > 0).all()):
            raise ValueError("The model gives an embedding that is zero or not finite: its weights are not sound.")
        return embeddings / norms

    def _inspected(self, audio: AudioSource, channel: int | None, number: int) -> tuple[Waveform, list[str]]:
        """A recording's waveform, and what may spoil a decision, a sentence each."""
        name = name_of(audio) if isinstance(audio, str | PathLike) else f"Recording {number + 1}"
        loaded: LoadedAudio = read_recording(audio, channel)
        return loaded.waveform, [*(f"{name} {note}" for note in loaded.notes), *look_at(loaded.waveform, name)]
