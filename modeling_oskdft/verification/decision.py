"""Turn a score into an answer: a log-likelihood ratio, a probability, and "the same speaker" or not."""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ..scoring.calibration import Calibration
from ..scoring.likelihood_ratios import bayes_threshold
from ..scoring.thresholds import ENOUGH_SPEAKERS, OPERATING_POINTS, Thresholds

BAYES = "bayes"  # the operating point of a prior and of costs
POINTS = (*OPERATING_POINTS, BAYES)
OTHER_WEIGHTS = "The thresholds are of other weights and were left out: measure them anew."
OTHER_CALIBRATION = "The calibration is of other weights and was left out: calibrate anew."


@dataclass(frozen=True, repr=False)
class VerificationResult:
    """Hold the answer to the question whether two recordings are of one speaker.

    Attributes:
        score: cosine of the two embeddings, in [-1, 1].
        same_speaker: whether the score reaches the threshold; None where the model has no threshold.
        threshold: the score from which on the answer is "the same", for this much speech; None where there is none.
        warnings: sentences about flaws of the recordings, such as little speech, and about the decision.
        llr: log-likelihood ratio, the natural logarithm of how many times likelier the recordings are of one speaker
            than of two; None where the model has no calibration.
        probability: probability that the speaker is the same, at the stated prior; None without calibration.
    """

    score: float
    same_speaker: bool | None
    threshold: float | None
    warnings: tuple[str, ...] = ()
    llr: float | None = None
    probability: float | None = None

    def __repr__(self) -> str:
        threshold = None if self.threshold is None else f"{self.threshold:.4f}"
        llr = "" if self.llr is None else f", llr={self.llr:.2f}, probability={self.probability:.4f}"
        warned = f", warnings={self.warnings}" if self.warnings else ""
        same = self.same_speaker
        return f"VerificationResult(score={self.score:.4f}{llr}, same_speaker={same}, {threshold=!s}{warned})"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has."""
        return asdict(self) | {"warnings": list(self.warnings)}


class Costs(NamedTuple):
    """Hold what a decision assumes.

    Attributes:
        prior: probability that the speaker is the same, before the recordings are heard.
        c_miss: cost of a rejected speaker.
        c_fa: cost of an accepted stranger.
    """

    prior: float = 0.5
    c_miss: float = 1.0
    c_fa: float = 1.0


EVEN = Costs()


class Evidence(NamedTuple):
    """Hold what two sides of a comparison give.

    Attributes:
        score: cosine of the two embeddings.
        speech: seconds of speech of the shorter side; None where they are not known.
        network: network that found the speech; None for the level.
        normalisation: gain and shift of the normalisation with a cohort: gain * score - shift is the normalised
            score; None without a cohort.
    """

    score: float
    speech: float | None = None
    network: str | None = None
    normalisation: tuple[float, float] | None = None


def probability_of(llr: float, prior: float) -> float:
    """Compute the probability of one speaker from a log-likelihood ratio.

    Args:
        llr: natural logarithm.
        prior: probability before the recordings are heard, in (0, 1).
    """
    odds = llr + math.log(prior) - math.log1p(-prior)
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0


def decide(
    evidence: Evidence,
    thresholds: Thresholds | None,
    calibration: Calibration | None,
    operating_point: str = "eer",
    costs: Costs = EVEN,
) -> VerificationResult:
    """Decide on a score: by the calibration where it has the operating point, else by the thresholds.

    Args:
        evidence: what the recordings give.
        thresholds: of the model; None: it has none.
        calibration: of the model; None: it has none.
        operating_point: "eer", "far_1_percent", "far_0.1_percent", or "bayes" for the least expected cost.
        costs: prior of the probability, and prior and costs of "bayes".
    """
    score, warned = evidence.score, []
    llr = probability = threshold = None
    at = bayes_threshold(*costs)  # refuses a prior or a cost outside of its range
    if calibration is not None:
        gain, shift = evidence.normalisation or (1.0, 0.0)
        llr = calibration.llr(gain * score - shift, evidence.speech, evidence.network)
        probability = probability_of(llr, costs.prior)
        warned += _doubts(calibration, evidence)
        point = calibration.operating_points.get(operating_point)
        if operating_point == BAYES or point is not None:
            wanted = at if point is None else point.llr
            low, high = calibration.bounds
            if not low < wanted <= high:
                warned.append(
                    f"The calibration has {calibration.trials - calibration.target_trials:,} different-speaker trials "
                    f"and {calibration.target_trials:,} same-speaker ones, which support no decision at these costs: "
                    "calibrate on more pairs, or choose a prior that is nearer to one half."
                )
                return VerificationResult(score, None, None, tuple(warned), llr, probability)
            threshold = (calibration.score_at(wanted, evidence.speech, evidence.network) + shift) / gain
            return VerificationResult(score, llr >= wanted, threshold, tuple(warned), llr, probability)
    if thresholds is not None and operating_point in OPERATING_POINTS:
        threshold = thresholds.values.get(operating_point)
        doubt = thresholds.doubt(operating_point)
        warned += [] if doubt is None else [doubt]
    if threshold is None and operating_point == BAYES:
        warned.append("The model has no calibration, which a prior and costs need: calibrate it on pairs of your own.")
    elif threshold is None:
        warned.append(
            f"The model has no threshold at {operating_point}: the score is all that can be said; measure thresholds "
            "on trials of your own."
        )
    same = None if threshold is None else score >= threshold
    return VerificationResult(score, same, threshold, tuple(warned), llr, probability)


def _doubts(calibration: Calibration, evidence: Evidence) -> list[str]:
    """List why the ratio may not hold: few speakers, less speech than in the trials, speech found in another way."""
    doubts = []
    if calibration.speakers < ENOUGH_SPEAKERS:
        doubts.append(
            f"The calibration stands on {calibration.speakers} speakers: below {ENOUGH_SPEAKERS} it may not hold for "
            "others; calibrate on more."
        )
    if calibration.duration is None or evidence.speech is None:
        return doubts
    if evidence.network != calibration.network:
        doubts.append(
            f"The calibration counts speech as {calibration.network or 'the level'} finds it, which is not at hand "
            "here: the amount of speech was left out."
        )
    elif evidence.speech < 0.9 * calibration.speech[0]:
        doubts.append(
            f"There is {evidence.speech:.1f} s of speech, and the calibration has seen {calibration.speech[0]:.1f} s "
            "at least: the ratio may be too high; give more speech."
        )
    return doubts
