"""Answer the page's questions without the page: open the models, check recordings, compare and identify."""

import io
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from words import ANSWERS, translate

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.decoding import END_UNKNOWN, UNKNOWN, NotReadable, open_recording
from modeling_oskdft.audio.ffmpeg import container_in, end_is_known, to_wav
from modeling_oskdft.audio.loading import SAMPLING_RATE, Waveform, count_samples, read_recording
from modeling_oskdft.audio.speech import Inspection, inspect
from modeling_oskdft.audio.track import Track
from modeling_oskdft.embedding.recordings import Recording, embed_recordings, level_alone, sentences_about
from modeling_oskdft.scoring.thresholds import OPERATING_POINTS
from modeling_oskdft.verification.decision import Evidence, decide
from modeling_oskdft.verification.enrolment import Gate, Match, nearest
from modeling_oskdft.verification.voices import VoiceStore

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
        llr: log-likelihood ratio; None: the model has no calibration.
        probability: probability of one speaker, at a prior of one half; None without calibration.
    """

    model: str
    score: float
    threshold: float | None
    milliseconds: float
    llr: float | None = None
    probability: float | None = None

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


@dataclass(frozen=True)
class Heard:
    """Hold a visitor's recording.

    Args:
        waveform: (samples,) at 16 kHz.
        inspection: where its speech is, and its flaws.
        notes: notes about its end.
    """

    waveform: Waveform
    inspection: Inspection
    notes: tuple[str, ...]

    def recording(self, name: str) -> Recording:
        """Return the recording as the library verifies and enrols it, with its flaws under a name."""
        inspection = self.inspection
        flaws = (*(f"{name} {note}" for note in self.notes), *inspection.faults(name))
        return Recording(
            name, Track(self.waveform), inspection.speech, flaws, inspection.is_clipped, inspection.is_narrow_band
        )


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
        self._gate = Gate(self.student.embedder, self.student.calibration, self.student.thresholds)

    @property
    def points(self) -> list[str]:
        """Return the operating points for which the student has a threshold."""
        known: dict[str, object] = dict(self.thresholds.values) if self.thresholds else {}
        if self.student.calibration:
            known |= {name: point for name, point in self.student.calibration.operating_points.items() if point}
        return [name for name in OPERATING_POINTS if known.get(name) is not None]

    @staticmethod
    def slider_threshold(point: str, slider: float | None) -> float | None:
        """Return the visitor's own threshold, limited to -1 and 1; None where it is not chosen or no finite number.

        Args:
            point: an operating point, or "slider".
            slider: the visitor's own threshold.
        """
        if point == "slider" and isinstance(slider, int | float) and math.isfinite(slider):
            return min(max(float(slider), -1.0), 1.0)
        return None

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
        waveforms = (recordings[0].waveform, recordings[1].waveform)
        read = tuple(heard.recording(f"Recording {number}") for number, heard in enumerate(recordings, 1))
        warnings = sentences_about(read)
        own = self.slider_threshold(point, slider)
        verdicts = []
        models = {"student": self.student} | ({} if self.teacher is None else {"teacher": self.teacher})
        for name, verifier in models.items():
            # The teacher's scores have another scale than the student's, so the slider does not apply to them.
            verdict, doubts = self._verdict(
                verifier, texts[name], read, point, own if name == "student" else None, language
            )
            verdicts.append(verdict)
            warnings += [doubt for doubt in doubts if name == "student" and doubt not in warnings]
        return Answer(tuple(verdicts), waveforms, tuple(translate(warning, language) for warning in warnings))

    def read(self, file: str | None, label: str, language: str) -> "Heard":
        """Read a visitor's file.

        Args:
            file: its path; None or empty: there is none.
            label: name of the recording in messages.
            language: of the messages.

        Returns:
            The recording, with where its speech is and notes about its end, such as `END_UNKNOWN`.

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
        inspection = inspect(waveform)
        try:
            inspection.faults(label)
        except ValueError as error:  # it is silent
            raise Refusal(translate(str(error), language)) from None
        return Heard(waveform, inspection, notes if container_notes is None else container_notes)

    def _verdict(
        self,
        verifier: SpeakerVerifier,
        name: str,
        recordings: tuple[Recording, ...],
        point: str,
        own: float | None,
        language: str,
    ) -> tuple[Verdict, list[str]]:
        """Return the answer of a model, and sentences of doubt about it. own: the visitor's threshold."""
        start = time.perf_counter()
        try:
            result = verifier.verify_recordings(
                recordings[:1], recordings[1], point if point in OPERATING_POINTS else "eer"
            )
        except ValueError as error:  # the recording is too short for one frame
            raise Refusal(translate(str(error), language)) from None
        milliseconds = 1000 * (time.perf_counter() - start)
        threshold = own if point == "slider" else result.threshold
        doubts = [] if point == "slider" else list(result.warnings)
        return Verdict(name, result.score, threshold, milliseconds, result.llr, result.probability), doubts

    def enrol(
        self, voices: VoiceStore, name: str, file: str | None, label: str, language: str
    ) -> tuple[list[str], tuple[str, ...]]:
        """Add a voice to a visitor's voices; the same name again replaces it.

        Args:
            voices: the visitor's voices, in memory.
            name: of the new voice.
            file: path of its recording.
            label: name of the recording in messages.
            language: of the messages.

        Returns:
            The names of all voices, and the warnings about the recording.

        Raises:
            Refusal: there is no name, it is too long, there are too many voices, the recording is not good enough, or
                as `read`.
        """
        texts, name = ANSWERS[language], " ".join(name[: 10 * LONGEST_NAME].encode(errors="ignore").decode().split())
        if not name:
            raise Refusal(texts["no_name"])
        if len(name) > LONGEST_NAME:
            raise Refusal(texts["long_name"].format(len(name), LONGEST_NAME))
        if len(voices) >= MOST_VOICES and name not in voices:
            raise Refusal(texts["too_many"].format(len(voices)))
        recordings = [self.read(file, label, language).recording(label)]
        try:
            voice, sentences = self._gate.voice(name, recordings)
        except ValueError as error:
            raise Refusal(translate(str(error), language)) from None
        if voice.name in voices:
            voices.forget(voice.name)
        voices.add(voice)
        said = (*level_alone(recordings), *sentences)
        return list(voices.voices()), tuple(translate(sentence, language) for sentence in said)

    def identify(
        self, voices: VoiceStore, file: str | None, label: str, language: str
    ) -> tuple[tuple[Match, ...], tuple[str, ...]]:
        """Find the visitor's voices that are closest to a recording.

        Args:
            voices: the visitor's voices, in memory.
            file: path of the recording.
            label: name of the recording in messages.
            language: of the messages.

        Returns:
            Every voice with its score, ratio and probability, the closest first, and the warnings about the recording.

        Raises:
            Refusal: nobody is enrolled, or as `read`.
        """
        if not len(voices):
            raise Refusal(ANSWERS[language]["nobody"])
        heard = self.read(file, label, language).recording(label)
        try:
            (embedded,) = embed_recordings(self.student.embedder, [heard])
        except ValueError as error:
            raise Refusal(translate(str(error), language)) from None
        speech, calibration = heard.speech, self.student.calibration
        cohort = None if calibration is None or calibration.cohort is None else self.student.cohort
        matches, _ = nearest(
            voices.index(), embedded.embedding, speech.seconds, speech.network, calibration, MOST_VOICES, cohort
        )
        return matches, tuple(translate(sentence, language) for sentence in sentences_about([heard]))

    def threshold(self) -> float | None:
        """Return the student's threshold of the score for equal errors, whatever the amount of speech; None: none."""
        calibration = self.student.calibration
        if calibration is not None and calibration.cohort is not None:  # then it differs from pair to pair
            return None
        return decide(Evidence(0.0), self.student.thresholds, calibration).threshold

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
