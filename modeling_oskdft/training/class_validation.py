"""Classify recordings during training, and choose the best checkpoint by it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.manifest import Manifest
from ..evaluation.report import speakers_of
from ..model.modeling_tasks_oskdft import Student
from ..scoring.classification import class_rates, class_report, confusion_matrix
from .scorer import Scorer


@dataclass(frozen=True)
class LabelledDataset:
    """Recordings and the column that says their classes: the `eval_dataset` of the trainer of a classifier.

    Args:
        manifest: the recordings.
        label_column: the column.
        classes: the classes in their order; recordings of others, or without a value, are left out.
    """

    manifest: Manifest
    label_column: str
    classes: tuple[str, ...]
    unit = "recordings"

    def __post_init__(self) -> None:
        if not len(self):
            raise ValueError(
                f"No recording here has a class in '{self.label_column}': give others, or for the validation set more "
                "speakers aside."
            )

    @cached_property
    def recordings(self) -> Manifest:
        """The recordings with a class."""
        return self.manifest.where(self.label_column, self.classes)

    def labels(self) -> dict[str, int]:
        """Return the class of each recording, by its utterance id."""
        number = {name: index for index, name in enumerate(self.classes)}
        columns = (self.recordings.column(name) for name in ("utterance_id", self.label_column))
        return {utterance: number[value] for utterance, value in zip(*columns, strict=True)}

    def __len__(self) -> int:
        return len(self.recordings)


class ClassScorer(Scorer[LabelledDataset]):
    """Classifies recordings during training; see `Scorer` for its arguments."""

    def outputs(self, model: Student, manifest: Manifest, max_damaged: int) -> dict[str, NDArray[np.floating]]:
        """Compute the logits of whole recordings; returns utterance id to (num_labels,)."""
        embeddings = self.embed(model, manifest, max_damaged)
        rows = torch.from_numpy(np.stack(list(embeddings.values()))).to(model.device, model.dtype)
        with torch.inference_mode():
            logits = model.task_output(rows).float().cpu().numpy()
        return dict(zip(embeddings, logits, strict=True))

    def error_rates(self, model: Student, dataset: object = None) -> dict[str, float]:
        """Measure accuracy, macro F1 and UAR, as fractions.

        Args:
            model: the classifier.
            dataset: a `LabelledDataset`; None for that of the validation.

        Raises:
            TypeError: for a data set of another kind.
            ValueError: without validation recordings.
        """
        chosen = self.validation if dataset is None else dataset
        if not isinstance(chosen, LabelledDataset):
            raise TypeError(f"evaluate was given a {type(chosen).__name__}: a LabelledDataset is needed, or nothing.")
        predicted, labels, _ = self._classify(model, chosen, self.max_damaged)
        return class_rates(confusion_matrix(predicted, labels, len(chosen.classes)))

    def report(self, model: Student, dataset: LabelledDataset) -> dict[str, Any]:
        """Measure the rates with 95 % intervals over speakers, and count the confusions."""
        return class_report(*self._classify(model, dataset, max_damaged=0), dataset.classes)

    def _classify(
        self, model: Student, dataset: LabelledDataset, max_damaged: int
    ) -> tuple[list[int], list[int], list[str]]:
        """Return the predicted class, the true class and the speaker of each recording."""
        logits, labels = self.outputs(model, dataset.recordings, max_damaged), dataset.labels()
        speaker_of = speakers_of(dataset.recordings)
        predicted = [int(row.argmax()) for row in logits.values()]
        return predicted, [labels[name] for name in logits], [speaker_of[name] for name in logits]

    def measurements(self, model: Student) -> tuple[()]:
        """Return nothing: a classifier has no thresholds."""
        return ()

    def thresholds(self, model: Student) -> NoReturn:
        """Raise `ValueError`: a classifier has no thresholds."""
        raise ValueError("A classifier has no thresholds: it chooses the class with the largest logit.")
