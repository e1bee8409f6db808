"""Run the positional convolution of an encoder by Fourier transforms where it is on a GPU.

HuBERT, wav2vec 2.0 and WavLM add a convolution of 128 taps in 16 groups to their features. In bf16, cuDNN has no fast
kernel for groups of 48 channels, those of the base size. By Fourier transforms, in float32, the convolution is no less
exact; `tests/gpu` compares both on a GPU.
"""

from types import MethodType

import torch
from torch import Tensor, nn

PLACE = "pos_conv_embed.conv"
EASY = 32  # lengths of transforms are multiples of it: cuFFT is slow for large prime factors


def use_fourier_on_gpu(model: nn.Module) -> None:
    """Let the positional convolutions of a model run by Fourier transforms on a GPU; elsewhere they run as before.

    Args:
        model: a verifier or an encoder of transformers; it is changed in place, and its state dict stays the same.
    """
    for name, module in model.named_modules():
        if name.endswith(PLACE) and isinstance(module, nn.Conv1d):
            # On the instance: the class is shared with every other convolution.
            module._conv_forward = MethodType(_convolve, module)  # type: ignore[method-assign]


def _convolve(self: nn.Conv1d, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Take the place of `nn.Conv1d._conv_forward`."""
    if not input.is_cuda:
        return nn.Conv1d._conv_forward(self, input, weight, bias)
    with torch.autocast("cuda", enabled=False):
        output = fourier_convolution(input, weight, bias, int(self.padding[0]), self.groups)
    return output.to(torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else input.dtype)


def fourier_convolution(input: Tensor, weight: Tensor, bias: Tensor | None, padding: int, groups: int) -> Tensor:
    """Convolve as `torch.nn.functional.conv1d` does with stride 1, by the convolution theorem.

    Args:
        input: (batch, channels, samples).
        weight: (filters, channels / groups, taps).
        bias: (filters,) or None.
        padding: zeros on each side.
        groups: of channels and filters.

    Returns:
        (batch, filters, samples + 2 * padding - taps + 1), in float32, or float64 for such an input.
    """
    exact = torch.promote_types(input.dtype, torch.float32)
    (batch, channels, samples), (filters, _, taps) = input.shape, weight.shape
    length = -(-(samples + taps - 1) // EASY) * EASY
    spectrum = torch.fft.rfft(input.to(exact), length).reshape(batch, groups, channels // groups, -1)
    filtering = (
        torch.fft.rfft(weight.to(exact), length).conj().reshape(groups, filters // groups, channels // groups, -1)
    )
    product = torch.einsum("bgcf,gocf->bgof", spectrum, filtering).reshape(batch, filters, -1)
    # Frame t of the inverse transform is the sum over the taps from sample t on; frame -padding comes first.
    output = torch.roll(torch.fft.irfft(product, length), padding, -1)[..., : samples + 2 * padding - taps + 1]
    return output if bias is None else output + bias.to(exact)[:, None]
