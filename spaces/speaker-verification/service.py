"""Answer the page's questions without the page: open the models, check recordings, compare and identify."""

import io
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from words import ANSWERS, translate

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.decoding import END_UNKNOWN, UNKNOWN, NotReadable, open_recording
from modeling_oskdft.audio.ffmpeg import container_in, end_is_known, to_wav
from modeling_oskdft.audio.loading import SAMPLING_RATE, Waveform, count_samples, read_recording
from modeling_oskdft.audio.speech import inspect_recording
from modeling_oskdft.scoring.thresholds import OPERATING_POINTS

Embedding = NDArray[np.float32]
LEAST_SECONDS, MOST_SECONDS = 0.1, 60.0
MOST_BYTES = 12 * 2**20  # 60 s of 48 kHz stereo with 16 bits
FFMPEG_SECONDS = 30.0  # that ffmpeg may take
MOST_SAMPLES = 60 * 48_000 * 8  # in all channels together, before they are mixed and resampled
MOST_VOICES, LONGEST_NAME = 20, 40
DEFAULT_MODEL = "quickstart/student"


class Refusal(Exception):
    """Refuse a visitor's recording or name; the message is one sentence in the visitor's language."""


@dataclass(frozen=True)
class Verdict:
    """Hold the answer of one model.

    Args:
        model: its name on the page.
        score: cosine of the two embeddings, -1 to 1.
        threshold: the decision is "the same speaker" from this score on; None: there is none.
        milliseconds: time of both embeddings.
    """

    model: str
    score: float
    threshold: float | None
    milliseconds: float

    @property
    def kind(self) -> str:
        """Return the decision: same, different or undecided."""
        if self.threshold is None:
            return "undecided"
        return "same" if self.score >= self.threshold else "different"


@dataclass(frozen=True)
class Answer:
    """Hold the answer to two recordings.

    Args:
        verdicts: the student's, then the teacher's where there is one.
        waveforms: both recordings at 16 kHz.
        warnings: sentences about the recordings and the threshold, in the visitor's language.
    """

    verdicts: tuple[Verdict, ...]
    waveforms: tuple[Waveform, Waveform]
    warnings: tuple[str, ...]


def check_size(content: bytes, label: str) -> None:
    """Refuse a small file that unpacks to more samples than this machine should hold.

    Args:
        content: the file.
        label: name of the recording in the message.

    Raises:
        ValueError: the file cannot be read, has no length, or has too many channels at too high a rate.
    """
    try:
        with open_recording(io.BytesIO(content)) as recording:
            largest = max(recording.parts, key=lambda stream: stream.frames * stream.channels)
    except NotReadable as error:
        raise ValueError(f"{label} {error}") from None
    if largest.frames >= UNKNOWN:
        raise ValueError(f"{label} does not say how long it is: write it to a file, not to a pipe.")
    seconds = largest.frames / largest.samplerate
    # Longer files get the sentence about their length, from `Service.read`.
    if seconds <= MOST_SECONDS and largest.frames * largest.channels > MOST_SAMPLES:
        raise ValueError(f"{label} has {largest.channels} channels at {largest.samplerate} Hz: give one at 16000 Hz.")


class Service:
    """Answer for a student, and for a teacher beside it; it keeps nothing of any visitor.

    Args:
        model: folder or repository of the student.
        teacher: folder or repository of a verifier to show beside it.
    """

    def __init__(self, model: str, teacher: str | None = None) -> None:
        self.name = model
        self.student = SpeakerVerifier.from_pretrained(model)
        self.teacher = SpeakerVerifier.from_pretrained(teacher) if teacher else None
        self.thresholds = self.student.thresholds

    @property
    def points(self) -> list[str]:
        """Return the operating points for which the student has a threshold."""
        known = self.thresholds.values if self.thresholds else {}
        return [name for name in OPERATING_POINTS if known.get(name) is not None]

    def threshold(self, point: str, slider: float | None = None) -> float | None:
        """Return the student's threshold, or the visitor's own.

        Args:
            point: an operating point, or "slider".
            slider: the visitor's own threshold, which is limited to -1 and 1.

        Returns:
            None where the model has no such threshold, or the slider's value is no finite number.
        """
        if point == "slider" and isinstance(slider, int | float) and math.isfinite(slider):
            return min(max(float(slider), -1.0), 1.0)
        if point not in OPERATING_POINTS:
            return None
        return self.thresholds.values.get(point) if self.thresholds else None

    def compare(
        self, first: str | None, second: str | None, point: str, slider: float | None, language: str
    ) -> Answer:
        """Compare two recordings.

        Args:
            first: path of a file; None or empty: there is none.
            second: path of another file.
            point: an operating point, or "slider".
            slider: the visitor's own threshold.
            language: one of `words.LANGUAGES`.

        Raises:
            Refusal: a recording is missing, too short or too long, silent, or no audio.
        """
        texts = ANSWERS[language]
        recordings = (
            self.read(first, f"{texts['recording']} 1", language),
            self.read(second, f"{texts['recording']} 2", language),
        )
        waveforms = (recordings[0][0], recordings[1][0])
        warnings = []
        for number, (waveform, notes) in enumerate(recordings, start=1):
            warnings += [f"Recording {number} {note}" for note in notes] + inspect_recording(
                waveform, f"Recording {number}"
            )
        if self.thresholds is not None and point in OPERATING_POINTS:
            doubt = self.thresholds.doubt(point)
            warnings += [] if doubt is None else [doubt]
        threshold = self.threshold(point, slider)
        if threshold is None:
            warnings.append(f"The model has no threshold at {point[:20]}: the score is all that can be said.")
        verdicts = [self._verdict(self.student, texts["student"], waveforms, threshold, language)]
        if self.teacher is not None:
            # The teacher's scores have another scale than the student's, so the slider does not apply to them.
            known = self.teacher.thresholds.values if self.teacher.thresholds else {}
            verdicts.append(self._verdict(self.teacher, texts["teacher"], waveforms, known.get(point), language))
        return Answer(tuple(verdicts), waveforms, tuple(translate(warning, language) for warning in warnings))

    def embed(self, file: str | None, label: str, language: str) -> tuple[Embedding, tuple[str, ...]]:
        """Embed one recording with the student; returns the embedding and the warnings. Raises as `read`."""
        waveform, notes = self.read(file, label, language)
        sentences = [*(f"{label} {note}" for note in notes), *inspect_recording(waveform, label)]
        warnings = tuple(translate(sentence, language) for sentence in sentences)
        return self._embeddings(self.student, [waveform], language)[0], warnings

    def read(self, file: str | None, label: str, language: str) -> tuple[Waveform, tuple[str, ...]]:
        """Read a visitor's file.

        Args:
            file: its path; None or empty: there is none.
            label: name of the recording in messages.
            language: of the messages.

        Returns:
            The waveform (samples,) at 16 kHz, and notes about its end, such as `END_UNKNOWN`.

        Raises:
            Refusal: the file is missing, too large, too short, too long, silent, or no audio.
        """
        texts = ANSWERS[language]
        if not file:
            raise Refusal(texts["missing"].format(label))
        try:
            size = Path(file).stat().st_size
            if size > MOST_BYTES:
                raise Refusal(texts["too_large"].format(label, size / 2**20, MOST_BYTES / 2**20))
            content, container_notes = _unpacked(Path(file).read_bytes())
            check_size(content, label)
            seconds = count_samples(content) / SAMPLING_RATE  # by its header: a small file can hold hours of silence
            if seconds < LEAST_SECONDS:
                raise Refusal(texts["too_short"].format(label, seconds))
            if seconds > MOST_SECONDS:
                raise Refusal(texts["too_long"].format(label, MOST_SECONDS))
            waveform, notes = read_recording(content)
        except FileNotFoundError as error:
            if Path(file).exists():  # then ffmpeg is missing
                raise Refusal(f"{texts['unreadable'].format(label)} ({error})") from None
            raise Refusal(texts["gone"].format(label)) from None
        except (ValueError, OSError) as error:
            reason = str(error).replace("The audio file", label, 1)
            reason = reason if reason.startswith(label) else f"{label} cannot be read ({reason})."
            raise Refusal(translate(reason, language)) from None
        try:
            inspect_recording(waveform, label)
        except ValueError as error:  # it is silent
            raise Refusal(translate(str(error), language)) from None
        return waveform, notes if container_notes is None else container_notes

    def _verdict(
        self,
        verifier: SpeakerVerifier,
        name: str,
        waveforms: tuple[Waveform, Waveform],
        threshold: float | None,
        language: str,
    ) -> Verdict:
        start = time.perf_counter()
        first, second = self._embeddings(verifier, waveforms, language)
        milliseconds = 1000 * (time.perf_counter() - start)
        return Verdict(name, float(first @ second), threshold, milliseconds)

    @staticmethod
    def _embeddings(
        verifier: SpeakerVerifier, waveforms: tuple[Waveform, ...] | list[Waveform], language: str
    ) -> NDArray[np.float32]:
        try:
            return verifier.embed_waveforms(waveforms)  # their warnings are in the answer already
        except ValueError as error:  # the recording is too short for one frame
            raise Refusal(translate(str(error), language)) from None

    def enrol(
        self, voices: dict[str, Embedding], name: str, file: str | None, label: str, language: str
    ) -> tuple[dict[str, Embedding], tuple[str, ...]]:
        """Add a voice to a visitor's voices; the same name again replaces it.

        Args:
            voices: name to embedding; it is not changed.
            name: of the new voice.
            file: path of its recording.
            label: name of the recording in messages.
            language: of the messages.

        Returns:
            The voices with the new one, and the warnings about the recording.

        Raises:
            Refusal: there is no name, it is too long, there are too many voices, or as `read`.
        """
        texts, name = ANSWERS[language], " ".join(name[: 10 * LONGEST_NAME].encode(errors="ignore").decode().split())
        if not name:
            raise Refusal(texts["no_name"])
        if len(name) > LONGEST_NAME:
            raise Refusal(texts["long_name"].format(len(name), LONGEST_NAME))
        if len(voices) >= MOST_VOICES and name not in voices:
            raise Refusal(texts["too_many"].format(len(voices)))
        embedding, warnings = self.embed(file, label, language)
        return voices | {name: embedding}, warnings

    def identify(
        self, voices: dict[str, Embedding], file: str | None, label: str, language: str
    ) -> tuple[list[tuple[str, float]], tuple[str, ...]]:
        """Find the visitor's voices that are closest to a recording.

        Args:
            voices: name to embedding.
            file: path of the recording.
            label: name of the recording in messages.
            language: of the messages.

        Returns:
            (name, score) of every voice, the closest first, and the warnings about the recording.

        Raises:
            Refusal: nobody is enrolled, or as `read`.
        """
        if not voices:
            raise Refusal(ANSWERS[language]["nobody"])
        embedding, warnings = self.embed(file, label, language)
        scores = [(name, float(voice @ embedding)) for name, voice in voices.items()]
        return sorted(scores, key=lambda pair: -pair[1]), warnings

    def card(self) -> str:
        """Return the model's card without its front matter; the model's name where it has no card."""
        folder = Path(self.name)
        if folder.is_dir():
            page = folder / "README.md"
            text = page.read_text(encoding="utf-8") if page.is_file() else f"# {folder.name}"
        else:
            from huggingface_hub import ModelCard
            from huggingface_hub.errors import EntryNotFoundError

            try:
                text = ModelCard.load(self.name).text
            except EntryNotFoundError:
                text = f"# {self.name}"
        return text.split("\n---\n", 1)[-1] if text.startswith("---\n") else text


def _unpacked(content: bytes) -> tuple[bytes, tuple[str, ...] | None]:
    """Turn a file that ffmpeg has to read into WAV, and leave others.

    The notes are about the end of the visitor's file, not of the WAV; None for a file that was left.
    """
    container = container_in(io.BytesIO(content))
    if container is None:
        return content, None
    notes = () if end_is_known(container, io.BytesIO(content)) else (END_UNKNOWN,)
    return to_wav(content, container, MOST_SECONDS + 1, FFMPEG_SECONDS), notes


def open_service() -> Service:
    """Open the models that OSKDFT_MODEL and OSKDFT_TEACHER name.

    Without OSKDFT_MODEL it is the quickstart's small model, which is made at the first start.
    """
    model = os.environ.get("OSKDFT_MODEL")
    if not model:
        model = DEFAULT_MODEL
        if not Path(model, "README.md").is_file():  # the last file that the quickstart writes there
            from modeling_oskdft.commands.demonstration import run

            print("No OSKDFT_MODEL is set: making the quickstart's small model, in a few minutes.", flush=True)
            run(Path(model).parent)
    return Service(model, os.environ.get("OSKDFT_TEACHER"))
