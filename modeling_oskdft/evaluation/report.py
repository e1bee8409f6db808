"""One system on one trial list: what a table or a card says of it."""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from transformers import SequenceFeatureExtractor

from ..audio.loading import SAMPLING_RATE, Waveform, load_audio
from ..data.manifest import Manifest
from ..data.trials import Trials
from ..embedding.corpus import (
    SEGMENT_SECONDS,
    SEGMENTS,
    evenly_spaced_segments,
    extract_embeddings,
    extract_segment_embeddings,
)
from ..model.modeling_oskdft import OSKDFTForXVector
from ..scoring.cosine import SCORINGS, combined_scores, score_trials
from ..scoring.metrics import bootstrap_intervals, equal_error_rate, min_detection_cost


@dataclass(frozen=True)
class TrialReport:
    """Error rates as fractions, 95 % intervals by bootstrap over speakers, and what they were measured on."""

    eer: float
    eer_low: float
    eer_high: float
    min_dcf: float
    min_dcf_low: float
    min_dcf_high: float
    threshold: float
    trials: int
    speakers: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def report_trials(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    trials: Trials,
    scoring: str = "full",
    **options: Any,
) -> TrialReport:
    """Embed every utterance of the list once and measure; arguments and errors as in `trial_scores`."""
    scores = trial_scores(verifier, feature_extractor, manifest, trials, scoring, **options)
    return report_scores(scores, trials, speakers_of(manifest))


def trial_scores(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    trials: Trials,
    scoring: str = "full",
    **options: Any,
) -> NDArray[np.floating]:
    """The score of every trial, (trials,), each utterance embedded once.

    scoring: "full" utterances, "segments" (5 of 3 s, all pairs), or "combined", the mean of both, as in the paper.
    options: as in `extract_embeddings`. Where a process group exists, all processes must call this.
    Raises `ValueError` naming a trial's utterance that the manifest does not have.
    """
    if scoring not in SCORINGS:
        raise ValueError(f"scoring is '{scoring}': use one of {', '.join(SCORINGS)}.")
    needed = manifest.where("utterance_id", trials.utterances())
    scores = []
    if scoring != "segments":
        scores.append(score_trials(trials, extract_embeddings(verifier, feature_extractor, needed, **options)))
    if scoring != "full":
        scores.append(score_trials(trials, extract_segment_embeddings(verifier, feature_extractor, needed, **options)))
    return scores[0] if len(scores) == 1 else combined_scores(*scores)


def embedder_scores(
    embed: Callable[[list[Waveform]], NDArray[np.float32]],
    manifest: Manifest,
    trials: Trials,
    scoring: str = "full",
    progress: bool = False,
) -> NDArray[np.floating]:
    """As `trial_scores`, by the `embed` of any runtime, a recording at a time: for exported verifiers."""
    from tqdm.auto import tqdm

    if scoring not in SCORINGS:
        raise ValueError(f"scoring is '{scoring}': use one of {', '.join(SCORINGS)}.")
    needed = manifest.where("utterance_id", trials.utterances())
    whole, parts = {}, {}
    rows = tqdm(range(len(needed)), desc="embeddings", unit="utt", disable=None if progress else True)
    for row, name in zip(rows, needed.column("utterance_id"), strict=True):
        waveform = load_audio(needed.audio(row))
        if scoring != "segments":
            whole[name] = embed([waveform])[0]
        if scoring != "full":
            pieces = evenly_spaced_segments(waveform, SEGMENTS, round(SEGMENT_SECONDS * SAMPLING_RATE))
            parts[name] = embed(pieces)
    scores = [score_trials(trials, found) for found in (whole, parts) if found]
    return scores[0] if len(scores) == 1 else combined_scores(*scores)


def reports_by(
    column: str, scores: NDArray[np.floating], trials: Trials, manifest: Manifest
) -> dict[str, dict[str, Any]]:
    """The same scores by group, as dictionaries: trials both of whose recordings have one value of `column`.

    column: such as gender, language or corpus; without it in the manifest there are no groups. A group whose trials
    are of one class only is left out, since it has no error rates.
    """
    if column not in manifest.table.column_names:
        return {}
    group_of = dict(zip(manifest.column("utterance_id"), manifest.column(column), strict=True))
    speakers = speakers_of(manifest)
    pairs = list(zip(trials.enrolments, trials.tests, strict=True))
    reports = {}
    for group in sorted({group_of[one] for one in trials.utterances()} - {None, ""}):
        rows = [row for row, (a, b) in enumerate(pairs) if group_of[a] == group == group_of[b]]
        own = trials.where(rows)
        if 0 < own.labels.sum() < len(own.labels):
            reports[group] = report_scores(scores[rows], own, speakers).as_dict()
    return reports


def speakers_of(manifest: Manifest) -> dict[str, str]:
    """Utterance id to speaker."""
    return dict(zip(manifest.column("utterance_id"), manifest.column("speaker_id"), strict=True))


FEW = 10  # trials of a class, or speakers: below, an interval over draws of them says nothing


def report_scores(
    scores: ArrayLike, trials: Trials, speaker_of: dict[str, str], p_target: float = 0.01
) -> TrialReport:
    """The report of given scores. speaker_of: utterance id to speaker. Warns where trials or speakers are few."""
    pairs = trials.speakers(speaker_of)
    eer = equal_error_rate(scores, trials.labels)
    eer_interval, dcf_interval = bootstrap_intervals(scores, trials.labels, pairs, p_target=p_target)
    targets, names = int(np.sum(trials.labels)), {one for pair in pairs for one in pair}
    for count, kind in (
        (targets, "same-speaker trials"),
        (len(pairs) - targets, "other trials"),
        (len(names), "speakers"),
    ):
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
        len(names),
    )
