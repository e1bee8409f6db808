"""Classify recordings during training, and choose the best checkpoint by it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.manifest import Manifest
from ..evaluation.report import speakers_of
from ..model.modeling_tasks_oskdft import Student
from ..scoring.classification import class_rates, class_report, confusion_matrix
from .columns import ColumnDataset, ColumnScorer


class LabelledDataset(ColumnDataset):
    """Recordings and the column of their classes; recordings of other classes than `values` are left out."""

    holds = "a class"

    def labels(self) -> dict[str, int]:
        """Return the class of each recording, by its utterance id."""
        number = {name: index for index, name in enumerate(self.values)}
        columns = (self.manifest.column(name) for name in ("utterance_id", self.column))
        return {utterance: number[value] for utterance, value in zip(*columns, strict=True) if value in number}


class ClassScorer(ColumnScorer[LabelledDataset]):
    """Classifies recordings during training; see `Scorer` for its arguments."""

    dataset_type = LabelledDataset

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
        chosen = self.chosen(dataset)
        predicted, labels, _ = self._classify(model, chosen, self.max_damaged)
        return class_rates(confusion_matrix(predicted, labels, len(chosen.values)))

    def report(self, model: Student, dataset: LabelledDataset) -> dict[str, Any]:
        """Measure the rates with 95 % intervals over speakers, and count the confusions."""
        return class_report(*self._classify(model, dataset, max_damaged=0), dataset.values)

    def _classify(
        self, model: Student, dataset: LabelledDataset, max_damaged: int
    ) -> tuple[list[int], list[int], list[str]]:
        """Return the predicted class, the true class and the speaker of each recording."""
        logits, labels = self.outputs(model, dataset.recordings, max_damaged), dataset.labels()
        speaker_of = speakers_of(dataset.recordings)
        predicted = [int(row.argmax()) for row in logits.values()]
        return predicted, [labels[name] for name in logits], [speaker_of[name] for name in logits]
