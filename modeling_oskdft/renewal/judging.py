"""Judge a renewed verifier beside the one in use, on the trials of the people of now and on those of before."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.trials import Trials
from ..evaluation.report import report_scores
from ..scoring.calibration import Calibration
from ..scoring.likelihood_ratios import cllr
from ..scoring.metrics import Interval, bootstrap_rates, interval_of
from ..scoring.normalization import Cohort
from ..verification.hearing import Heard

NEW, OLD = "new", "old"


@dataclass(frozen=True)
class Judged:
    """Hold the error rates of a verifier on one trial list.

    Attributes:
        eer: equal error rate of the cosines, a fraction.
        eer_low: lower end of its 95 % interval by bootstrap over speakers.
        eer_high: upper end.
        cllr: Cllr of the calibrated decisions; None without a calibration.
        trials: number of trials.
        speakers: number of speakers in them.
        scores: (trials,), cosines.
    """

    eer: float
    eer_low: float
    eer_high: float
    cllr: float | None
    trials: int
    speakers: int
    scores: NDArray[np.floating] = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return all but the scores, in types that JSON has."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "scores"}


def judge(
    trials: Trials,
    speaker_of: Mapping[str, str],
    heard: Heard,
    calibration: Calibration | None,
    cohort: Cohort | None,
) -> Judged:
    """Measure the error rates of a verifier on trials.

    Args:
        trials: the trials.
        speaker_of: utterance id to speaker.
        heard: the utterances, embedded by the verifier.
        calibration: of the verifier.
        cohort: of the verifier, for a calibration of normalised scores.

    Raises:
        ValueError: for trials of one kind alone.
    """
    scores = heard.cosines(trials)
    report = report_scores(scores, trials, speaker_of)
    cost = None
    if calibration is not None:
        values = scores
        if calibration.cohort is not None and cohort is not None:
            values = cohort.normalise(scores, trials, heard.embeddings)
        llrs = calibration.llrs(values, heard.shorter_speech(trials), heard.network)
        cost = cllr(llrs, trials.labels)
    return Judged(report.eer, report.eer_low, report.eer_high, cost, report.trials, report.speakers, scores)


def change_of_eer(before: Judged, after: Judged, trials: Trials, speaker_of: Mapping[str, str]) -> Interval:
    """Estimate the 95 % interval of a change of the EER, by a paired bootstrap over speakers.

    Args:
        before: the verifier in use.
        after: the renewed one.
        trials: their trials.
        speaker_of: utterance id to speaker.
    """
    eers, _ = bootstrap_rates([before.scores, after.scores], trials.labels, trials.speakers(speaker_of))
    return interval_of(eers[:, 1] - eers[:, 0])


def objections(before: Mapping[str, Judged], after: Mapping[str, Judged]) -> list[str]:
    """Say what speaks against replacing the weights in use.

    The rule: on the new trials the EER must be lower, and on the old ones it must not be above the upper end of the
    interval that the weights in use have there.

    Args:
        before: `Judged` by list, of the weights in use.
        after: of the adapted weights.

    Returns:
        Sentences; none where the adapted weights may replace them.
    """
    found = []
    if after[NEW].eer >= before[NEW].eer:
        found.append(
            f"On the new trials the EER does not fall: {100 * before[NEW].eer:.1f} % before and "
            f"{100 * after[NEW].eer:.1f} % after."
        )
    if after[OLD].eer > before[OLD].eer_high:
        found.append(
            f"On the old trials the EER rises to {100 * after[OLD].eer:.1f} %, above the upper end of its interval "
            f"before, {100 * before[OLD].eer_high:.1f} %."
        )
    return found
