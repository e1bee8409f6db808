"""Score trials during training, and choose the best checkpoint by them."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.trainer_callback import TrainerState

from ..audio.speech import speech_network
from ..data.manifest import Manifest
from ..data.trials import Trials, make_trials
from ..embedding.corpus import extract_cut_embeddings
from ..evaluation.report import speakers_of
from ..model.modeling_tasks_oskdft import Student
from ..scoring.calibration import Calibration
from ..scoring.calibration_fitting import fit_calibration
from ..scoring.cosine import score_trials
from ..scoring.metrics import equal_error_rate, min_detection_cost
from ..scoring.normalization import Cohort
from ..scoring.thresholds import SET_ASIDE, Thresholds, measure_thresholds
from .scorer import NEEDED, Scorer

CUT_SECONDS = (1.0, 2.0, 3.0, 5.0)  # so that the trials of a calibration have speech of several lengths
MOST_CALIBRATION_TRIALS = 8000  # of each kind: more do not make the fit better, and their speech takes time to find
TIE = 1e-9  # of error rates: a larger difference is no rounding


@dataclass(frozen=True)
class TrialDataset:
    """Recordings and the trials that are made of them: the `eval_dataset` of the trainer.

    Args:
        manifest: the recordings.
        trials: pairs of their utterance ids.
    """

    manifest: Manifest
    trials: Trials
    unit = "trials"

    @cached_property
    def recordings(self) -> Manifest:
        """The recordings of the trials; the others need no embedding."""
        return self.manifest.where("utterance_id", self.trials.utterances())

    def __len__(self) -> int:
        return len(self.trials.labels)


def as_trial_dataset(dataset: object) -> TrialDataset:
    """Return a `TrialDataset`; of a manifest with balanced trials of its speakers (`data.trials.make_trials`).

    Raises:
        TypeError: for anything else.
    """
    if isinstance(dataset, TrialDataset):
        return dataset
    if isinstance(dataset, Manifest):
        return TrialDataset(dataset, make_trials(dataset.by_speaker()))
    raise TypeError(
        f"evaluate was given a {type(dataset).__name__}: {NEEDED}, a TrialDataset or a dict of them is needed, or "
        "nothing for the validation trials."
    )


class TrialScorer(Scorer[TrialDataset]):
    """Scores trials during training; see `Scorer` for its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._thresholds: Thresholds | None = None
        self.cohort: Cohort | None = None

    def outputs(self, model: Student, manifest: Manifest, max_damaged: int) -> dict[str, NDArray[np.floating]]:
        """Embed the recordings of a manifest."""
        return self.embed(model, manifest, max_damaged)

    def score(self, model: Student, dataset: TrialDataset) -> tuple[NDArray[np.floating], Trials]:
        """Score the trials whose recordings can be read; returns (trials,) cosines and those trials."""
        embeddings = self.embed(model, dataset.recordings, self.max_damaged)
        trials = dataset.trials.among(embeddings)
        return score_trials(trials, embeddings), trials

    def error_rates(self, model: Student, dataset: object = None) -> dict[str, float]:
        """Measure EER and minDCF (p_target 0.01), as fractions.

        Args:
            model: the verifier.
            dataset: see `as_trial_dataset`; None for the validation trials.

        Raises:
            TypeError: for a data set of another kind.
            ValueError: without validation trials.
        """
        scores, trials = self.score(model, self.validation if dataset is None else as_trial_dataset(dataset))
        return {
            "eer": equal_error_rate(scores, trials.labels).value,
            "min_dcf": min_detection_cost(scores, trials.labels),
        }

    def thresholds(self, model: Student) -> Thresholds:
        """Measure thresholds on the validation trials, once for the same weights.

        Raises:
            ValueError: without validation trials.
        """
        fingerprint = model.fingerprint()
        if self._thresholds is None or self._thresholds.fingerprint != fingerprint:
            scores, trials = self.score(model, self.validation)
            recordings = self.validation.recordings
            speakers, pairs = len(recordings.speakers), trials.speakers(speakers_of(recordings))
            data = f"{speakers} {SET_ASIDE}"
            self._thresholds = measure_thresholds(scores, trials.labels, speakers, data, fingerprint, pairs)
        return self._thresholds

    def make_cohort(self, model: Student, manifest: Manifest, utterances: int) -> None:
        """Embed some utterances of each speaker, and normalise scores with their means from now on.

        Args:
            model: the verifier.
            manifest: recordings of the training speakers.
            utterances: of each speaker; 0: scores are not normalised.
        """
        self.cohort = None
        if utterances:
            chosen = [name for names in manifest.by_speaker().values() for name in sorted(names)[:utterances]]
            recordings = manifest.where("utterance_id", chosen)
            embeddings = self.embed(model, recordings, self.max_damaged)
            try:
                self.cohort = Cohort.of_speakers(embeddings, speakers_of(recordings), model.fingerprint())
            except ValueError as error:
                warnings.warn(f"The student has no cohort: {error}", stacklevel=2)

    def measurements(self, model: Student) -> tuple[Thresholds, Calibration | None, Cohort | None]:
        """Measure thresholds and calibration, see there; every process of a launch calls this."""
        return self.thresholds(model), self.calibration(model), self.cohort

    def calibration(self, model: Student) -> Calibration | None:
        """Fit a calibration on the validation trials: both recordings whole, one of them cut, and both cut.

        Args:
            model: the verifier.

        Returns:
            The calibration; None, after a warning, where the trials support none, or scikit-learn is missing.

        Raises:
            ValueError: without validation trials.
        """
        dataset, thresholds = self.validation, self.thresholds(model)
        trials = _at_most(dataset.trials, MOST_CALIBRATION_TRIALS)
        recordings = dataset.manifest.where("utterance_id", trials.utterances())
        embeddings, speech = extract_cut_embeddings(
            model,
            self.feature_extractor,
            recordings,
            CUT_SECONDS,
            num_workers=self.args.dataloader_num_workers,
            max_damaged=self.max_damaged,
        )
        trials = trials.among(embeddings)
        pieces = {f"{name} {piece}": row for name, rows in embeddings.items() for piece, row in enumerate(rows)}
        try:
            scores, seconds = [], []
            for first, second in ((0, 0), (0, 1), (1, 0), (1, 1)):
                enrolments, tests = (
                    [f"{name} {first}" for name in trials.enrolments],
                    [f"{n} {second}" for n in trials.tests],
                )
                cut = Trials(trials.labels, enrolments, tests)
                cosines = score_trials(cut, pieces)
                scores.append(cosines if self.cohort is None else self.cohort.normalise(cosines, cut, pieces))
                pairs = zip(trials.enrolments, trials.tests, strict=True)
                seconds.append([min(speech[one][first], speech[other][second]) for one, other in pairs])
            return fit_calibration(
                np.concatenate(scores),
                np.tile(trials.labels, len(scores)),
                trials.speakers(speakers_of(recordings)) * len(scores),
                thresholds.fingerprint,
                thresholds.data,
                np.concatenate(seconds),
                None if (network := speech_network()) is None else network.name,
                cohort=None if self.cohort is None else self.cohort.digest,
                adapter=model.speaker_adapter,
                cuts=len(scores),
            )
        except (ValueError, ImportError) as error:
            warnings.warn(f"The student has no calibration: {error}", stacklevel=2)
            return None


def _at_most(trials: Trials, most: int) -> Trials:
    """Draw at most this many trials of each kind, always the same ones."""
    generator = np.random.default_rng(0)
    rows = [np.flatnonzero(trials.labels == label) for label in (1, 0)]
    chosen = [of_kind if len(of_kind) <= most else generator.choice(of_kind, most, replace=False) for of_kind in rows]
    return trials.where(sorted(np.concatenate(chosen).tolist()))


def metric_of_best(state: TrainerState, name: str) -> float | None:
    """Return a metric of the best checkpoint so far, as it was logged last; None without one."""
    step = state.best_global_step
    values = [entry[name] for entry in state.log_history if entry.get("step") == step and name in entry]
    return values[-1] if values else None


def decided_by_min_dcf(state: TrainerState, metrics: dict[str, Any], metric: str | None) -> bool | None:
    """Decide between checkpoints of equal EER: the lower minDCF wins, and the later one when that is equal as well.

    A few trials make equal rates frequent, and the last bits of a division must not choose.

    Args:
        state: of the trainer.
        metrics: of the checkpoint that was evaluated now.
        metric: name of the selecting metric.

    Returns:
        Whether the checkpoint becomes the best; None when the EERs differ, or when another metric selects.
    """
    if str(metric).removeprefix("eval_") != "eer" or state.best_metric is None or "eval_min_dcf" not in metrics:
        return None
    if abs(metrics["eval_eer"] - state.best_metric) > TIE:
        return None
    best = metric_of_best(state, "eval_min_dcf")
    return best is None or metrics["eval_min_dcf"] <= best + TIE
