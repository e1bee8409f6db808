"""Measure the error rates of one system on one trial list, for a table or a model card."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from transformers import SequenceFeatureExtractor

from ..audio.loading import SAMPLING_RATE, Waveform, load_audio
from ..data.manifest import Manifest
from ..data.trials import Trials
from ..embedding.corpus import (
    BATCH_SECONDS,
    SEGMENT_SECONDS,
    SEGMENTS,
    EmbeddingsById,
    evenly_spaced_segments,
    extract_embeddings,
    extract_segment_embeddings,
)
from ..errors import choose
from ..model.modeling_oskdft import OSKDFTForXVector
from ..scoring.cosine import SCORINGS, combined_scores, score_trials
from ..scoring.metrics import bootstrap_intervals, equal_error_rate, min_detection_cost
from ..scoring.normalization import Cohort

FEW = 10  # trials of a class, or speakers: an interval over draws of fewer means little
EXTRACTORS: dict[str, Callable[..., EmbeddingsById]] = {
    "utterances": extract_embeddings,
    "segments": extract_segment_embeddings,
}
CUTS: dict[str, Callable[[Waveform], list[Waveform]]] = {
    "utterances": lambda waveform: [waveform],
    "segments": partial(evenly_spaced_segments, segments=SEGMENTS, samples=round(SEGMENT_SECONDS * SAMPLING_RATE)),
}


@dataclass(frozen=True, repr=False)
class TrialReport:
    """Hold the error rates of one system on one trial list.

    Attributes:
        eer: equal error rate, a fraction.
        eer_low: lower end of its 95 % interval by bootstrap over speakers.
        eer_high: upper end.
        min_dcf: minimum detection cost, divided by the cost of the better blind decision.
        min_dcf_low: lower end of its 95 % interval.
        min_dcf_high: upper end.
        threshold: score at the EER.
        trials: number of trials.
        speakers: number of speakers in them.
    """

    eer: float
    eer_low: float
    eer_high: float
    min_dcf: float
    min_dcf_low: float
    min_dcf_high: float
    threshold: float
    trials: int
    speakers: int

    def __repr__(self) -> str:
        eer, low, high = (f"{100 * rate:.2f}" for rate in (self.eer, self.eer_low, self.eer_high))
        costs = f"{self.min_dcf:.3f} ({self.min_dcf_low:.3f}–{self.min_dcf_high:.3f})"
        return (
            f"TrialReport(EER {eer} % ({low}–{high}), minDCF {costs}, threshold={self.threshold:.4f}, "
            f"trials={self.trials}, speakers={self.speakers})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has."""
        return asdict(self)


def report_trials(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    trials: Trials,
    scoring: str = "full",
    batch_seconds: float = BATCH_SECONDS,
    num_workers: int = 0,
    progress: bool = False,
) -> TrialReport:
    """Embed every utterance of a trial list once, and measure the error rates.

    Args:
        verifier: the model; all arguments are explained in `trial_scores`.
        feature_extractor: the model's feature extractor, see there.
        manifest: the utterances, see there.
        trials: the trials, see there.
        scoring: name of the scoring, see there.
        batch_seconds: padded audio in a batch, see there.
        num_workers: processes that read, see there.
        progress: whether to show a bar, see there.

    Raises:
        ValueError: as `trial_scores` does, and for trials of one class alone.
    """
    scores = trial_scores(verifier, feature_extractor, manifest, trials, scoring, batch_seconds, num_workers, progress)
    return report_scores(scores, trials, speakers_of(manifest))


def trial_scores(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    trials: Trials,
    scoring: str = "full",
    batch_seconds: float = BATCH_SECONDS,
    num_workers: int = 0,
    progress: bool = False,
    cohort: Cohort | None = None,
) -> NDArray[np.floating]:
    """Score every trial, with each utterance embedded once.

    Where a process group exists, all processes must call this, and all get all scores.

    Args:
        verifier: the model.
        feature_extractor: the model's feature extractor.
        manifest: utterances, the ones of the trials among them.
        trials: the trials.
        scoring: a key of `SCORINGS`: "full" utterances, "segments" (5 of 3 s, all pairs), or "combined", the mean of
            both, as in the paper.
        batch_seconds: padded audio in a batch at most, in seconds.
        num_workers: processes that read recordings ahead.
        progress: whether to show a bar, where stderr is a terminal.
        cohort: speakers to normalise the scores of full utterances with; None: cosines.

    Returns:
        (trials,), cosines, or normalised scores.

    Raises:
        ValueError: for another scoring, for a cohort with one that cuts utterances, for a damaged recording, and
            naming an utterance of the trials that the manifest does not have.
    """
    kinds = _kinds(scoring, cohort)
    needed = manifest.where("utterance_id", trials.utterances())
    scores = []
    for kind in kinds:
        embeddings = EXTRACTORS[kind](
            verifier,
            feature_extractor,
            needed,
            batch_seconds=batch_seconds,
            num_workers=num_workers,
            progress=progress,
        )
        scores.append(embedding_scores(trials, embeddings, cohort))
    return scores[0] if len(scores) == 1 else combined_scores(*scores)


def embedder_scores(
    embed: Callable[[list[Waveform]], NDArray[np.float32]],
    manifest: Manifest,
    trials: Trials,
    scoring: str = "full",
    progress: bool = False,
    cohort: Cohort | None = None,
) -> NDArray[np.floating]:
    """Score every trial with the `embed` of any runtime, a recording at a time: for exported verifiers.

    Args:
        embed: `Embedder.embed`.
        manifest: utterances, as in `trial_scores`.
        trials: the trials, as in `trial_scores`.
        scoring: name of the scoring, as in `trial_scores`.
        progress: whether to show a bar, where stderr is a terminal.
        cohort: as in `trial_scores`.

    Returns:
        (trials,), cosines, or normalised scores.

    Raises:
        ValueError: as `trial_scores` does.
    """
    from tqdm.auto import tqdm

    kinds = _kinds(scoring, cohort)
    needed = manifest.where("utterance_id", trials.utterances())
    embeddings: dict[str, dict[str, NDArray[np.float32]]] = {kind: {} for kind in kinds}
    rows = tqdm(range(len(needed)), desc="embeddings", unit="utt", disable=None if progress else True)
    for row, name in zip(rows, needed.column("utterance_id"), strict=True):
        waveform = load_audio(needed.audio(row))
        for kind in kinds:
            embeddings[kind][name] = embed(CUTS[kind](waveform))
    scores = [embedding_scores(trials, embeddings[kind], cohort) for kind in kinds]
    return scores[0] if len(scores) == 1 else combined_scores(*scores)


def _kinds(scoring: str, cohort: Cohort | None) -> tuple[str, ...]:
    kinds = choose("scoring", scoring, SCORINGS)
    if cohort is not None and kinds != ("utterances",):
        raise ValueError(f"scoring is '{scoring}' with a cohort: normalised scores are of full utterances; use full.")
    return kinds


def embedding_scores(
    trials: Trials, embeddings: Mapping[str, NDArray[np.floating]], cohort: Cohort | None = None
) -> NDArray[np.floating]:
    """Score every trial with embeddings that are there already.

    Args:
        trials: the trials.
        embeddings: utterance id to (embedding_size,) or (pieces, embedding_size).
        cohort: as in `trial_scores`.

    Returns:
        (trials,), cosines, or normalised scores.

    Raises:
        ValueError: naming an utterance of the trials without an embedding.
    """
    scores = score_trials(trials, embeddings)
    if cohort is None:
        return scores
    return cohort.normalise(scores, trials, {name: np.reshape(row, -1) for name, row in embeddings.items()})


def reports_by(
    column: str, scores: NDArray[np.floating], trials: Trials, manifest: Manifest
) -> dict[str, dict[str, Any]]:
    """Report the same scores by group: the trials whose two recordings have the same value of a column.

    Args:
        column: column of the manifest, such as gender, language or corpus.
        scores: (trials,).
        trials: the trials.
        manifest: their utterances.

    Returns:
        `TrialReport.as_dict` by value of the column; empty where the manifest has no such column. A group whose trials
        are of one class alone has no error rates and is left out.
    """
    if column not in manifest.table.column_names:
        return {}
    group_of = dict(zip(manifest.column("utterance_id"), manifest.column(column), strict=True))
    speakers = speakers_of(manifest)
    pairs = list(zip(trials.enrolments, trials.tests, strict=True))
    reports = {}
    for group in sorted({group_of[name] for name in trials.utterances()} - {None, ""}):
        rows = [row for row, (enrolment, test) in enumerate(pairs) if group_of[enrolment] == group == group_of[test]]
        trials_of_group = trials.where(rows)
        if 0 < trials_of_group.labels.sum() < len(trials_of_group.labels):
            reports[group] = report_scores(scores[rows], trials_of_group, speakers).as_dict()
    return reports


def speakers_of(manifest: Manifest) -> dict[str, str]:
    """Return the speaker of each utterance.

    Args:
        manifest: the utterances.

    Returns:
        Utterance id to speaker.
    """
    return dict(zip(manifest.column("utterance_id"), manifest.column("speaker_id"), strict=True))


def report_scores(
    scores: ArrayLike, trials: Trials, speaker_of: Mapping[str, str], p_target: float = 0.01
) -> TrialReport:
    """Measure the error rates of given scores, and warn where trials or speakers are few.

    Args:
        scores: (trials,).
        trials: the trials.
        speaker_of: utterance id to speaker.
        p_target: prior probability of a target trial, for minDCF.

    Raises:
        ValueError: as `equal_error_rate` does.
    """
    pairs = trials.speakers(speaker_of)
    eer = equal_error_rate(scores, trials.labels)
    eer_interval, dcf_interval = bootstrap_intervals(scores, trials.labels, pairs, p_target=p_target)
    target_trials = int(np.sum(trials.labels))
    speakers = {speaker for pair in pairs for speaker in pair}
    counts = {
        "same-speaker trials": target_trials,
        "other trials": len(pairs) - target_trials,
        "speakers": len(speakers),
    }
    for kind, count in counts.items():
        if count < FEW:
            warnings.warn(
                f"The list has {count} {kind}: rates and intervals of fewer than {FEW} say little; give more.",
                stacklevel=2,
            )
    return TrialReport(
        eer.value,
        *eer_interval,
        min_detection_cost(scores, trials.labels, p_target),
        *dcf_interval,
        eer.threshold,
        len(trials.labels),
        len(speakers),
    )
