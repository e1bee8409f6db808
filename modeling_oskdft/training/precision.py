"""Compute in float32 what reduced precision gets wrong."""

import torch
from torch import Tensor, nn

# Below, with AMX and torch 2.13, a grouped convolution in bfloat16 has a relative error of 1; from 16 on it is right.
FEWEST_CHANNELS_A_GROUP = 16


class InFloat32(nn.Module):
    """Mixed into the class of a layer, which then computes in float32 under autocast."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Compute the layer in float32."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            return super().forward(hidden_states.float())


def protect_narrow_convolutions(model: nn.Module) -> None:
    """Make grouped convolutions with fewer than 16 channels a group compute in float32 under autocast, in place.

    oneDNN of torch 2.13 computes them wrongly in bfloat16 on processors with AMX. The positional convolution of a
    narrow encoder is such a layer; those of the published encoders, with 48 or 64 channels, stay as they are. The
    layers stay the same objects with the same parameters.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv1d) or isinstance(module, InFloat32):
            continue
        if module.groups > 1 and module.in_channels // module.groups < FEWEST_CHANNELS_A_GROUP:
            layer = type(module)
            module.__class__ = type(f"{layer.__name__}InFloat32", (InFloat32, layer), {})
