"""Hold one trunk in memory for several tasks: each brings its adapters and its head, and is chosen by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from ..model.modeling_oskdft import OSKDFTPreTrainedModel


class SharedTrunk(nn.Module):
    """Verifiers, classifiers and recognisers that were trained on one frozen trunk (`freeze: trunk` of a recipe).

    The trunk is everything that the kd path reads: convolutions, projection and layers without their adapters. The
    models are changed: all of them read the parameters of the first.

    Args:
        models: models by the name of their task. The first one is in use.

    Attributes:
        tasks: names that `set_task` accepts.
        task: the one in use.

    Raises:
        ValueError: for no model, one of another kind, and one whose trunk differs from the first one's.

    Example:
        >>> tasks = SharedTrunk({"speaker": verifier, "gender": classifier})
        >>> tasks.set_task("gender")
        >>> tasks(input_values).logits.shape
        torch.Size([1, 2])
    """

    def __init__(self, models: Mapping[str, PreTrainedModel]) -> None:
        super().__init__()
        if not isinstance(models, Mapping) or not models:
            raise ValueError("SharedTrunk was given no models by name: give a dict of one or more, by their tasks.")
        for name, model in models.items():
            if not isinstance(model, OSKDFTPreTrainedModel) or not hasattr(model, "oskdft"):
                raise ValueError(f"The task '{name}' is a {type(model).__name__}: give models of OS-KDFT.")
        self._models = nn.ModuleList(models.values())
        self.tasks = list(models)
        self.task, *others = models
        wanted = _trunk(models[self.task])
        for name in others:
            if not _equal(_trunk(models[name]), wanted):
                raise ValueError(
                    f"The task '{name}' has another trunk than '{self.task}': train both from one trunk, with "
                    "student_from and freeze: trunk."
                )
            _share(models[name], wanted)

    @classmethod
    def from_pretrained(cls, folders: Mapping[str, str | Path]) -> "SharedTrunk":
        """Open models from folders or repositories, by the names of their tasks; raises as they and the class do."""
        return cls({name: AutoModel.from_pretrained(str(folder)) for name, folder in folders.items()})

    @property
    def models(self) -> dict[str, PreTrainedModel]:
        """Return the models by the names of their tasks."""
        return dict(zip(self.tasks, self._models, strict=True))

    def set_task(self, name: str) -> None:
        """Choose the task that the next call computes.

        Raises:
            ValueError: for an unknown name, listing the known ones.
        """
        if name not in self.tasks:
            raise ValueError(f"There is no task '{name}': there are {', '.join(self.tasks)}.")
        self.task = name

    def forward(self, *arguments: Any, **named: Any) -> ModelOutput:
        """Compute the output of the chosen task; takes and returns what its model does."""
        output: ModelOutput = self.models[self.task](*arguments, **named)
        return output


def _trunk(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return the parameters of a trunk by their names in the encoder."""
    encoder: nn.Module = model.get_submodule("oskdft")
    return {name: value for name, value in encoder.named_parameters() if ".adapter." not in name}


def _equal(ours: Mapping[str, nn.Parameter], theirs: Mapping[str, nn.Parameter]) -> bool:
    """Whether two trunks have the same numbers, of one type and on one device."""
    return ours.keys() == theirs.keys() and all(
        value.shape == theirs[name].shape
        and value.dtype == theirs[name].dtype
        and value.device == theirs[name].device
        and torch.equal(value, theirs[name])
        for name, value in ours.items()
    )


def _share(model: PreTrainedModel, parameters: Mapping[str, nn.Parameter]) -> None:
    """Let a model read the parameters of another trunk."""
    encoder = model.get_submodule("oskdft")
    for name, parameter in parameters.items():
        place, _, leaf = name.rpartition(".")
        setattr(encoder.get_submodule(place), leaf, parameter)
