"""The user's door: two recordings in, one answer out."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModel, SequenceFeatureExtractor
from transformers.utils import cached_file

from .audio import SAMPLING_RATE, AudioSource, Waveform, load_audio
from .evaluation.calibration import OPERATING_POINTS, THRESHOLDS_NAME, Thresholds
from .evaluation.embedding import embed_batch
from .modeling_oskdft import OSKDFTForXVector

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
    """A verifier with its feature extractor and its thresholds.

    Example:
        >>> verifier = SpeakerVerifier.from_pretrained("org/oskdft-hubert")  # doctest: +SKIP
        >>> verifier.verify("a.flac", "b.flac").same_speaker  # doctest: +SKIP
        True
    """

    def __init__(
        self,
        model: OSKDFTForXVector,
        feature_extractor: SequenceFeatureExtractor,
        thresholds: Thresholds | None = None,
    ) -> None:
        self.model = model.eval()
        self.feature_extractor = feature_extractor
        if thresholds is not None and thresholds.fingerprint != model.fingerprint():
            warnings.warn("The thresholds are of other weights and were left out: measure them anew.", stacklevel=2)
            thresholds = None
        self.thresholds = thresholds

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, revision: str | None = None, device: str | None = None
    ) -> "SpeakerVerifier":
        """Open a folder or a repository on the Hub.

        Raises `OSError` for what is not there or may not be read, `ValueError` for what is no verifier.
        """
        name = str(name_or_path)
        try:
            model = AutoModel.from_pretrained(name, revision=revision, dtype="float32")
        except OSError as error:
            raise OSError(
                f"There is no verifier that can be read at '{name}'{f', revision {revision},' if revision else ''} "
                f"({_first_line(error)}): check the name; a private repository wants `hf auth login` or HF_TOKEN."
            ) from error
        if not isinstance(model, OSKDFTForXVector):
            raise ValueError(f"'{name}' holds a {type(model).__name__}: a saved OSKDFTForXVector is needed.")
        feature_extractor = AutoFeatureExtractor.from_pretrained(name, revision=revision)
        found = cached_file(name, THRESHOLDS_NAME, revision=revision, _raise_exceptions_for_missing_entries=False)
        thresholds = None if found is None else Thresholds.load(found)
        return cls(model.to(device) if device else model, feature_extractor, thresholds)

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
        embeddings = embed_batch(self.model, self.feature_extractor, waveforms).float().cpu().numpy()
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


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


def _label(audio: AudioSource, number: int) -> str:
    return f"'{audio}'" if isinstance(audio, str | Path) else f"Recording {number + 1}"
