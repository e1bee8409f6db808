"""What the page does, without the page: models, limits, answers."""

import io
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from words import SAID, translate

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.decoding import END_UNKNOWN, UNKNOWN, NotReadable, open_recording
from modeling_oskdft.audio.ffmpeg import container_in, end_is_known, to_wav
from modeling_oskdft.audio.loading import SAMPLING_RATE, Waveform, count_samples, read_recording
from modeling_oskdft.audio.speech import look_at, speech_seconds
from modeling_oskdft.scoring.thresholds import OPERATING_POINTS

Embedding = NDArray[np.float32]
LEAST_SECONDS, MOST_SECONDS = 0.1, 60.0
MOST_BYTES = 12 * 2**20  # 60 s of 48 kHz stereo with 16 bits
PATIENCE = 30.0  # seconds that ffmpeg may take
MOST_SAMPLES = 60 * 48_000 * 8  # of all channels, before they are mixed and resampled
MOST_VOICES, LONGEST_NAME = 20, 40
DEFAULT_MODEL = "quickstart/student"


class Refusal(Exception):
    """A sentence for the visitor: what was given, what is wanted, what to do."""


@dataclass(frozen=True)
class Verdict:
    """One model's answer. milliseconds: of both embeddings."""

    model: str
    score: float
    threshold: float | None
    milliseconds: float

    @property
    def kind(self) -> str:
        """same, different or undecided."""
        if self.threshold is None:
            return "undecided"
        return "same" if self.score >= self.threshold else "different"


@dataclass(frozen=True)
class Answer:
    """The student's verdict first, the teacher's after it where there is one."""

    verdicts: tuple[Verdict, ...]
    waveforms: tuple[Waveform, Waveform]
    warnings: tuple[str, ...]


def check_size(content: bytes, label: str) -> None:
    """Raise `ValueError` for a small file that holds more samples than this machine wants to see."""
    try:
        with open_recording(io.BytesIO(content)) as recording:
            part = max(recording.parts, key=lambda part: part.frames * part.channels)
    except NotReadable as error:
        raise ValueError(f"{label} {error}") from None
    if part.frames >= UNKNOWN:
        raise ValueError(f"{label} does not say how long it is: write it to a file, not to a pipe.")
    seconds = part.frames / part.samplerate
    if seconds <= MOST_SECONDS and part.frames * part.channels > MOST_SAMPLES:  # what is longer is told so
        raise ValueError(f"{label} has {part.channels} channels at {part.samplerate} Hz: give one at 16000 Hz.")


class Service:
    """A student, and a teacher beside it where one is configured. Holds nothing of any visitor."""

    def __init__(self, model: str, teacher: str | None = None) -> None:
        self.name = model
        self.student = SpeakerVerifier.from_pretrained(model)
        self.teacher = SpeakerVerifier.from_pretrained(teacher) if teacher else None
        self.thresholds = self.student.thresholds

    @property
    def points(self) -> list[str]:
        """The operating points that the student has a threshold for."""
        known = self.thresholds.values if self.thresholds else {}
        return [name for name in OPERATING_POINTS if known.get(name) is not None]

    def threshold(self, point: str, slider: float | None = None) -> float | None:
        """The student's threshold at a named operating point, or the visitor's own."""
        if point == "slider" and isinstance(slider, int | float) and math.isfinite(slider):
            return min(max(float(slider), -1.0), 1.0)
        if point not in OPERATING_POINTS:
            return None
        return self.thresholds.values.get(point) if self.thresholds else None

    def compare(
        self, first: str | None, second: str | None, point: str, slider: float | None, language: str
    ) -> Answer:
        """Two files to an answer, decided at the operating point. Raises `Refusal`."""
        said = SAID[language]
        heard = (
            self.listen(first, f"{said['recording']} 1", language),
            self.listen(second, f"{said['recording']} 2", language),
        )
        waveforms = (heard[0][0], heard[1][0])
        found = []
        for number, (waveform, notes) in enumerate(heard, start=1):
            found += [f"Recording {number} {note}" for note in notes] + look_at(waveform, f"Recording {number}")
        if self.thresholds is not None and point in OPERATING_POINTS:
            doubt = self.thresholds.doubt(point)
            found += [] if doubt is None else [doubt]
        threshold = self.threshold(point, slider)
        if threshold is None:
            found.append(f"The model has no threshold at {point[:20]}: the score is all that can be said.")
        verdicts = [self._verdict(self.student, said["student"], waveforms, threshold, language)]
        if self.teacher is not None:
            # Its scores have a scale of their own: the student's slider says nothing about them.
            own = self.teacher.thresholds.values.get(point) if self.teacher.thresholds else None
            verdicts.append(self._verdict(self.teacher, said["teacher"], waveforms, own, language))
        return Answer(tuple(verdicts), waveforms, tuple(translate(one, language) for one in found))

    def embed(self, file: str | None, label: str, language: str) -> tuple[Embedding, tuple[str, ...]]:
        """A voice, and what is wrong with its recording. Raises `Refusal`."""
        waveform, notes = self.listen(file, label, language)
        said = [*(f"{label} {note}" for note in notes), *look_at(waveform, label)]
        found = tuple(translate(one, language) for one in said)
        return self._embeddings(self.student, [waveform], language)[0], found

    def listen(self, file: str | None, label: str, language: str) -> tuple[Waveform, tuple[str, ...]]:
        """A visitor's file as speech at 16 kHz, and what is not sure about it.

        Raises `Refusal` for what is none, or too long, with the reason.
        """
        said = SAID[language]
        if not file:
            raise Refusal(said["missing"].format(label))
        try:
            size = Path(file).stat().st_size
            if size > MOST_BYTES:
                raise Refusal(said["too_large"].format(label, size / 2**20, MOST_BYTES / 2**20))
            content = Path(file).read_bytes()
            container = container_in(io.BytesIO(content))
            own: tuple[str, ...] | None = None  # notes about the file itself, not about what ffmpeg makes of it
            if container is not None:
                own = () if end_is_known(container, io.BytesIO(content)) else (END_UNKNOWN,)
                content = to_wav(content, container, MOST_SECONDS + 1, PATIENCE)
            check_size(content, label)
            seconds = count_samples(content) / SAMPLING_RATE  # by its header: a small file can hold hours of silence
            if seconds < LEAST_SECONDS:
                raise Refusal(said["too_short"].format(label, seconds))
            if seconds > MOST_SECONDS:
                raise Refusal(said["too_long"].format(label, MOST_SECONDS))
            waveform, notes = read_recording(content)
            notes = notes if own is None else own
        except FileNotFoundError as error:
            if Path(file).exists():  # it is ffmpeg that is missing
                raise Refusal(f"{said['unreadable'].format(label)} ({error})") from None
            raise Refusal(said["gone"].format(label)) from None
        except (ValueError, OSError) as error:
            reason = str(error).replace("The audio file", label, 1)
            reason = reason if reason.startswith(label) else f"{label} cannot be read ({reason})."
            raise Refusal(translate(reason, language)) from None
        if speech_seconds(waveform) == 0:
            raise Refusal(translate(f"{label} is silent: give a recording with speech in it.", language))
        return waveform, notes

    def _verdict(
        self,
        verifier: SpeakerVerifier,
        name: str,
        waveforms: tuple[Waveform, Waveform],
        threshold: float | None,
        language: str,
    ) -> Verdict:
        start = time.perf_counter()
        one, other = self._embeddings(verifier, waveforms, language)
        milliseconds = 1000 * (time.perf_counter() - start)
        return Verdict(name, float(one @ other), threshold, milliseconds)

    @staticmethod
    def _embeddings(
        verifier: SpeakerVerifier, waveforms: tuple[Waveform, ...] | list[Waveform], language: str
    ) -> NDArray[np.float32]:
        try:
            return verifier.embed_waveforms(waveforms)  # what is wrong with them is part of the answer already
        except ValueError as error:  # too short for one frame
            raise Refusal(translate(str(error), language)) from None

    def enrol(
        self, voices: dict[str, Embedding], name: str, file: str | None, label: str, language: str
    ) -> tuple[dict[str, Embedding], tuple[str, ...]]:
        """The visitor's voices with one more; the same name again replaces it. Raises `Refusal`."""
        said, name = SAID[language], " ".join(name[: 10 * LONGEST_NAME].encode(errors="ignore").decode().split())
        if not name:
            raise Refusal(said["no_name"])
        if len(name) > LONGEST_NAME:
            raise Refusal(said["long_name"].format(len(name), LONGEST_NAME))
        if len(voices) >= MOST_VOICES and name not in voices:
            raise Refusal(said["too_many"].format(len(voices)))
        embedding, found = self.embed(file, label, language)
        return voices | {name: embedding}, found

    def identify(
        self, voices: dict[str, Embedding], file: str | None, label: str, language: str
    ) -> tuple[list[tuple[str, float]], tuple[str, ...]]:
        """Who of the visitor's voices is heard: (name, score) from the closest down. Raises `Refusal`."""
        if not voices:
            raise Refusal(SAID[language]["nobody"])
        embedding, found = self.embed(file, label, language)
        scores = [(name, float(voice @ embedding)) for name, voice in voices.items()]
        return sorted(scores, key=lambda pair: -pair[1]), found

    def card(self) -> str:
        """The model's card without its front matter."""
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


def open_service() -> Service:
    """The model that OSKDFT_MODEL names, OSKDFT_TEACHER beside it; with none, the quickstart's, made when needed."""
    model = os.environ.get("OSKDFT_MODEL")
    if not model:
        model = DEFAULT_MODEL
        if not Path(model, "README.md").is_file():  # the last that the quickstart writes there
            from modeling_oskdft.commands.quickstart import run

            print("No OSKDFT_MODEL is set: making the quickstart's small model, in a few minutes.", flush=True)
            run(Path(model).parent)
    return Service(model, os.environ.get("OSKDFT_TEACHER"))
