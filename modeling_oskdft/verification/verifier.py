"""Decide whether two recordings are of one speaker, and keep voices: the user's door."""

import builtins
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from ..audio.forms import AudioSource
from ..embedding.locations import find, locate
from ..embedding.recordings import (
    EmbeddedRecording,
    Recording,
    embed_recordings,
    level_alone,
    read_all,
    read_for_embedding,
    sentences_about,
    weighted_mean,
)
from ..embedding.runtimes import Embedder, ExportedEmbedder, open_embedder
from ..errors import check_choice
from ..scoring.calibration import CALIBRATION_NAME, Calibration
from ..scoring.normalization import COHORT_NAME, Cohort
from ..scoring.thresholds import OPERATING_POINTS, THRESHOLDS_NAME, Thresholds
from .decision import (
    EVEN,
    OTHER_CALIBRATION,
    OTHER_WEIGHTS,
    POINTS,
    Costs,
    Evidence,
    VerificationResult,
    decide,
)
from .enrolment import Enrolment, Gate, Identification, nearest
from .hearing import hear
from .own_pairs import CalibrationChange, Pair, calibrate_on_pairs, trials_of_pairs
from .speaker_embedder import Embedding, Embeddings, SpeakerEmbedder, is_a_recording
from .voice import Voice, Voices
from .voices import VoiceStore

if TYPE_CHECKING:
    import torch


Measured = TypeVar("Measured", Thresholds, Calibration, Cohort)


class SpeakerVerifier(SpeakerEmbedder):
    """Verify speakers with a model, in PyTorch or as an export, and its thresholds.

    Flaws of recordings (little speech, clipping, no voice) are reported in two ways. `verify` returns them in its
    result, because they belong to a decision that may be stored. `embed`, `embed_many` and `encode` return bare
    arrays, and report flaws through `warnings`.

    Args:
        embedder: the model in its runtime, such as `TorchEmbedder(model, feature_extractor)`.
        thresholds: thresholds that were measured with these weights; others are left out with a warning.
        calibration: calibration that was fitted with these weights; another one is left out with a warning.
        cohort: speakers to normalise scores with, where the calibration was fitted on such scores.
        voices: enrolled voices; None: none yet, and in memory.

    Raises:
        TypeError: for a model in the place of an embedder.

    Example:
        >>> verifier = SpeakerVerifier.from_pretrained("org/oskdft-hubert")  # doctest: +SKIP
        >>> verifier.verify("a.flac", "b.flac").same_speaker  # doctest: +SKIP
        True
    """

    def __init__(
        self,
        embedder: Embedder,
        thresholds: Thresholds | None = None,
        calibration: Calibration | None = None,
        cohort: Cohort | None = None,
        voices: Voices | None = None,
    ) -> None:
        super().__init__(embedder)
        fingerprint = embedder.fingerprint()
        if thresholds is not None and thresholds.fingerprint != fingerprint:
            warnings.warn(OTHER_WEIGHTS, stacklevel=2)
            thresholds = None
        if calibration is not None and calibration.fingerprint != fingerprint:
            warnings.warn(OTHER_CALIBRATION, stacklevel=2)
            calibration = None
        if cohort is not None and cohort.fingerprint != fingerprint:
            warnings.warn("The cohort is of other weights and was left out: make it anew.", stacklevel=2)
            cohort = None
        if calibration is not None and calibration.cohort is not None:
            if cohort is None or cohort.digest != calibration.cohort:
                warnings.warn(
                    "The calibration is of scores that another cohort normalised, and was left out: calibrate anew.",
                    stacklevel=2,
                )
                calibration = None
        self.thresholds, self.calibration, self.cohort = thresholds, calibration, cohort
        self.voices: Voices = VoiceStore() if voices is None else voices

    def __repr__(self) -> str:
        parts = [repr(self.embedder), repr(self.thresholds)]
        parts += [repr(part) for part in (self.calibration, self.cohort) if part is not None]
        parts += [repr(self.voices)] if self.voices.path is not None else []
        return f"SpeakerVerifier({', '.join(parts)})"

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
        voices: str | Path | Voices | None = None,
        calibration: str | Path | None = None,
    ) -> "SpeakerVerifier":
        """Open a verifier from a folder or a repository on the Hub.

        Args:
            name_or_path: path of a folder, or org/name of a repository. A folder that PEFT's `save_pretrained` wrote
                is opened with its base.
            revision: branch, tag or commit of the repository.
            device: device of torch, such as "cuda"; None: the CPU, which is the only one of onnxruntime.
            backend: "torch" for a saved model; "onnxruntime", "openvino" or "executorch" for an export of
                `oskdft export`; "auto" for the one that is there. All decide the same; of an export in
                int8, decisions near the threshold may differ, because the threshold is that of float32.
            dtype: "float32", "bfloat16" or "float16" for torch; None: float32. Embeddings are float32 in any case.
            token: access token of the Hub for a private repository; None or True: the stored one, False: none. It is
                used while the model is opened and not kept.
            cache_dir: folder in which downloaded files are kept; None: the cache of huggingface_hub.
            local_files_only: use downloaded files alone and make no request.
            subfolder: folder inside of `name_or_path` that has the files.
            voices: file of the enrolled voices, or a `VoiceStore` or `QdrantVoices`; None: in memory.
            calibration: folder with another `calibration.json`, as `oskdft calibrate --out` writes it; None: the
                model's own.

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
        if thresholds is not None and isinstance(embedder, ExportedEmbedder):
            embedder.check_graph(thresholds.graph)
        own = find(location, CALIBRATION_NAME) if calibration is None else str(Path(calibration, CALIBRATION_NAME))
        if calibration is not None and not Path(str(own)).is_file():
            raise FileNotFoundError(f"There is no {CALIBRATION_NAME} in '{calibration}': calibrate into it first.")
        cohort_file = find(location, COHORT_NAME)
        cohort = None if cohort_file is None else Cohort.load(cohort_file)
        store = VoiceStore(voices) if isinstance(voices, str | Path) else voices
        return cls(embedder, thresholds, None if own is None else Calibration.load(own), cohort, store)

    def verify(
        self,
        first: AudioSource | list[AudioSource],
        second: AudioSource,
        operating_point: str = "eer",
        channel: int | None = None,
        prior: float = 0.5,
        c_miss: float = 1.0,
        c_fa: float = 1.0,
        max_seconds: float | None = None,
    ) -> VerificationResult:
        """Decide whether two recordings are of one speaker.

        Args:
            first: the name of an enrolled voice, a recording as in `embed`, or a list of several of one speaker, whose
                embeddings are averaged.
            second: a recording.
            operating_point: name of the threshold: "eer"; "far_1_percent" or "far_0.1_percent", which accept at most
                1 % or 0.1 % of different-speaker trials; or "bayes", which has the least expected cost at `prior`,
                `c_miss` and `c_fa`.
            channel: the channel to take of each, from 0; None mixes them.
            prior: probability that the speaker is the same before the recordings are heard, in (0, 1); `probability`
                of the answer is at this prior.
            c_miss: cost of a rejected speaker.
            c_fa: cost of an accepted stranger.
            max_seconds: seconds of each recording that are heard; None: all.

        Returns:
            The answer. Flaws of the recordings stand in its `warnings`; none is reported through `warnings`.

        Raises:
            ValueError: for another operating point, a prior or cost outside of its range, for no recordings, and as
                `embed` does.
            OSError, TypeError: as `embed` does.
        """
        costs = Costs(prior, c_miss, c_fa)
        if isinstance(first, str) and first in self.voices:
            (recording,) = read_all([second], channel, max_seconds)
            return self.verify_recordings(first, recording, operating_point, costs)
        enrolments = cast(list[AudioSource], first if isinstance(first, list) else [first])
        *recordings, test = read_all([*enrolments, second], channel, max_seconds)
        return self.verify_recordings(recordings, test, operating_point, costs)

    def verify_recordings(
        self, speaker: str | Sequence[Recording], test: Recording, operating_point: str = "eer", costs: Costs = EVEN
    ) -> VerificationResult:
        """Decide whether recordings that were read already are of one speaker: `verify` without its reading.

        Args:
            speaker: the name of an enrolled voice, or recordings of one speaker, whose embeddings are averaged.
            test: the recording in question.
            operating_point: as in `verify`.
            costs: prior and costs, as in `verify`.

        Raises:
            ValueError: as `verify` does.
        """
        check_choice("operating_point", operating_point, POINTS)
        if isinstance(speaker, str):
            self.voices.check(self.fingerprint())
            voice = self.voices.get(speaker)
            embedded = embed_recordings(self.embedder, [test])
            sides = (voice.speech, test.speech.seconds)
            return self._answer(voice.vector, embedded, sides, [test], operating_point, costs)
        if not speaker:
            raise ValueError("There are no recordings to compare with: give one or more.")
        recordings = [*speaker, test]
        embedded = embed_recordings(self.embedder, recordings)
        rows = np.stack([vectors.embedding for vectors in embedded[:-1]])
        mean = weighted_mean(rows, np.full(len(rows), 1 / len(rows)))
        seconds = [recording.speech.seconds for recording in recordings]
        return self._answer(mean, embedded, (sum(seconds[:-1]), seconds[-1]), recordings, operating_point, costs)

    def decide(
        self,
        enrolled: Embeddings,
        other: Embedding,
        operating_point: str = "eer",
        notes: Iterable[str] = (),
        speech: float | None = None,
        network: str | None = None,
    ) -> VerificationResult:
        """Decide whether an embedding is of an enrolled speaker.

        Thresholds and calibration decide only while the weights are the ones that they were measured with.

        Args:
            enrolled: (enrolments, embedding_size), unit length, of one speaker; their mean is compared.
            other: (embedding_size,), unit length.
            operating_point: as in `verify`.
            notes: sentences about the recordings, which come first in the warnings of the answer.
            speech: seconds of speech of the shorter side; None: a calibration is used without them.
            network: network that found the speech, as `Speech.network`.

        Raises:
            ValueError: for a score that is not finite.
        """
        speaker = enrolled.mean(0) / max(float(np.linalg.norm(enrolled.mean(0))), 1e-12)
        return self._decide(speaker, other, speech, network, operating_point, EVEN, notes)

    def _answer(
        self,
        speaker: Embedding,
        embedded: Sequence[EmbeddedRecording],
        speech: tuple[float, float],
        recordings: Sequence[Recording],
        operating_point: str,
        costs: Costs,
    ) -> VerificationResult:
        """Decide between a speaker and the last recording. speech: seconds of both sides; recordings: with flaws."""
        notes = [*sentences_about(recordings), *self._several_speakers(recordings, embedded)]
        network, other = recordings[-1].speech.network, embedded[-1].embedding
        return self._decide(speaker, other, min(speech), network, operating_point, costs, notes)

    def _several_speakers(self, recordings: Sequence[Recording], embedded: Sequence[EmbeddedRecording]) -> list[str]:
        """Look for a second speaker in the recordings that were embedded in windows."""
        gate = self._gate()
        pairs = zip(recordings, embedded, strict=True)
        return [
            doubt
            for one, vectors in pairs
            if len(vectors.windows) > 1
            for doubt in gate.doubt_of_one_speaker(one, vectors)
        ]

    def _decide(
        self,
        speaker: Embedding,
        other: Embedding,
        speech: float | None,
        network: str | None,
        operating_point: str,
        costs: Costs,
        notes: Iterable[str],
    ) -> VerificationResult:
        warned = builtins.list(notes)
        score = float(speaker @ other)
        if not np.isfinite(score):
            raise ValueError("The score is not a finite number: look at the model and the recordings.")
        thresholds, calibration = self._of_these_weights(self.thresholds), self._of_these_weights(self.calibration)
        warned += [OTHER_WEIGHTS] if self.thresholds is not None and thresholds is None else []
        warned += [OTHER_CALIBRATION] if self.calibration is not None and calibration is None else []
        line = None
        if calibration is not None and calibration.cohort is not None and self.cohort is not None:
            line = self.cohort.line(speaker, other)
        result = decide(Evidence(score, speech, network, line), thresholds, calibration, operating_point, costs)
        return replace(result, warnings=(*warned, *result.warnings))

    # ---- voices ----

    def enroll(
        self, name: str, recordings: AudioSource | Sequence[AudioSource], consent: str = "", channel: int | None = None
    ) -> Enrolment:
        """Enrol a voice under a new name.

        Args:
            name: name of the speaker, 1 to 100 letters without slashes.
            recordings: one recording as in `embed`, or several; each is kept as a vector.
            consent: note of consent, kept with each vector.
            channel: the channel to take of each, from 0; None mixes them.

        Returns:
            What was enrolled, with sentences about flaws that do not forbid it.

        Raises:
            ValueError: for a name that is enrolled already, for a recording with less than 1 s of speech, a clipped
                one, and one that does not agree with the others; for voices of another model.
            OSError, TypeError: as `embed` does.
        """
        return self.enroll_recordings(name, _read_voice(recordings, channel), consent)

    def enroll_recordings(self, name: str, recordings: Sequence[Recording], consent: str = "") -> Enrolment:
        """Enrol a voice of recordings that were read already: `enroll` without its reading.

        Args:
            name: as in `enroll`.
            recordings: recordings of one speaker.
            consent: as in `enroll`.

        Raises:
            ValueError: as `enroll` does.
        """
        voice, sentences = self._voice_of(name, recordings, consent)
        self.voices.add(voice)
        return _described(voice, sentences)

    def update(
        self, name: str, recordings: AudioSource | Sequence[AudioSource], consent: str = "", channel: int | None = None
    ) -> Enrolment:
        """Add recordings to an enrolled voice.

        Args:
            name: name of the speaker.
            recordings: as in `enroll`.
            consent: as in `enroll`.
            channel: as in `enroll`.

        Raises:
            ValueError: for a name that is not enrolled, for recordings that do not agree with the voice, and as
                `enroll` does.
            OSError, TypeError: as `embed` does.
        """
        return self.update_recordings(name, _read_voice(recordings, channel), consent)

    def update_recordings(self, name: str, recordings: Sequence[Recording], consent: str = "") -> Enrolment:
        """Add recordings that were read already to an enrolled voice: `update` without its reading.

        Args:
            name: as in `update`.
            recordings: recordings of that speaker.
            consent: as in `enroll`.

        Raises:
            ValueError: as `update` does.
        """
        known = self.voices.get(name)
        voice, sentences = self._voice_of(known.name, recordings, consent)
        self._gate().check_same_speaker(known, voice)
        return _described(self.voices.extend(voice), sentences)

    def identify(self, recording: AudioSource, top_k: int = 3, channel: int | None = None) -> Identification:
        """Find the enrolled voices that are nearest to a recording.

        The more voices, the likelier it is that a stranger is near one of them: trust the probability, which is at the
        prior 1/N, and not the first place.

        Args:
            recording: a recording as in `embed`.
            top_k: voices that are returned, at most.
            channel: the channel to take, from 0; None mixes them.

        Raises:
            ValueError: where nobody is enrolled, for voices of another model, and as `embed` does.
            OSError, TypeError: as `embed` does.
        """
        return self.identify_recording(read_for_embedding(recording, 1, channel), top_k)

    def identify_recording(self, heard: Recording, top_k: int = 3) -> Identification:
        """Find the voices nearest to a recording that was read already: `identify` without its reading.

        Args:
            heard: the recording.
            top_k: as in `identify`.

        Raises:
            ValueError: as `identify` does.
        """
        self.voices.check(self.fingerprint())
        (embedded,) = embed_recordings(self.embedder, [heard])
        calibration, warned = self._of_these_weights(self.calibration), sentences_about([heard])
        warned += self._several_speakers([heard], [embedded])
        warned += [OTHER_CALIBRATION] if self.calibration is not None and calibration is None else []
        cohort = None if calibration is None or calibration.cohort is None else self.cohort
        speech = heard.speech
        index = self.voices.near(embedded.embedding, top_k)
        matches, margin = nearest(
            index, embedded.embedding, speech.seconds, speech.network, calibration, top_k, cohort
        )
        return Identification(matches, margin, tuple(warned))

    def forget(self, name: str) -> None:
        """Remove an enrolled voice; no byte of it stays in the file of the voices.

        Args:
            name: name of the speaker.

        Raises:
            ValueError: for a name that is not enrolled.
        """
        self.voices.forget(name)

    def rename(self, old: str, new: str) -> None:
        """Give an enrolled voice another name.

        Args:
            old: name of the speaker.
            new: another name, which is not enrolled.

        Raises:
            ValueError: for a name that is not enrolled, and for one that is or cannot be.
        """
        self.voices.rename(old, new)

    def list(self) -> builtins.list[Enrolment]:
        """List the enrolled voices."""
        return [_described(voice, ()) for voice in self.voices.voices().values()]

    def _voice_of(self, name: str, recordings: Sequence[Recording], consent: str) -> tuple[Voice, tuple[str, ...]]:
        self.voices.check(self.fingerprint())
        voice, sentences = self._gate().voice(name, recordings, consent)
        return voice, (*level_alone(recordings), *sentences)

    def _of_these_weights(self, measured: Measured | None) -> Measured | None:
        """Return a measurement while it is of the weights in use, else None."""
        return measured if measured is not None and measured.fingerprint == self.fingerprint() else None

    def _gate(self) -> Gate:
        calibration, thresholds = (self._of_these_weights(self.calibration), self._of_these_weights(self.thresholds))
        return Gate(self.embedder, calibration, thresholds)

    # ---- calibration ----

    def calibrate(
        self, pairs: Iterable[Pair], operating_point: str = "eer", channel: int | None = None, data: str = ""
    ) -> CalibrationChange:
        """Calibrate on pairs of own recordings; the weights stay as they are.

        This verifier decides by the new calibration from now on; `change.calibration.save(folder)` keeps it, and
        `restore_calibration(folder)` puts the one before back.

        Args:
            pairs: (label, enrol, test) of each, 20 to 20,000: 1 or "same", 0 or "different", and paths of two
                recordings.
            operating_point: operating point that the pairs must support.
            channel: the channel to take of each recording, from 0; None mixes them.
            data: description of the pairs, for people.

        Returns:
            What has changed, with intervals.

        Raises:
            ValueError: for too few pairs, pairs of one kind, labels that contradict each other, and an operating point
                that the pairs cannot support; as `embed` does.
            OSError, TypeError: as `embed` does.
            ImportError: without scikit-learn.
        """
        check_choice("operating_point", operating_point, OPERATING_POINTS)
        trials = trials_of_pairs(pairs)
        read = ((name, read_for_embedding(name, channel=channel)) for name in trials.utterances())
        heard = hear(self.embedder, read)
        before = [
            self._decide(*heard.sides(first, second), operating_point, EVEN, ())
            for first, second in zip(trials.enrolments, trials.tests, strict=True)
        ]
        decided = [(result.llr, result.same_speaker) for result in before]
        description, known = data or "pairs of the user", self._of_these_weights(self.calibration)
        change = calibrate_on_pairs(
            trials,
            heard,
            self.fingerprint(),
            operating_point,
            decided,
            self._of_these_weights(self.cohort),
            description,
            known,
        )
        self.calibration = change.calibration
        return change


def _read_voice(recordings: AudioSource | Sequence[AudioSource], channel: int | None) -> builtins.list[Recording]:
    sources = [cast(AudioSource, recordings)] if is_a_recording(recordings) else recordings
    return builtins.list(read_all(cast(Sequence[AudioSource], sources), channel))


def _described(voice: Voice, sentences: tuple[str, ...]) -> Enrolment:
    return Enrolment(voice.name, len(voice.facts), round(voice.speech, 2), sentences)
