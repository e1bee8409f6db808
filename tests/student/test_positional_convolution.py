import copy

import pytest
import torch
from torch.nn import functional as F

from modeling_oskdft.student.positional_convolution import fourier_convolution, use_fourier_on_gpu
from tests.tiny import SHAPES, tiny_verifier, waves


@pytest.mark.parametrize(
    ("samples", "channels", "filters", "taps", "padding", "groups"),
    [(50, 8, 8, 16, 8, 4), (7, 6, 4, 16, 8, 2), (33, 4, 4, 5, 2, 1), (1, 4, 4, 128, 64, 4), (200, 6, 6, 3, 0, 3)],
)
def test_the_convolution_of_torch(samples, channels, filters, taps, padding, groups):
    torch.manual_seed(0)
    shapes = ((3, channels, samples), (filters, channels // groups, taps), (filters,))
    mine = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in mine]
    output = fourier_convolution(*mine, padding, groups)
    expected = F.conv1d(*theirs, padding=padding, groups=groups)
    torch.testing.assert_close(output, expected)
    weights = torch.randn_like(expected)
    mine, theirs = (
        torch.autograd.grad((value * weights).sum(), leaves) for value, leaves in ((output, mine), (expected, theirs))
    )
    torch.testing.assert_close(mine, theirs)


def test_half_precision_is_computed_in_float32():
    values, weight = torch.randn(2, 4, 20, dtype=torch.bfloat16), torch.randn(4, 2, 8, dtype=torch.bfloat16)
    output = fourier_convolution(values, weight, None, 4, 2)
    expected = F.conv1d(values.float(), weight.float(), padding=4, groups=2)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_cpu_nothing_changes_and_copies_are_their_own(shape):
    verifier = tiny_verifier(*shape).eval()
    waveforms = waves(8000)[0]
    expected, names = verifier(waveforms).embeddings, list(verifier.state_dict())
    use_fourier_on_gpu(verifier)
    assert torch.equal(verifier(waveforms).embeddings, expected) and list(verifier.state_dict()) == names
    twin = copy.deepcopy(verifier)
    assert twin.oskdft.encoder.pos_conv_embed.conv._conv_forward.__self__ is twin.oskdft.encoder.pos_conv_embed.conv
    with torch.no_grad():
        twin.oskdft.encoder.pos_conv_embed.conv.bias.add_(1.0)
    assert torch.equal(verifier(waveforms).embeddings, expected)
    assert not torch.equal(twin(waveforms).embeddings, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_verifier_by_fourier_transforms_gives_the_same_embeddings(shape, monkeypatch):
    """As on a GPU, but here: the convolution is called as there."""
    verifier = tiny_verifier(*shape).eval()
    waveforms, mask = waves(8000, 6000)
    expected = verifier(waveforms, mask).embeddings

    def convolve(self, input, weight, bias):
        return fourier_convolution(input, weight, bias, int(self.padding[0]), self.groups)

    conv = verifier.oskdft.encoder.pos_conv_embed.conv
    monkeypatch.setattr(conv, "_conv_forward", convolve.__get__(conv))
    torch.testing.assert_close(verifier(waveforms, mask).embeddings, expected, atol=1e-5, rtol=1e-4)
