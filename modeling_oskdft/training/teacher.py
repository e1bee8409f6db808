"""Compute the target states of a frozen teacher."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..model.companions_oskdft import fingerprint_of
from ..model.modeling_oskdft import masked_group_norm
from ..model.modeling_tasks_oskdft import Student
from ..student.positional_convolution import use_fourier_on_gpu
from .precision import protect_narrow_convolutions
from .speech_encoders import check_hidden_states, cut_layers


class TeacherOutput(NamedTuple):
    """Everything that a training step needs of the teacher.

    Args:
        hidden_states: the target states, each (batch, frames, hidden), float32; None without a teacher.
        conv_features: (batch, channels, frames), output of the convolutions, for a student with the same frozen ones.
        conv_target: the same output as a target of `FrontEndDistillation`.
    """

    hidden_states: tuple[Tensor, ...] | None
    conv_features: Tensor | None = None
    conv_target: Tensor | None = None


class KeptConvolutions(nn.Module):
    """A teacher's convolutions that keep their last output.

    Args:
        convolutions: the feature encoder of the teacher.
        dtype: precision in which they compute.
    """

    def __init__(self, convolutions: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.convolutions, self.dtype = convolutions, dtype
        self._conv_features: Tensor | None = None

    def forward(self, input_values: Tensor) -> Tensor:
        """Compute (batch, channels, frames) from (batch, samples)."""
        with autocast(input_values.device, self.dtype):
            self._conv_features = self.convolutions(input_values)
        return self._conv_features

    def pop(self) -> Tensor | None:
        """Return a copy of the last output, which autograd accepts, and forget it."""
        features, self._conv_features = self._conv_features, None
        return None if features is None else features.clone()


class PaddingBlindNorm:
    """Makes the GroupNorm of an encoder's first convolution leave padding out, as the student's does.

    transformers' own averages over the padding of a batch as well, so that a recording would have other targets beside
    a longer one.

    Args:
        model: an encoder of transformers; without such a norm nothing changes.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.samples: Tensor | None = None  # (batch,), while padded recordings are computed
        layers = getattr(getattr(model, "feature_extractor", None), "conv_layers", None)
        norm = None if layers is None else getattr(layers[0], "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            self.kernel, self.stride = model.config.conv_kernel[0], model.config.conv_stride[0]
            norm.register_forward_hook(self)

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """Replace the output of the norm while recordings are padded."""
        if self.samples is None:
            return output
        return masked_group_norm(cast(nn.GroupNorm, norm), inputs[0], (self.samples - self.kernel) // self.stride + 1)


class Teacher:
    """A frozen encoder, cut after the deepest target state.

    It is no module, so no optimiser, checkpoint or wrapper finds it. The model is changed in place: a copy of a large
    encoder would need its memory twice. Hidden states are counted as the student's are: 0 is the input of the first
    layer, and the last one is `last_hidden_state`, for both norm orders.

    Args:
        model: an encoder of transformers.
        target_layers: indices of the target states.
        dtype: bfloat16 computes by autocast; states are returned as float32.
        shared_dtype: return the output of the convolutions in this precision, for a student that has the same frozen
            convolutions and the same input. None: do not.
        conv_target: return the output of the convolutions as a target.
        view: index of its inputs among those that the collator makes by other feature extractors than the student's;
            None: it reads the student's `input_values`.

    Raises:
        ValueError: when a target state does not exist.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        target_layers: Sequence[int],
        dtype: torch.dtype = torch.float32,
        shared_dtype: torch.dtype | None = None,
        conv_target: bool = False,
        view: int | None = None,
    ) -> None:
        depth = model.config.num_hidden_layers
        for layer in target_layers:
            if not 0 <= layer <= depth:
                raise ValueError(f"kd_target_layers names hidden state {layer}: the teacher has 0 to {depth}.")
        self.fingerprint = fingerprint_of(model.state_dict())[:16]
        self.target_layers = list(target_layers)
        self.needs_last = depth in self.target_layers
        deepest = max(self.target_layers)
        if deepest < depth:
            cut_layers(model, deepest)
        self.norm = PaddingBlindNorm(model)
        self.shared: KeptConvolutions | None = None
        if shared_dtype is not None:
            model.feature_extractor = self.shared = KeptConvolutions(model.feature_extractor, shared_dtype)
        self.target: KeptConvolutions | None = None
        if conv_target:
            model.feature_extractor = self.target = KeptConvolutions(model.feature_extractor, dtype)
        self.model = model.requires_grad_(False).eval()
        protect_narrow_convolutions(self.model)
        use_fourier_on_gpu(self.model)
        self.dtype, self.view = dtype, view

    def check(self, inputs: dict[str, Tensor], samples: int) -> None:
        """Compute the states of a crop once, see `speech_encoders.check_hidden_states`."""
        with autocast(next(iter(inputs.values())).device, self.dtype):
            check_hidden_states(self.model, inputs, samples)
        for kept in filter(None, (self.shared, self.target)):
            kept.pop()

    def stop_sharing(self) -> None:
        """Return no output of the convolutions for the student any more."""
        if self.shared is not None:
            self.model.feature_extractor, self.shared = self.shared.convolutions, None

    def stop_sharing_unless_equal(self, student: Student) -> None:
        """Stop sharing when the student's convolutions are others, as after loading weights."""
        if self.shared is not None and not same_convolutions(student, self.shared.convolutions):
            self.stop_sharing()

    def to(self, device: torch.device) -> "Teacher":
        """Move the encoder to a device."""
        self.model.to(device)
        return self

    def __call__(self, inputs: Mapping[str, Tensor]) -> TeacherOutput:
        """Compute the target states.

        Args:
            inputs: what the teacher's feature extractor returned, e.g. `input_values` (batch, samples).

        Returns:
            States and convolutions; copies, because autograd does not accept tensors of inference mode.
        """
        device = next(iter(inputs.values())).device
        mask = inputs.get("attention_mask")
        self.norm.samples = None if mask is None else mask.sum(-1)
        with torch.inference_mode(), autocast(device, self.dtype):
            outputs = self.model(**inputs, output_hidden_states=True)
        states = list(outputs.hidden_states)
        if self.needs_last:
            states[-1] = outputs.last_hidden_state
        return TeacherOutput(
            tuple(states[layer].to(torch.float32, copy=True) for layer in self.target_layers),
            None if self.shared is None else self.shared.pop(),
            None if self.target is None else self.target.pop(),
        )


def same_convolutions(student: Student, convolutions: nn.Module) -> bool:
    """Return whether the student's convolutions have the same weights, number for number."""
    weights, others = student.oskdft.feature_extractor.state_dict(), convolutions.state_dict()
    return weights.keys() == others.keys() and all(
        value.shape == others[name].shape and bool((value == others[name].to(value)).all())
        for name, value in weights.items()
    )


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Compute in bfloat16 where a teacher's precision is bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
