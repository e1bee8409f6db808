"""Where reduced precision needs a hand: convolutions that oneDNN computes wrongly in bfloat16."""

import torch
from torch import Tensor, nn

# Below, with AMX and torch 2.13, a grouped convolution in bfloat16 has a relative error of 1; from 16 on it is right.
FEWEST_CHANNELS_A_GROUP = 16


class InFloat32(nn.Module):
    """Mixed into a layer's class: autocast stops at its door."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """As the layer itself, in float32."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            return super().forward(hidden_states.float())


def protect_narrow_convolutions(model: nn.Module) -> None:
    """Let grouped convolutions with fewer than 16 channels a group compute in float32 under autocast, in place.

    The positional convolution of a narrow encoder is one; of the published ones, with 48 or 64, none is touched. The
    layers stay the same objects with the same parameters.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv1d) or isinstance(module, InFloat32):
            continue
        if module.groups > 1 and module.in_channels // module.groups < FEWEST_CHANNELS_A_GROUP:
            own = type(module)
            module.__class__ = type(f"{own.__name__}InFloat32", (InFloat32, own), {})
