"""Classify recordings during training, and choose the best checkpoint by it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import SequenceFeatureExtractor
from transformers.trainer_utils import PredictionOutput

from ..data.manifest import Manifest
from ..embedding.corpus import extract_embeddings
from ..evaluation.report import speakers_of
from ..model.modeling_tasks_oskdft import OSKDFTForSequenceClassification
from ..scoring.classification import class_rates, class_report, confusion_matrix
from .training_arguments import OSKDFTTrainingArguments


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
                f"No recording here has a class in '{self.label_column}': give others, or set more speakers aside."
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


class ClassScorer:
    """Classifies recordings during training.

    Args:
        feature_extractor: of the student.
        args: settings of the training.
        max_damaged: unreadable recordings until an error.
        validation: recordings that are classified when no others are given.
    """

    def __init__(
        self,
        feature_extractor: SequenceFeatureExtractor,
        args: OSKDFTTrainingArguments,
        max_damaged: int,
        validation: LabelledDataset | None = None,
    ) -> None:
        self.feature_extractor, self.args, self.max_damaged = feature_extractor, args, max_damaged
        self.validation = validation

    def classify(
        self, model: OSKDFTForSequenceClassification, manifest: Manifest, max_damaged: int
    ) -> dict[str, NDArray[np.floating]]:
        """Compute the logits of whole recordings; returns utterance id to (num_labels,)."""
        embeddings = extract_embeddings(
            model,
            self.feature_extractor,
            manifest,
            progress=not self.args.disable_tqdm,
            num_workers=self.args.dataloader_num_workers,
            max_damaged=max_damaged,
        )
        rows = torch.from_numpy(np.stack(list(embeddings.values()))).to(model.device)
        with torch.inference_mode():
            logits = model.task_output(rows.to(model.classifier.weight.dtype)).cpu().numpy()
        return dict(zip(embeddings, logits, strict=True))

    def error_rates(self, model: OSKDFTForSequenceClassification, dataset: object = None) -> dict[str, float]:
        """Measure accuracy, macro F1 and UAR, as fractions.

        Args:
            model: the classifier.
            dataset: a `LabelledDataset`; None for that of the validation.

        Raises:
            TypeError: for a data set of another kind.
            ValueError: without validation recordings.
        """
        chosen = self._dataset(dataset)
        logits, labels = self.classify(model, chosen.recordings, self.max_damaged), chosen.labels()
        predicted = [int(row.argmax()) for row in logits.values()]
        return class_rates(confusion_matrix(predicted, [labels[name] for name in logits], len(chosen.classes)))

    def report(self, model: OSKDFTForSequenceClassification, dataset: LabelledDataset) -> dict[str, Any]:
        """Measure the rates with 95 % intervals over speakers, and count the confusions."""
        logits, labels = self.classify(model, dataset.recordings, 0), dataset.labels()
        predicted, true = [int(row.argmax()) for row in logits.values()], [labels[name] for name in logits]
        speaker_of = speakers_of(dataset.recordings)
        return class_report(predicted, true, [speaker_of[name] for name in logits], dataset.classes)

    def predict(self, model: OSKDFTForSequenceClassification, manifest: object, prefix: str) -> PredictionOutput:
        """Compute the logits of a manifest; returns (recordings, num_labels).

        Raises:
            TypeError: for anything but a manifest.
        """
        if not isinstance(manifest, Manifest):
            raise TypeError(f"predict was given a {type(manifest).__name__}: a Manifest is needed.")
        logits = self.classify(model, manifest, max_damaged=0)
        return PredictionOutput(np.stack(list(logits.values())), None, {f"{prefix}_utterances": len(logits)})

    def measurements(self, model: OSKDFTForSequenceClassification) -> tuple[()]:
        """Return nothing: a classifier has no thresholds."""
        return ()

    def thresholds(self, model: OSKDFTForSequenceClassification) -> NoReturn:
        """Raise `ValueError`: a classifier has no thresholds."""
        raise ValueError("A classifier has no thresholds: it chooses the class with the largest logit.")

    def _dataset(self, dataset: object) -> LabelledDataset:
        chosen = self.validation if dataset is None else dataset
        if chosen is None:
            raise ValueError("evaluate was called without validation data: give the Trainer an eval_dataset.")
        if not isinstance(chosen, LabelledDataset):
            raise TypeError(f"evaluate was given a {type(chosen).__name__}: a LabelledDataset is needed, or nothing.")
        return chosen
