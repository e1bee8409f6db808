"""The user's door: two recordings in, one answer out."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import cached_file

from .audio import SAMPLING_RATE, AudioSource, Waveform, load_audio
from .evaluation.calibration import OPERATING_POINTS, THRESHOLDS_NAME, Thresholds
from .runtimes import Embedder, open_embedder

Embedding = NDArray[np.float32]

ENOUGH_SPEECH = 1.0  # seconds; below, two recordings of one speaker often score as two speakers
QUIETEST = 10 ** (-60 / 20)  # of full scale: a frame below is no speech, whatever else there is
BELOW_LOUDEST = 10 ** (-35 / 20)  # a frame further below the loudest one is a pause
FRAME = SAMPLING_RATE // 50
FULL_SCALE, CLIPPED_SHARE = 0.999, 0.001


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
            warnings.warn("The thresholds are of other weights and were left out: measure them anew.", stacklevel=2)
            thresholds = None
        self.thresholds = thresholds

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        device: str | None = None,
        backend: str = "torch",
    ) -> "SpeakerVerifier":
        """Open a folder or a repository on the Hub.

        backend: "torch" for a saved model, "onnxruntime" for what `oskdft export` wrote; the decisions are the same,
        of an export in int8 but for some near the threshold, which is float32's.
        Raises `OSError` for what is not there or may not be read, `ValueError` for what is no verifier or not one for
        this backend, `ImportError` without onnxruntime.
        """
        name = str(name_or_path)
        embedder = open_embedder(name, backend, revision, device)
        found = cached_file(name, THRESHOLDS_NAME, revision=revision, _raise_exceptions_for_missing_entries=False)
        return cls(embedder, None if found is None else Thresholds.load(found))

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding."""
        return self.embedder.embedding_size

    def fingerprint(self) -> str:
        """Of the weights: equal for equal verifiers, whatever runs them."""
        return self.embedder.fingerprint()

    def embed(self, audio: AudioSource) -> Embedding:
        """The voice in a recording as a vector of unit length, (embedding_size,).

        audio: a path, bytes, an open file, (array, rate), an array at 16 kHz, or a `datasets` audio dict; any rate,
        any channels. What is wrong with it is told in warnings. Raises `ValueError` for silence, and as `load_audio`.
        """
        return self.embed_many([audio])[0]

    def embed_many(self, recordings: Sequence[AudioSource]) -> NDArray[np.float32]:
        """Several at once, (recordings, embedding_size); each row is what the recording gives alone."""
        waveforms = [load_audio(audio) for audio in recordings]
        for number, waveform in enumerate(waveforms):
            for sentence in look_at(waveform, _label(recordings[number], number)):
                warnings.warn(sentence, stacklevel=3)
        return self.embed_waveforms(waveforms)

    def verify(self, first: AudioSource, second: AudioSource, operating_point: str = "eer") -> VerificationResult:
        """Whether two recordings are of one speaker.

        operating_point: "eer", or "far_1_percent" or "far_0.1_percent", the share of different speakers that is taken
        for the same at most. Raises `ValueError` for another one, and as `embed` does.
        """
        if operating_point not in OPERATING_POINTS:
            raise ValueError(f"operating_point is '{operating_point}': use one of {', '.join(OPERATING_POINTS)}.")
        waveforms = [load_audio(first), load_audio(second)]
        said = [*look_at(waveforms[0], _label(first, 0)), *look_at(waveforms[1], _label(second, 1))]
        one, other = self.embed_waveforms(waveforms)
        score = float(one @ other)
        threshold = None if self.thresholds is None else self.thresholds.values.get(operating_point)
        if threshold is None:
            said.append(
                f"The model has no threshold at {operating_point}: the score is all that can be said; measure "
                "thresholds on trials of your own."
            )
        return VerificationResult(score, None if threshold is None else score >= threshold, threshold, tuple(said))

    def embed_waveforms(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """(recordings, embedding_size) of waveforms (samples,) at 16 kHz, which nobody looks at: see `look_at`."""
        embeddings = self.embedder.embed(waveforms)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def look_at(waveform: Waveform, name: str) -> list[str]:
    """What may spoil a decision, a sentence each: too little speech, clipping. waveform: (samples,) at 16 kHz.

    Raises `ValueError` for a recording without any sound.
    """
    seconds = speech_seconds(waveform)
    if seconds == 0:
        raise ValueError(f"{name} is silent: give a recording with speech in it.")
    said = []
    if seconds < ENOUGH_SPEECH:
        said.append(
            f"{name} has {seconds:.1f} s of speech: below {ENOUGH_SPEECH:.0f} s decisions are unreliable; give more."
        )
    clipped = float(np.mean(np.abs(waveform) >= FULL_SCALE))
    if clipped > CLIPPED_SHARE:
        said.append(
            f"{name} is clipped ({100 * clipped:.1f} % of the samples at full scale): record at a lower level."
        )
    return said


def speech_frames(waveform: Waveform) -> NDArray[np.bool_]:
    """(frames,) of 20 ms: True where a frame is neither silent nor 35 dB below the loudest one."""
    padded = np.pad(waveform, (0, -len(waveform) % FRAME))
    levels = np.sqrt(np.mean(np.square(padded.reshape(-1, FRAME)), axis=1))
    return levels > max(QUIETEST, BELOW_LOUDEST * levels.max(initial=0.0))


def speech_seconds(waveform: Waveform) -> float:
    """Time in frames with speech."""
    return float(np.sum(speech_frames(waveform))) * FRAME / SAMPLING_RATE


def _label(audio: AudioSource, number: int) -> str:
    return f"'{audio}'" if isinstance(audio, str | Path) else f"Recording {number + 1}"
