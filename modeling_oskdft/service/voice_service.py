"""Answer the questions of the routes with a verifier; the work of each is done in a thread of the engine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..embedding.recordings import Recording, embed_recordings, sentences_about
from ..embedding.runtimes import ExportedEmbedder
from ..verification.decision import Costs
from ..verification.verifier import SpeakerVerifier
from ..verification.voice import today
from .batching import BatchingEmbedder
from .bodies import InFolder, Reader
from .engine import check_still_wanted
from .limits import Limits
from .metrics import Stage
from .refusals import Refused
from .schemas import (
    Embed,
    Embedded,
    Forget,
    Identified,
    Identify,
    Known,
    Matched,
    Model,
    Register,
    Registered,
    Verified,
    Verify,
)
from .score_log import Decision, calibration_id, decision_of

Source = str | bytes | InFolder
Result = TypeVar("Result")


class Watch(NamedTuple):
    """Hold functions that are told what happens, for the metrics.

    Attributes:
        stage: is called with the name of a stage and its seconds.
        heard: is called with seconds of speech, and whether there was a warning.
        decided: is called with each decision, for the metrics, the log and the watcher.
    """

    stage: Callable[[Stage, float], None]
    heard: Callable[[float, bool], None]
    decided: Callable[[Decision], None]


class VoiceService:
    """Answer the questions of the routes.

    Every method takes time and is called in a thread; several may be called at the same time.

    Args:
        verifier: with its voices and its calibration.
        name: name of the model in requests and answers.
        limits: of the service.
        folder: folder whose files may be named by a path; None: no path is read.
        watch: is told what happens.
    """

    def __init__(
        self, verifier: SpeakerVerifier, name: str, limits: Limits, folder: Path | None, watch: Watch
    ) -> None:
        self.verifier, self.name, self.limits, self.watch = verifier, name, limits, watch
        self.reader = Reader(limits, folder)
        self.fingerprint = verifier.fingerprint()
        self.calibration = calibration_id(verifier.calibration)
        self.known = len(verifier.voices)  # voices when they were last looked at: metrics must not read a file

    def model(self) -> Model:
        """Describe the served model."""
        embedder = self.verifier.embedder
        runtime = embedder.embedder if isinstance(embedder, BatchingEmbedder) else embedder
        return Model(
            id=self.name,
            fingerprint=self.fingerprint,
            embedding_size=self.verifier.embedding_size,
            backend=runtime.backend if isinstance(runtime, ExportedEmbedder) else "torch",
            calibrated=self.verifier.calibration is not None,
        )

    def check_model(self, asked: str | None) -> None:
        """Refuse a request for another model than the served one."""
        if asked not in (None, "", self.name):
            raise Refused(404, f"This service has the model '{self.name}' alone: name it, or none.", "model")

    def verify(self, asked: Verify) -> Verified:
        """Decide whether two recordings are of one speaker, or whether one is of an enrolled voice."""
        begin = time.perf_counter()
        if (asked.audio1 is None) == (asked.name is None):
            raise Refused(400, "Give audio1 or the name of an enrolled voice, and not both.", "fields")
        if asked.name is not None:
            enrolled = self.verifier.voices.get(asked.name).speech  # an unknown name costs no decoding
            (test,) = self._read([asked.audio2], first=2)
            speaker: str | list[Recording] = asked.name
        else:
            *recordings, test = self._read([source for source in (asked.audio1, asked.audio2) if source is not None])
            enrolled, speaker = sum(recording.speech.seconds for recording in recordings), recordings
            self.watch.heard(enrolled, False)
        costs = Costs(asked.prior, asked.c_miss, asked.c_fa)
        result = self._timed(lambda: self.verifier.verify_recordings(speaker, test, asked.operating_point, costs))
        self.watch.heard(test.speech.seconds, bool(result.warnings))
        point = asked.operating_point
        if asked.threshold is not None:  # the client's decision
            point, limit = "client", 1 - asked.threshold
            result = replace(result, same_speaker=result.score >= limit, threshold=limit)
        speech, distance = min(enrolled, test.speech.seconds), 1 - result.score
        limit_of_distance = None if result.threshold is None else 1 - result.threshold
        self.watch.decided(decision_of(result, self.fingerprint, speech, point, self.calibration))
        return Verified(
            verified=result.same_speaker,
            distance=distance,
            threshold=limit_of_distance,
            confidence=_confidence(distance, limit_of_distance),
            score=result.score,
            llr=result.llr,
            probability=result.probability,
            speech=round(speech, 2),
            warnings=list(result.warnings),
            **self._facts(begin),
        )

    def embed(self, asked: Embed) -> Embedded:
        """Embed a recording."""
        begin = time.perf_counter()
        (recording,) = self._read([asked.audio])
        (embedded,) = self._timed(lambda: embed_recordings(self.verifier.embedder, [recording]))
        sentences = sentences_about([recording])
        self.watch.heard(recording.speech.seconds, bool(sentences))
        return Embedded(
            embedding=embedded.embedding.tolist(),
            dim=len(embedded.embedding),
            speech=round(recording.speech.seconds, 2),
            warnings=sentences,
            **self._facts(begin),
        )

    def register(self, asked: Register) -> Registered:
        """Enrol a voice under a new name."""
        if len(self.verifier.voices) >= self.limits.most_voices:
            raise Refused(507, f"There are {self.limits.most_voices:,} voices already: forget some first.", "full")
        return self._enrol(asked, self.verifier.enroll_recordings)

    def update(self, asked: Register) -> Registered:
        """Add recordings to an enrolled voice."""
        most, known = self.limits.recordings_of_voice, self.verifier.voices.get(asked.name)
        if len(known.facts) >= most:
            raise Refused(507, f"This voice has {most} recordings already: that is enough of them.", "full")
        return self._enrol(asked, self.verifier.update_recordings)

    def identify(self, asked: Identify) -> Identified:
        """Find the voices that are nearest to a recording; none where nobody is enrolled."""
        begin = time.perf_counter()
        (recording,) = self._read([asked.audio])
        if not len(self.verifier.voices):
            return Identified(matches=[], margin=None, warnings=sentences_about([recording]), **self._facts(begin))
        found = self._timed(lambda: self.verifier.identify_recording(recording, asked.top_k))
        self.watch.heard(recording.speech.seconds, bool(found.warnings))
        matches = [
            Matched(
                id=match.name,
                distance=1 - match.score,
                confidence=_confidence(1 - match.score, asked.threshold),
                match=None if asked.threshold is None else 1 - match.score <= asked.threshold,
                **match._asdict(),
            )
            for match in found.matches
        ]
        return Identified(matches=matches, margin=found.margin, warnings=list(found.warnings), **self._facts(begin))

    def forget(self, asked: Forget) -> None:
        """Remove a voice; no byte of it stays in the file of the voices."""
        name = asked.id if asked.name is None else asked.name
        if name is None or (asked.id is not None and asked.name is not None):
            raise Refused(400, "Give the id of a voice, or its name.", "fields")
        check_still_wanted()
        self.verifier.forget(name)
        self.known = len(self.verifier.voices)

    def voices(self) -> list[Known]:
        """List the enrolled voices."""
        return [
            Known(id=voice.name, name=voice.name, recordings=voice.recordings, speech=voice.speech)
            for voice in self.verifier.list()
        ]

    def _enrol(self, asked: Register, change: Callable[..., Any]) -> Registered:
        sources: list[Source] = ([] if asked.audio is None else [asked.audio]) + asked.audios
        if not 1 <= len(sources) <= self.limits.recordings:
            raise Refused(400, f"Give audio or audios: 1 to {self.limits.recordings} recordings.", "fields")
        recordings = self._read(sources)
        check_still_wanted()
        done = self._timed(lambda: change(asked.name, recordings, asked.consent))
        self.known = len(self.verifier.voices)
        self.watch.heard(sum(recording.speech.seconds for recording in recordings), bool(done.warnings))
        return Registered(
            id=done.name,
            name=done.name,
            registered_at=today(),
            recordings=done.recordings,
            speech=done.speech,
            warnings=list(done.warnings),
        )

    def _read(self, sources: Sequence[Source], first: int = 1) -> list[Recording]:
        """Decode the recordings of a request; `first` is the number of the first one in sentences."""
        begin = time.perf_counter()
        recordings = [self.reader.read(source, number) for number, source in enumerate(sources, first)]
        self.watch.stage("reading", time.perf_counter() - begin)
        return recordings

    def _timed(self, work: Callable[[], Result]) -> Result:
        begin = time.perf_counter()
        try:
            return work()
        finally:
            self.watch.stage("deciding", time.perf_counter() - begin)

    def _facts(self, begin: float) -> dict[str, Any]:
        took = round(1000 * (time.perf_counter() - begin), 2)
        return {"model": self.name, "fingerprint": self.fingerprint, "processing_time_ms": took}


def _confidence(distance: float, limit: float | None) -> float | None:
    """Compute LocalAI's confidence: how far the distance is below the threshold, in per cent of the threshold."""
    if limit is None or limit <= 0:
        return None
    return min(max(100 * (1 - distance / limit), 0.0), 100.0)
