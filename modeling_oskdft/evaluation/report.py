"""One system on one trial list: what a table or a card says of it."""

from dataclasses import asdict, dataclass
from typing import Any

from transformers import SequenceFeatureExtractor

from ..data.manifest import Manifest
from ..modeling_oskdft import OSKDFTForXVector
from .extraction import extract_embeddings
from .metrics import bootstrap_intervals, equal_error_rate, min_detection_cost
from .scoring import Trials, score_trials


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
    progress: bool = False,
) -> TrialReport:
    """Embed every utterance of the list once and measure.

    Raises `ValueError` naming a trial's utterance that the manifest does not have.
    """
    wanted = set(trials.utterances())
    needed = manifest.where("utterance_id", [one for one in manifest.column("utterance_id") if one in wanted])
    embeddings = extract_embeddings(verifier, feature_extractor, needed, progress=progress)
    return report_scores(score_trials(trials, embeddings), trials, speakers_of(needed))


def speakers_of(manifest: Manifest) -> dict[str, str]:
    """Utterance id to speaker."""
    return dict(zip(manifest.column("utterance_id"), manifest.column("speaker_id"), strict=True))


def report_scores(scores: Any, trials: Trials, speaker_of: dict[str, str]) -> TrialReport:  # noqa: ANN401  (array-like)
    """The report of given scores. speaker_of: utterance id to speaker."""
    pairs = [(speaker_of[a], speaker_of[b]) for a, b in zip(trials.enrolments, trials.tests, strict=True)]
    eer = equal_error_rate(scores, trials.labels)
    eer_interval, dcf_interval = bootstrap_intervals(scores, trials.labels, pairs)
    return TrialReport(
        eer.value,
        *eer_interval,
        min_detection_cost(scores, trials.labels),
        *dcf_interval,
        eer.threshold,
        len(trials.labels),
        len({one for pair in pairs for one in pair}),
    )
