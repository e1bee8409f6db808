import pytest
import torch
from torch import nn

from modeling_oskdft.embedding.runtimes import TorchEmbedder
from modeling_oskdft.export.raw_verifier import RawToEmbedding, RawVerifier, normalised, plain_copy
from tests.tiny import SHAPES, tiny_verifier, waves


@pytest.mark.parametrize("shape", SHAPES)
def test_from_the_raw_waveform(shape, feature_extractor):
    verifier = tiny_verifier(*shape).eval()
    waveforms, mask = waves(8000, 6000)
    raw = 3 * waveforms + 0.1
    expected = verifier(normalised(raw, mask.float()), mask).embeddings
    source = TorchEmbedder(verifier, feature_extractor)
    torch.testing.assert_close(RawVerifier.of(source)(raw, mask).embeddings, expected, atol=1e-5, rtol=1e-4)
    joined = RawToEmbedding(plain_copy(verifier), True)
    torch.testing.assert_close(joined(raw, mask), expected, atol=1e-5, rtol=1e-4)


def test_the_copy_has_no_parametrisations_and_the_original_keeps_them():
    verifier = tiny_verifier()
    conv = verifier.oskdft.encoder.pos_conv_embed.conv
    copied = plain_copy(verifier).oskdft.encoder.pos_conv_embed.conv
    assert nn.utils.parametrize.is_parametrized(conv, "weight") and not nn.utils.parametrize.is_parametrized(copied)
    torch.testing.assert_close(copied.weight, conv.weight)
