"""The one step: one batch through both paths of the student, and both losses, in a single forward.

DDP, compilation and accumulation see this one module. The frozen teacher is not part of it: its states come in.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..modeling_oskdft import OSKDFTForXVector, adapter_parameters
from .objectives import Objectives, WeightedLoss

FREEZABLE = ("none", "feature_encoder", "encoder")


class JointOutput(NamedTuple):
    """Both losses of a batch, undivided; `kd` is None without a distillation objective."""

    ft: WeightedLoss
    kd: WeightedLoss | None


class JointModel(nn.Module):
    """A student and its objectives.

    freeze: "feature_encoder" keeps the convolutional front end as it is, "encoder" everything but the head.
    """

    def __init__(self, student: OSKDFTForXVector, objectives: Objectives, freeze: str = "none") -> None:
        super().__init__()
        if freeze not in FREEZABLE:
            raise ValueError(f"freeze is '{freeze}': use one of {', '.join(FREEZABLE)}.")
        if freeze == "encoder" and objectives.kd is not None:
            raise ValueError(
                "freeze is 'encoder' with a distillation objective: nothing would learn; set kd_weight to 0."
            )
        self.student = student
        self.objectives = objectives
        self.frozen_encoder = freeze == "encoder"
        if self.frozen_encoder:
            student.oskdft.requires_grad_(False)
        elif freeze == "feature_encoder":
            student.freeze_feature_encoder()

    def train(self, mode: bool = True) -> "JointModel":
        """As usual, but a frozen encoder stays in eval mode: no dropout on features that nothing adapts to."""
        super().train(mode)
        if self.frozen_encoder:
            self.student.oskdft.eval()
        return self

    def forward(
        self, input_values: Tensor, labels: Tensor, teacher_states: Sequence[Tensor] | None = None
    ) -> JointOutput:
        """input_values: (batch, samples) of one length; labels: (batch,); teacher_states: see `KDObjective`."""
        kd_objective = self.objectives.kd
        path = "ft" if kd_objective is None else "both"
        outputs = self.student.oskdft(input_values, path=path, output_hidden_states=True, return_dict=True)
        embeddings = self.student.head(outputs.hidden_states)
        kd = None if kd_objective is None else kd_objective(outputs.kd_hidden_states, teacher_states)
        return JointOutput(self.objectives.speaker(embeddings, labels), kd)

    def activation_checkpointing_enable(self, **kwargs: object) -> None:
        """What the Trainer calls on its model, by the name of its version: passed on to the student."""
        student: Any = self.student
        old_name = student.gradient_checkpointing_enable
        getattr(student, "activation_checkpointing_enable", old_name)(**kwargs)

    gradient_checkpointing_enable = activation_checkpointing_enable

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by schedule: adapters, the shared backbone, and the head with both objectives.

        Left out is the bias of the linear layer before the head's last batch norm: its gradient is rounding alone,
        which Adam would turn into whole steps, and into embeddings that depend on how many processes there are.
        """
        no_gradient = id(cast(Any, self.student.head).projection.bias)
        adapters = {id(parameter) for _, parameter in adapter_parameters(self.student)}
        shared = {id(parameter) for parameter in self.student.oskdft.parameters()} - adapters
        groups: dict[str, list[nn.Parameter]] = {"head": [], "adapters": [], "backbone": []}
        for parameter in self.parameters():
            if parameter.requires_grad and id(parameter) != no_gradient:
                own = id(parameter)
                groups["adapters" if own in adapters else "backbone" if own in shared else "head"].append(parameter)
        return groups


class Teacher:
    """A frozen encoder, cut to the deepest hidden state that is asked of it.

    The model is taken over, not copied: a second large encoder would be as large again.
    Not a module: no optimiser, checkpoint or wrapper can find it. Hidden states are counted as the student's are: 0 is
    the input of the first layer, and the last one is `last_hidden_state`, for both norm orders.
    """

    def __init__(self, model: PreTrainedModel, target_layers: Sequence[int]) -> None:
        depth = model.config.num_hidden_layers
        for layer in target_layers:
            if not 0 <= layer <= depth:
                raise ValueError(f"kd_target_layers names hidden state {layer}: the teacher has 0 to {depth}.")
        self.target_layers = list(target_layers)
        self.needs_last = depth in self.target_layers
        deepest = max(self.target_layers)
        if deepest < depth:
            model.encoder.layers = model.encoder.layers[:deepest]
            model.config.num_hidden_layers = deepest
        self.model = model.requires_grad_(False).eval()

    def to(self, device: torch.device) -> "Teacher":
        """Move the encoder."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, input_values: Tensor) -> tuple[Tensor, ...]:
        """(batch, samples) to the target states, each (batch, frames, hidden)."""
        outputs = self.model(input_values, output_hidden_states=True)
        states = list(outputs.hidden_states)
        if self.needs_last:
            states[-1] = outputs.last_hidden_state
        return tuple(states[layer] for layer in self.target_layers)
