"""Embed recordings during training, for whatever selects the best checkpoint."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from transformers import SequenceFeatureExtractor
from transformers.trainer_utils import PredictionOutput

from ..data.manifest import Manifest
from ..embedding.corpus import extract_embeddings
from ..evaluation.report import speakers_of
from ..model.modeling_tasks_oskdft import Student
from .training_arguments import OSKDFTTrainingArguments

NEEDED = "a Manifest (data.sources.load_manifest)"
Dataset = TypeVar("Dataset")


class Scorer(ABC, Generic[Dataset]):
    """Measures a student during training.

    Args:
        feature_extractor: of the student.
        args: settings of the training.
        max_damaged: unreadable recordings until an error.
        validation: what is measured when nothing else is given.
    """

    def __init__(
        self,
        feature_extractor: SequenceFeatureExtractor,
        args: OSKDFTTrainingArguments,
        max_damaged: int,
        validation: Dataset | None = None,
    ) -> None:
        self.feature_extractor, self.args, self.max_damaged = feature_extractor, args, max_damaged
        self._validation = validation

    @property
    def validation(self) -> Dataset:
        """What selects the best checkpoint; raises `ValueError` where there is nothing."""
        if self._validation is None:
            raise ValueError(
                "evaluate or predict was called without validation data: give the Trainer an eval_dataset."
            )
        return self._validation

    def embed(self, model: Student, manifest: Manifest, max_damaged: int) -> dict[str, NDArray[np.floating]]:
        """Embed the recordings of a manifest; returns utterance id to (embedding_size,)."""
        return extract_embeddings(
            model,
            self.feature_extractor,
            manifest,
            progress=not self.args.disable_tqdm,
            num_workers=self.args.dataloader_num_workers,
            max_damaged=max_damaged,
        )

    def predict(self, model: Student, manifest: object, prefix: str) -> PredictionOutput:
        """Compute the output of every recording of a manifest, with its speaker in `label_ids`.

        Raises:
            TypeError: for anything but a manifest.
        """
        if not isinstance(manifest, Manifest):
            raise TypeError(f"predict was given a {type(manifest).__name__}: {NEEDED} is needed.")
        outputs = self.outputs(model, manifest, max_damaged=0)  # a row for every recording
        speaker_of = speakers_of(manifest)
        speakers = np.asarray([speaker_of[name] for name in outputs])
        return PredictionOutput(np.stack(list(outputs.values())), speakers, {f"{prefix}_utterances": len(outputs)})

    @abstractmethod
    def outputs(self, model: Student, manifest: Manifest, max_damaged: int) -> Mapping[str, NDArray[Any]]:
        """Compute what `predict` returns of each recording, by its utterance id."""

    @abstractmethod
    def error_rates(self, model: Student, dataset: object = None) -> dict[str, float]:
        """Measure the metrics of the task, as fractions; None for the validation."""
