import pytest
import torch

from modeling_oskdft.model.layers_oskdft import ParallelAdapter
from tests.tiny import SHAPES, randomise, tiny_config, tiny_verifier


def layer_and_input(shape):
    layer = tiny_verifier(*shape).oskdft.encoder.layers[0]
    return layer, torch.randn(2, 9, 32)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_is_the_formula_of_its_norm_order(shape):
    layer, x = layer_and_input(shape)
    attend = layer.attend
    with torch.no_grad():
        if shape[1]:  # h = x + Attn(LN(x)); y = h + FF(LN(h)) [+ A(h)]
            h = x + attend(layer.layer_norm(x))[0]
            kd = h + layer.feed_forward(layer.final_layer_norm(h))
            ft = kd + layer.adapter(h)
        else:  # h = LN(x + Attn(x)); y = LN(h + FF(h) [+ A(h)])
            h = layer.layer_norm(x + attend(x)[0])
            kd = layer.final_layer_norm(h + layer.feed_forward(h))
            ft = layer.final_layer_norm(h + layer.feed_forward(h) + layer.adapter(h))
        for path, expected in (("kd", (kd,)), ("ft", (ft,)), ("both", (kd, ft))):
            streams = layer(x, path=path).streams
            assert len(streams) == len(expected)
            for stream, formula in zip(streams, expected, strict=True):
                torch.testing.assert_close(stream, formula, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(kd, ft, atol=1e-3)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_an_adapter_by_hand(norm, residual):
    adapter = randomise(
        ParallelAdapter(tiny_config(adapter_norm=norm, adapter_residual=residual, adapter_scale=0.3))
    ).eval()
    x = torch.randn(2, 5, 32)
    inner = torch.nn.functional.layer_norm(x, (32,), adapter.norm.weight, adapter.norm.bias) if norm else x
    inner = (inner @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    expected = 0.3 * (inner @ adapter.up.weight.T + adapter.up.bias) + (x if residual else 0)
    torch.testing.assert_close(adapter(x), expected, atol=1e-5, rtol=1e-4)


def test_a_layer_without_an_adapter_has_one_stream():
    layer = tiny_verifier(adapter_layers=[1]).oskdft.encoder.layers[0]
    assert len(layer(torch.randn(1, 5, 32), path="both").streams) == 1
