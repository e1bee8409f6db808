"""The one step: one batch through both paths of the student, and both losses, in a single forward.

DDP, compilation and accumulation see this one module. The frozen teacher is not part of it: its states come in.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..model.modeling_oskdft import OSKDFTForXVector, adapter_parameters
from .objectives.objectives import Objectives, WeightedLoss
from .precision import protect_narrow_convolutions

FREEZABLE = ("none", "feature_encoder", "encoder")


class JointOutput(NamedTuple):
    """Both losses of a batch, undivided; each is None without its objective.

    `front_end` is the part of `kd` that front-end distillation has, weighted as it is in there.
    """

    ft: WeightedLoss | None
    kd: WeightedLoss | None
    front_end: WeightedLoss | None = None


class SpecMask(nn.Module):
    """Hides a band of features and a span of frames of the head's input (SpecAugment, Park et al., 2019).

    Each item with `probability`; widths are drawn from 0 to `features` and 0 to `frames`, the authors' 100 and 10.
    """

    def __init__(self, probability: float, features: int = 100, frames: int = 10) -> None:
        super().__init__()
        self.probability, self.features, self.frames = probability, features, frames

    def forward(self, hidden_states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """hidden_states: each (batch, frames, hidden); all get the same mask, as the head mixes them."""
        batch, frames, width = hidden_states[0].shape
        device = hidden_states[0].device
        masked = torch.rand(batch, 1, device=device) < self.probability
        span = masked & _span(batch, frames, self.frames, device)
        band = masked & _span(batch, width, self.features, device)
        hidden = span[:, :, None] | band[:, None, :]
        return tuple(state.masked_fill(hidden, 0.0) for state in hidden_states)


def _span(batch: int, length: int, widest: int, device: torch.device) -> Tensor:
    """(batch, length), True along one span a row, 0 to `widest` long."""
    size = torch.randint(0, min(widest, length) + 1, (batch, 1), device=device)
    start = (torch.rand(batch, 1, device=device) * (length - size + 1)).long()
    place = torch.arange(length, device=device)
    return (place >= start) & (place < start + size)


class JointModel(nn.Module):
    """A student and its objectives.

    freeze: "feature_encoder" keeps the convolutional front end as it is, "encoder" everything but the head.
    spec_mask: what hides parts of the head's input in training.
    """

    def __init__(
        self,
        student: OSKDFTForXVector,
        objectives: Objectives,
        freeze: str = "none",
        spec_mask: SpecMask | None = None,
    ) -> None:
        super().__init__()
        if freeze not in FREEZABLE:
            raise ValueError(f"freeze is '{freeze}': use one of {', '.join(FREEZABLE)}.")
        if freeze == "encoder" and objectives.kd is not None:
            raise ValueError(
                "freeze is 'encoder' with a distillation objective: nothing would learn; set kd_weight to 0."
            )
        if freeze == "feature_encoder" and objectives.front_end is not None:
            raise ValueError(
                "freeze is 'feature_encoder' with front-end distillation: no convolution would learn; set "
                "front_end_kd_lambda to 0, or freeze to none."
            )
        self.student = student
        self.objectives = objectives
        self.spec_mask = spec_mask
        self.frozen_encoder = freeze == "encoder"
        if self.frozen_encoder:
            student.oskdft.requires_grad_(False)
        elif freeze == "feature_encoder":
            student.freeze_feature_encoder()
        if objectives.speaker is None:  # nothing reads the ft path
            student.head.requires_grad_(False)
            for _, parameter in adapter_parameters(student):
                parameter.requires_grad_(False)
        protect_narrow_convolutions(student)

    def train(self, mode: bool = True) -> "JointModel":
        """As usual, but a frozen encoder stays in eval mode: no dropout on features that nothing adapts to."""
        super().train(mode)
        if self.frozen_encoder:
            self.student.oskdft.eval()
        return self

    def forward(
        self,
        input_values: Tensor,
        labels: Tensor,
        teacher_states: Sequence[Tensor] | None = None,
        conv_features: Tensor | None = None,
        front_end_target: Tensor | None = None,
    ) -> JointOutput:
        """input_values: (batch, samples) of one length; labels: (batch,); teacher_states: see `KDObjective`.

        conv_features: what the front end makes of `input_values`, where the teacher has computed it already.
        front_end_target: what the teacher's makes of what the teacher hears, for `FrontEndDistillation`.
        """
        encoder, kd_objective = self.student.oskdft, self.objectives.kd
        features = encoder.convolve(input_values) if conv_features is None else conv_features
        if self.objectives.speaker is None:
            distilled = encoder.encode(features, path="kd").hidden_states
            return JointOutput(None, *self._distil(features, distilled, teacher_states, front_end_target))
        outputs = encoder.encode(features, path="ft" if kd_objective is None else "both")
        heard = outputs.hidden_states
        if self.spec_mask is not None and self.training:
            heard = self.spec_mask(heard)
        ft = self.objectives.speaker(self.student.head(heard), labels)
        return JointOutput(ft, *self._distil(features, outputs.kd_hidden_states, teacher_states, front_end_target))

    def _distil(
        self,
        features: Tensor,
        student_states: Sequence[Tensor] | None,
        teacher_states: Sequence[Tensor] | None,
        front_end_target: Tensor | None,
    ) -> tuple[WeightedLoss | None, WeightedLoss | None]:
        """The whole distillation loss and, of it, the front end's part."""
        objectives = self.objectives
        if objectives.kd is None:
            return None, None
        kd = objectives.kd(student_states, teacher_states)
        if objectives.front_end is None:
            return kd, None
        front_end = objectives.front_end(features, front_end_target)
        return WeightedLoss(kd.total + front_end.total, kd.weight), front_end

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


class TeacherOutput(NamedTuple):
    """The target states, each (batch, frames, hidden), and the front end's output, (batch, channels, frames).

    `conv_features` is that output for a student who shares it, `front_end_target` for one who is to learn it.
    """

    states: tuple[Tensor, ...]
    conv_features: Tensor | None = None
    front_end_target: Tensor | None = None


def same_front_end(student: OSKDFTForXVector, front_end: nn.Module) -> bool:
    """Whether the student's convolutions are these, number for number."""
    own, theirs = student.oskdft.feature_extractor.state_dict(), front_end.state_dict()
    return own.keys() == theirs.keys() and all(
        value.shape == theirs[name].shape and bool((value == theirs[name].to(value)).all())
        for name, value in own.items()
    )


class SharedFrontEnd(nn.Module):
    """A teacher's convolutions, whose last output is kept for the student.

    dtype: in the student's precision, or in the teacher's own for a target.
    """

    def __init__(self, front_end: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.front_end, self.dtype = front_end, dtype
        self.features: Tensor | None = None

    def forward(self, input_values: Tensor) -> Tensor:
        """(batch, samples) to (batch, channels, frames)."""
        with _precision(input_values.device, self.dtype):
            self.features = self.front_end(input_values)
        return self.features

    def take(self) -> Tensor | None:
        """A copy of the last output, which autograd takes; it is not kept any longer."""
        features, self.features = self.features, None
        return None if features is None else features.clone()


def _precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


class Teacher:
    """A frozen encoder, cut to the deepest hidden state that is asked of it.

    The model is taken over, not copied: a second large encoder would be as large again.
    Not a module: no optimiser, checkpoint or wrapper can find it. Hidden states are counted as the student's are: 0 is
    the input of the first layer, and the last one is `last_hidden_state`, for both norm orders.
    dtype: bfloat16 computes in it, by autocast; states are handed on as float32. shared_front_end: hand on the output
    of the convolutions, which a student with the same frozen ones and the same input need not compute again, computed
    in this precision; None: do not. front_end_target: hand on that output as a target, for a student to learn.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        target_layers: Sequence[int],
        dtype: torch.dtype = torch.float32,
        shared_front_end: torch.dtype | None = None,
        front_end_target: bool = False,
    ) -> None:
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
        self.front_end: SharedFrontEnd | None = None
        if shared_front_end is not None:
            model.feature_extractor = self.front_end = SharedFrontEnd(model.feature_extractor, shared_front_end)
        self.listened: SharedFrontEnd | None = None
        if front_end_target:
            model.feature_extractor = self.listened = SharedFrontEnd(model.feature_extractor, dtype)
        self.model = model.requires_grad_(False).eval()
        protect_narrow_convolutions(self.model)
        self.dtype = dtype

    def stop_sharing(self) -> None:
        """Each computes its own convolutions from now on."""
        if self.front_end is not None:
            self.model.feature_extractor, self.front_end = self.front_end.front_end, None

    def to(self, device: torch.device) -> "Teacher":
        """Move the encoder."""
        self.model.to(device)
        return self

    def __call__(self, input_values: Tensor) -> TeacherOutput:
        """(batch, samples) to what the step needs; copies, because tensors of inference mode cannot meet autograd."""
        with torch.inference_mode(), _precision(input_values.device, self.dtype):
            outputs = self.model(input_values, output_hidden_states=True)
        states = list(outputs.hidden_states)
        if self.needs_last:
            states[-1] = outputs.last_hidden_state
        return TeacherOutput(
            tuple(states[layer].to(torch.float32, copy=True) for layer in self.target_layers),
            None if self.front_end is None else self.front_end.take(),
            None if self.listened is None else self.listened.take(),
        )
