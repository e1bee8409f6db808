"""Enrol voices: judge the recordings, average their embeddings, and find the voices nearest to a recording."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from ..embedding.recordings import (
    EmbeddedRecording,
    Floats,
    Recording,
    embed_recordings,
    halves_of,
    unit_rows,
)
from ..embedding.runtimes import Embedder
from ..scoring.calibration import Calibration
from ..scoring.normalization import Cohort
from ..scoring.thresholds import Thresholds
from .decision import probability_of
from .voice import Fact, Index, Voice, checked_name, today

ENOUGH_SPEECH = 1.0  # seconds in each recording
ENOUGH_TRIALS = 100  # same-speaker trials, of which one in a hundred is told from none
NEAREST = 300  # voices that a cohort is asked about
DISAGREEING_SHARE = 0.1  # of the windows of a long recording
REJECTED_SHARE = 0.01  # of same-speaker trials, that a gate may refuse wrongly
DOUBTED_SHARE = 0.05  # of same-speaker trials, that may be warned of wrongly
SEVERAL_SPEAKERS = (
    "{name} may have several speakers: its parts do not agree; decisions about it are unreliable, give a recording of "
    "one speaker."
)


@dataclass(frozen=True)
class Enrolment:
    """Describe an enrolled voice.

    Attributes:
        name: name of the speaker.
        recordings: number of its recordings.
        speech: seconds of speech in them.
        warnings: sentences about flaws that do not forbid the enrolment.
    """

    name: str
    recordings: int
    speech: float
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has."""
        return asdict(self) | {"warnings": list(self.warnings)}


class Match(NamedTuple):
    """Hold a voice that is near to a recording.

    Attributes:
        name: name of the speaker.
        score: cosine of the voice and the recording.
        llr: log-likelihood ratio; None without a calibration.
        probability: probability of this speaker at the prior 1/N of N voices (1/2 for one); None without calibration.
    """

    name: str
    score: float
    llr: float | None
    probability: float | None


@dataclass(frozen=True)
class Identification:
    """Hold the voices that are nearest to a recording.

    Attributes:
        matches: the nearest first.
        margin: how far the first is above the second, in log-likelihood ratio, or in score without a calibration;
            None for one voice.
        warnings: sentences about flaws of the recording.
    """

    matches: tuple[Match, ...]
    margin: float | None
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has."""
        matches = [match._asdict() for match in self.matches]
        return {"matches": matches, "margin": self.margin, "warnings": list(self.warnings)}


class Gate:
    """Judge recordings for an enrolment, by what the model's validation speakers have shown.

    Args:
        embedder: the model in its runtime.
        calibration: of the model, with the log-likelihood ratios of same-speaker trials.
        thresholds: of the model, with the scores of same-speaker trials, for a model without calibration.
    """

    def __init__(self, embedder: Embedder, calibration: Calibration | None, thresholds: Thresholds | None) -> None:
        self.embedder, self.calibration, self.thresholds = embedder, calibration, thresholds

    def voice(self, name: str, recordings: Sequence[Recording], consent: str = "") -> tuple[Voice, tuple[str, ...]]:
        """Make a voice of recordings.

        Args:
            name: name of the speaker.
            recordings: recordings of one speaker, one or more.
            consent: note of consent.

        Returns:
            The voice, and sentences about flaws that do not forbid the enrolment.

        Raises:
            ValueError: for a recording with too little speech, a clipped one, and one that does not agree with the
                others.
        """
        clean = checked_name(name)
        if not recordings:
            raise ValueError(f"There are no recordings of '{clean}': give one or more.")
        for recording in recordings:
            _check_quality(recording)
        embedded = embed_recordings(self.embedder, recordings)
        warnings = [sentence for recording in recordings for sentence in recording.warnings]
        for recording, vectors in zip(recordings, embedded, strict=True):
            warnings += self.doubt_of_one_speaker(recording, vectors)
        self._check_agreement(recordings, embedded)
        fingerprint = self.embedder.fingerprint()
        calibrated = None if self.calibration is None else self.calibration.date
        facts = tuple(
            Fact(fingerprint, len(vectors.embedding), today(), round(recording.speech.seconds, 2), consent, calibrated)
            for recording, vectors in zip(recordings, embedded, strict=True)
        )
        voice = Voice(clean, np.stack([vectors.embedding for vectors in embedded]), facts)
        return voice, tuple(dict.fromkeys(warnings))

    def check_same_speaker(self, known: Voice, new: Voice) -> None:
        """Check that new recordings agree with an enrolled voice.

        Args:
            known: the enrolled voice.
            new: its new recordings.

        Raises:
            ValueError: where 99 of 100 recordings of one speaker agree more.
        """
        score, speech = float(known.vector @ new.vector), min(known.speech, new.speech)
        network = None if self.calibration is None else self.calibration.network
        above = self._above_limit(score, speech, network, REJECTED_SHARE)
        if above is not None and above < 0:
            raise ValueError(
                f"The recordings do not agree with the voice of '{known.name}': 99 of 100 recordings of one speaker "
                "agree more; give recordings of that speaker, or enrol another name."
            )

    def doubt_of_one_speaker(self, recording: Recording, vectors: EmbeddedRecording) -> list[str]:
        """Look for a second speaker: parts of a recording that agree less than recordings of one speaker do.

        A long recording has its windows; a short one with 4 s of speech or more is cut into two halves.

        Args:
            recording: the recording.
            vectors: its embedding and its windows.

        Returns:
            One sentence, or none.
        """
        parts, speech = vectors.windows, vectors.speech
        if len(parts) == 1:
            halves = halves_of(recording)
            if halves is None:
                return []
            parts = np.concatenate([unit_rows(self.embedder, [half]) for half in halves])
            speech = np.full(2, recording.speech.seconds / 2)
        agreements = self._agreements(parts, speech, recording.speech.network, DOUBTED_SHARE)
        # Some windows of a long recording disagree by chance.
        if agreements is None or np.sum(agreements < 0) < max(1, DISAGREEING_SHARE * len(agreements)):
            return []
        return [SEVERAL_SPEAKERS.format(name=recording.name)]

    def _check_agreement(self, recordings: Sequence[Recording], embedded: Sequence[EmbeddedRecording]) -> None:
        vectors = np.stack([vector.embedding for vector in embedded])
        speech = np.asarray([recording.speech.seconds for recording in recordings])
        agreements = self._agreements(vectors, speech, recordings[0].speech.network, REJECTED_SHARE)
        if agreements is not None and agreements.min() < 0:
            raise ValueError(
                f"{recordings[int(agreements.argmin())].name} does not agree with the other recordings: 99 of 100 "
                "recordings of one speaker agree more; give recordings of one speaker."
            )

    def _agreements(self, vectors: Floats, speech: np.ndarray, network: str | None, share: float) -> np.ndarray | None:
        """Compare each vector with the mean of the others.

        Returns:
            (vectors,), by how much each is above the limit, below 0 where it is not; None where nothing can be said:
            for one vector, or for a model without measurements.
        """
        if len(vectors) < 2:
            return None
        weights = np.maximum(speech, 1e-3)
        total = weights @ vectors.astype(np.float64)
        agreements = []
        for vector, weight in zip(vectors, weights, strict=True):
            others = total - weight * vector
            score = float(others @ vector / max(float(np.linalg.norm(others)), 1e-9))
            above = self._above_limit(score, float(min(weight, weights.sum() - weight)), network, share)
            if above is None:
                return None
            agreements.append(above)
        return np.asarray(agreements)

    def _above_limit(self, score: float, speech: float, network: str | None, share: float) -> float | None:
        """Return how far a score is above what a share of the same-speaker trials stay below; None without trials."""
        calibration = self.calibration
        if calibration is not None and calibration.cohort is None and calibration.target_trials >= ENOUGH_TRIALS:
            limit = calibration.target_quantile(share)
            return calibration.llr(score, speech, network) - limit
        if self.thresholds is not None and "target" in self.thresholds.quantiles:
            return score - float(np.quantile(self.thresholds.quantiles["target"], share))
        return None


def nearest(
    index: Index,
    embedding: Floats,
    speech: float,
    network: str | None,
    calibration: Calibration | None,
    top_k: int,
    cohort: Cohort | None = None,
) -> tuple[tuple[Match, ...], float | None]:
    """Find the voices nearest to a recording.

    Args:
        index: the voices.
        embedding: (embedding_size,), unit length.
        speech: seconds of speech of the recording.
        network: network that found the speech.
        calibration: of the model; None: voices are ranked by score.
        top_k: voices that are returned, at most.
        cohort: with which the scores of the calibration are normalised.

    Returns:
        The matches, the nearest first, and the margin of the first over the second, as in `Identification`.

    Raises:
        ValueError: for no voices, and for a top_k below 1.
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: 1 or more voices can be returned.")
    if not index.names:
        raise ValueError("Nobody is enrolled: enrol a voice first.")
    scores = index.vectors @ embedding
    wanted, ranked = min(max(top_k, 2), len(scores)), scores
    if calibration is not None and cohort is None:  # little speech counts for less than much of an equal score
        ranked = calibration.llrs(scores, np.minimum(speech, index.speech), network)
    elif cohort is not None:  # the cohort is asked about the nearest alone
        wanted = min(max(top_k, NEAREST), len(scores))
    # Equal ratios, at their bound, are told apart by the score.
    rows = _largest(ranked, scores, wanted)
    prior = 1 / max(index.population or len(scores), 2)
    matches = []
    for row in rows.tolist():
        score, llr, probability = float(scores[row]), None, None
        if calibration is not None:
            gain, shift = (1.0, 0.0) if cohort is None else cohort.line(index.vectors[row], embedding)
            llr = calibration.llr(gain * score - shift, min(speech, float(index.speech[row])), network)
            probability = probability_of(llr, prior)
        matches.append(Match(index.names[row], score, llr, probability))
    matches.sort(key=lambda match: (-(match.score if match.llr is None else match.llr), -match.score, match.name))
    margin = None
    if len(matches) > 1:
        first, second = ((match.score if match.llr is None else match.llr) for match in matches[:2])
        margin = first - second
    return tuple(matches[:top_k]), margin


def _largest(ranked: np.ndarray, scores: np.ndarray, wanted: int) -> np.ndarray:
    """Return the rows of the largest values, without sorting all; among equal ones those with the highest scores."""
    least = np.partition(ranked, len(ranked) - wanted)[len(ranked) - wanted]
    rows = np.flatnonzero(ranked >= least)
    return rows[np.lexsort((-scores[rows], -ranked[rows]))][:wanted]


def _check_quality(recording: Recording) -> None:
    seconds = recording.speech.seconds
    if seconds < ENOUGH_SPEECH:
        raise ValueError(
            f"{recording.name} has {seconds:.1f} s of speech: a voice is enrolled with {ENOUGH_SPEECH:.0f} s or more "
            "in each recording."
        )
    if recording.is_clipped:
        raise ValueError(f"{recording.name} is clipped: record it again at a lower level.")
