"""Hold one trunk in memory for several tasks: each brings its adapters and its head, and is chosen by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from ..model.companions_oskdft import fingerprint_of
from ..model.modeling_oskdft import OSKDFTPreTrainedModel


class SharedTrunk(nn.Module):
    """Verifiers, classifiers and recognisers that were trained on one frozen trunk (`freeze: trunk` of a recipe).

    The trunk is everything that the kd path reads: convolutions, projection and layers without their adapters. The
    models are changed: all of them read the parameters of the first.

    Args:
        models: models by the name of their task. The first one is in use.

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
        if not models:
            raise ValueError("SharedTrunk was given no model: give one or more, by the names of their tasks.")
        for name, model in models.items():
            if not isinstance(model, OSKDFTPreTrainedModel) or not hasattr(model, "oskdft"):
                raise ValueError(f"The task '{name}' is a {type(model).__name__}: give models of OS-KDFT.")
        self.models = nn.ModuleDict(models)
        self.task, *others = models
        wanted = _trunk(models[self.task])
        for name in others:
            if fingerprint_of(_trunk(models[name])) != fingerprint_of(wanted):
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
    def tasks(self) -> list[str]:
        """List the names that `set_task` accepts."""
        return list(self.models)

    def set_task(self, name: str) -> None:
        """Choose the task that the next call computes.

        Raises:
            ValueError: for an unknown name, listing the known ones.
        """
        if name not in self.models:
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


def _share(model: PreTrainedModel, parameters: Mapping[str, nn.Parameter]) -> None:
    """Let a model read the parameters of another trunk."""
    encoder = model.get_submodule("oskdft")
    for name, parameter in parameters.items():
        place, _, leaf = name.rpartition(".")
        setattr(encoder.get_submodule(place), leaf, parameter)
