"""Say what a run learns: to tell speakers apart, or the classes of a column, or to write down what is said.

A task makes the student, chooses its data, and measures it; the run around it is the same for all.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel
from transformers.trainer_callback import TrainerState

from ..data.crops import SPEAKERS, check_classes, classes_of
from ..data.manifest import Manifest
from ..data.texts import SPECIAL, UNKNOWN, texts_of, vocabulary_of
from ..data.trials import make_trials, read_trials
from ..evaluation.report import report_scores, reports_by, speakers_of, trial_scores
from ..model.modeling_oskdft import OSKDFTForXVector
from ..model.modeling_tasks_oskdft import OSKDFTForCTC, OSKDFTForSequenceClassification, Student
from ..scoring.thresholds import Thresholds
from ..student.initialization import cut_from_teacher
from .class_validation import LabelledDataset
from .columns import ColumnDataset
from .inputs import load_labelled_test, load_test, student_config
from .recipe import Recipe
from .trainer import OSKDFTTrainer
from .transcription import TranscribedDataset, tokenizer_of
from .validation import TrialDataset, metric_of_best

NEVER = -1e4  # logit of a letter that is not written


class Task(ABC):
    """What a run learns.

    Args:
        recipe: the recipe.
        manifest: its training data, speakers of the selection included.

    Attributes:
        manifest: the recordings that the run uses.
        label_column: the column whose values are told apart.
        classes: these values, or the vocabulary of their letters; empty where the speakers of the training decide.
    """

    def __init__(self, recipe: Recipe, manifest: Manifest) -> None:
        self.recipe, self.manifest = recipe, manifest
        self.label_column, self.classes = SPEAKERS, ()

    label_column: str
    classes: Sequence[str]

    @abstractmethod
    def new_student(self, origin: PreTrainedModel) -> Student:
        """Cut the student out of an encoder."""

    @abstractmethod
    def validation(self, train: Manifest, aside: Manifest) -> TrialDataset | ColumnDataset:
        """Make what selects the best checkpoint, of the speakers set aside.

        Raises:
            ValueError: for speakers with which the run could not learn or not be measured.
        """

    @abstractmethod
    def load_test(self) -> Manifest | None:
        """Load the recordings of the test; None for a run without one."""

    @abstractmethod
    def selection(self, state: TrainerState) -> dict[str, float | None]:
        """Return what the best checkpoint reached on the speakers set aside, as `results.json` names it."""

    @abstractmethod
    def measure(self, trainer: OSKDFTTrainer, train: Manifest) -> Thresholds | None:
        """Measure what is published beside the weights; None where a decision needs no threshold."""

    @abstractmethod
    def test(self, trainer: OSKDFTTrainer, recordings: Manifest) -> dict[str, Any]:
        """Test the published student, once, on recordings that selected nothing."""


class Verification(Task):
    """Tell speakers apart."""

    def new_student(self, origin: PreTrainedModel) -> Student:
        """Cut a verifier out of an encoder."""
        student = OSKDFTForXVector(student_config(self.recipe, origin.config))
        return cut_from_teacher(student, origin, self.recipe.student.student_start)

    def validation(self, train: Manifest, aside: Manifest) -> TrialDataset:
        """Make balanced trials."""
        return TrialDataset(aside, make_trials(aside.by_speaker(), most=self.recipe.data.validation_trials))

    def load_test(self) -> Manifest | None:
        """Load the recordings of the test trials."""
        wanted = self.recipe.data.test_trials and self.recipe.learns_speakers
        return load_test(self.recipe, self.manifest) if wanted else None

    def selection(self, state: TrainerState) -> dict[str, float | None]:
        """Return the EER."""
        return {"selection_eer": metric_of_best(state, "eval_eer") if state.best_global_step else None}

    def measure(self, trainer: OSKDFTTrainer, train: Manifest) -> Thresholds | None:
        """Measure cohort and thresholds; None for a run that trains no head."""
        if not self.recipe.learns_speakers:
            return None
        trainer.scorer.make_cohort(trainer.published, train, self.recipe.data.cohort_utterances)
        return trainer.measure_thresholds()

    def test(self, trainer: OSKDFTTrainer, recordings: Manifest) -> dict[str, Any]:
        """Score the test trials; returns error rates, also by gender and language where the data have them."""
        data = self.recipe.data
        trials = read_trials(data.test_trials or "")
        scores = trial_scores(
            trainer.published,
            trainer.processing_class,
            recordings,
            trials,
            data.test_scoring,
            num_workers=self.recipe.training.dataloader_num_workers,
        )
        return {
            "name": Path(data.test_trials or "").stem,
            **report_scores(scores, trials, speakers_of(recordings)).as_dict(),
            **{f"by_{column}": reports_by(column, scores, trials, recordings) for column in ("gender", "language")},
        }


class ColumnTask(Task):
    """Learn what a column says; recordings of which it says nothing are for the distillation alone."""

    dataset_type: ClassVar[type[ColumnDataset]]
    metric: ClassVar[str]  # in `results.json`, whatever selects

    def __init__(self, recipe: Recipe, manifest: Manifest, column: str) -> None:
        super().__init__(recipe, manifest)
        self.label_column = column
        self.classes = self.read_classes(manifest)
        if not recipe.distils:
            self.manifest = self.dataset(manifest).recordings

    @abstractmethod
    def read_classes(self, manifest: Manifest) -> Sequence[str]:
        """Read the classes, or the vocabulary, from the training data."""

    def dataset(self, manifest: Manifest) -> ColumnDataset:
        """Return the recordings of which the column says something."""
        return self.dataset_type(manifest, self.label_column, tuple(self.classes))

    def load_test(self) -> Manifest | None:
        """Load the recordings that the recipe names, and of which the column says something."""
        test = load_labelled_test(self.recipe, self.manifest)
        return None if test is None else self.dataset(test).recordings

    def selection(self, state: TrainerState) -> dict[str, float | None]:
        """Return the metric."""
        return {"selection_eer": None, f"selection_{self.metric}": metric_of_best(state, f"eval_{self.metric}")}

    def measure(self, trainer: OSKDFTTrainer, train: Manifest) -> None:
        """Measure nothing: the largest logit decides."""

    def test(self, trainer: OSKDFTTrainer, recordings: Manifest) -> dict[str, Any]:
        """Measure the recordings of the test."""
        report: dict[str, Any] = trainer.scorer.report(trainer.published, self.dataset(recordings))
        return report


class Classification(ColumnTask):
    """Tell the values of a column apart."""

    dataset_type, metric = LabelledDataset, "uar"

    def read_classes(self, manifest: Manifest) -> list[str]:
        """List the values of the column."""
        return classes_of(manifest, self.label_column)

    def new_student(self, origin: PreTrainedModel) -> Student:
        """Cut a classifier out of an encoder."""
        student = OSKDFTForSequenceClassification(student_config(self.recipe, origin.config, self.classes))
        return cut_from_teacher(student, origin, self.recipe.student.student_start)

    def validation(self, train: Manifest, aside: Manifest) -> ColumnDataset:
        """Return the recordings with a class."""
        check_classes(train, self.label_column, self.classes)
        return self.dataset(aside)


class Transcription(ColumnTask):
    """Write down what is said."""

    dataset_type, metric = TranscribedDataset, "cer"

    def read_classes(self, manifest: Manifest) -> tuple[str, ...]:
        """List the tokens of the texts."""
        return vocabulary_of(texts_of(manifest, self.label_column))

    def new_student(self, origin: PreTrainedModel) -> Student:
        """Cut a recogniser out of an encoder."""
        config = student_config(self.recipe, origin.config)
        config.encoder_config.vocab_size, config.encoder_config.pad_token_id = len(self.classes), 0
        config.encoder_config.ctc_zero_infinity = True
        student = OSKDFTForCTC(config)
        with torch.no_grad():
            student.lm_head.bias[SPECIAL.index(UNKNOWN)] = NEVER  # no text of the training has it
        return cut_from_teacher(student, origin, self.recipe.student.student_start)

    def validation(self, train: Manifest, aside: Manifest) -> ColumnDataset:
        """Return the recordings with a text."""
        if not any(texts_of(train, self.label_column)):
            raise ValueError(
                f"No training speaker has a text in '{self.label_column}': the speakers set aside have all of them; "
                "give more speakers, or another data_seed."
            )
        return self.dataset(aside)

    def load_test(self) -> Manifest | None:
        """Load the recordings with a text, and warn of letters that the student cannot write."""
        test = super().load_test()
        known = tuple(self.classes)
        unknown = [] if test is None else TranscribedDataset(test, self.label_column, known).unknown_letters()
        if unknown:
            letters = ", ".join(unknown)
            warnings.warn(
                f"Some texts have letters that no training text has ({letters}): they count as errors.", stacklevel=2
            )
        return test

    def measure(self, trainer: OSKDFTTrainer, train: Manifest) -> None:
        """Write the tokenizer beside the weights; there is nothing to measure."""
        if trainer.args.should_save:
            tokenizer_of(self.classes).save_pretrained(trainer.args.output_dir)


def task_of(recipe: Recipe, manifest: Manifest) -> Task:
    """Return the task of a recipe.

    Raises:
        ValueError: for a column that the data do not have, or that has nothing to learn.
    """
    data = recipe.data
    if data.label_column:
        return Classification(recipe, manifest, data.label_column)
    return Transcription(recipe, manifest, data.text_column) if data.text_column else Verification(recipe, manifest)
