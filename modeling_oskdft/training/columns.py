"""Measure what a column of the data says of recordings: their classes, or their texts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NoReturn, TypeVar

from ..data.manifest import Manifest
from ..model.modeling_tasks_oskdft import Student
from .scorer import Scorer


@dataclass(frozen=True)
class ColumnDataset(ABC):
    """Recordings and a column that says something of each: the `eval_dataset` of the trainer of another task.

    Args:
        manifest: the recordings; those of which the column says nothing are left out.
        column: name of the column.
        values: the classes in their order, or the vocabulary of the texts.

    Raises:
        ValueError: when no recording is left.
    """

    manifest: Manifest
    column: str
    values: tuple[str, ...]
    unit = "recordings"
    holds: ClassVar[str]  # what the column has

    def __post_init__(self) -> None:
        if not len(self):
            raise ValueError(
                f"No recording here has {self.holds} in '{self.column}': give others, or for the validation set more "
                "speakers aside."
            )

    @abstractmethod
    def labels(self) -> Mapping[str, Any]:
        """Return what the column says of each recording, by its utterance id."""

    @cached_property
    def recordings(self) -> Manifest:
        """The recordings of which the column says something."""
        return self.manifest.where("utterance_id", list(self.labels()))

    def __len__(self) -> int:
        return len(self.recordings)


Column = TypeVar("Column", bound=ColumnDataset)


class ColumnScorer(Scorer[Column]):
    """Measures a student by a column; see `Scorer` for its arguments. Such a student decides without thresholds."""

    dataset_type: type[Column]

    def chosen(self, dataset: object) -> Column:
        """Return a data set of the scorer's type; None stands for that of the validation.

        Raises:
            TypeError: for a data set of another kind.
            ValueError: without validation recordings.
        """
        chosen = self.validation if dataset is None else dataset
        if not isinstance(chosen, self.dataset_type):
            wanted = self.dataset_type.__name__
            raise TypeError(f"evaluate was given a {type(chosen).__name__}: a {wanted} is needed, or nothing.")
        return chosen

    @abstractmethod
    def report(self, model: Student, dataset: Column) -> dict[str, Any]:
        """Measure the rates with 95 % intervals over speakers."""

    def measurements(self, model: Student) -> tuple[()]:
        """Return nothing: there are no thresholds."""
        return ()

    def thresholds(self, model: Student) -> NoReturn:
        """Raise `ValueError`: there are no thresholds."""
        raise ValueError(f"A {type(model).__name__} has no thresholds: its largest logit decides.")
