import copy

import numpy as np
import pytest
import torch

from modeling_oskdft import OSKDFTModel
from modeling_oskdft.model.configuration_oskdft import OSKDFTConfig
from modeling_oskdft.model.modeling_oskdft import feature_lengths, shortest_input
from tests.tiny import tiny_config, tiny_verifier, waves


@pytest.mark.parametrize(("adapter_layers", "calls"), [(None, [1, 2, 2]), ([1], [1, 1, 2]), ([], [1, 1, 1])])
def test_blocks_before_the_first_adapter_are_computed_once(adapter_layers, calls):
    """Count calls of the front end, the positional convolution and the blocks of each layer."""
    encoder = tiny_verifier(layers=3, adapter_layers=adapter_layers).oskdft
    counts: dict[str, int] = {}

    def count(name):
        return lambda *_: counts.__setitem__(name, counts.get(name, 0) + 1)

    encoder.feature_extractor.conv_layers[0].register_forward_hook(count("front"))
    encoder.encoder.pos_conv_embed.register_forward_hook(count("position"))
    for index, layer in enumerate(encoder.encoder.layers):
        layer.attention.register_forward_hook(count(f"attention {index}"))
        layer.feed_forward.register_forward_hook(count(f"feed-forward {index}"))
    encoder(waves(3000)[0], path="both")
    assert counts.pop("front") == counts.pop("position") == 1
    for block in ("attention", "feed-forward"):
        assert [counts[f"{block} {index}"] for index in range(3)] == calls


def test_frames_are_counted_as_the_convolutions_make_them():
    encoder = tiny_verifier(time_reduction=2).oskdft
    shortest = shortest_input(encoder.config)
    assert shortest_input(OSKDFTConfig()) == 400
    for samples in (shortest, shortest + 1, 5000, 8321):
        frames = encoder(waves(samples)[0]).last_hidden_state.shape[1]
        assert frames == feature_lengths(encoder.config, samples) >= 1
    assert feature_lengths(encoder.config, shortest - 1) == 0


@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])
def test_sdpa_equals_eager(family):
    verifier = tiny_verifier(family)
    assert verifier.config.encoder_config._attn_implementation == "sdpa"
    waveforms, mask = waves(5000, 3000)
    sdpa = verifier(waveforms, mask).embeddings
    verifier.set_attn_implementation("eager")
    assert verifier.oskdft.encoder.layers[0].attention.config._attn_implementation == "eager"
    torch.testing.assert_close(verifier(waveforms, mask).embeddings, sdpa, atol=1e-5, rtol=1e-5)


def test_both_paths_share_one_spec_augment_mask_and_one_layer_drop():
    encoder = OSKDFTModel(tiny_config(encoder={"mask_time_prob": 0.5, "mask_time_length": 2, "layerdrop": 0.5}))
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    encoder.encoder.layers[0].attention.dropout = encoder.encoder.layers[1].attention.dropout = 0.0
    encoder.train()
    np.random.seed(0)
    seen = set()
    for _ in range(8):
        out = encoder(waves(4000)[0], path="both", output_hidden_states=True)
        assert len(out.hidden_states) == 3
        torch.testing.assert_close(out.last_hidden_state, out.kd_last_hidden_state)  # up-projections are zero
        seen.add(float(out.last_hidden_state.detach().sum()))
    assert len(seen) > 1, "neither mask nor layer drop did anything"


def test_training_noise_moves_the_ft_path_only():
    encoder = tiny_verifier(
        adapter_noise=(0.1, 0.5), encoder={"hidden_dropout": 0.0, "activation_dropout": 0.0}
    ).oskdft
    waveforms, _ = waves(3000)
    quiet = encoder(waveforms, path="both")
    for layer in encoder.encoder.layers:
        layer.adapter.train()
    noisy = encoder(waveforms, path="both")
    assert torch.equal(noisy.kd_last_hidden_state, quiet.kd_last_hidden_state)
    assert not torch.allclose(noisy.last_hidden_state, quiet.last_hidden_state)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_values": torch.randn(1, 399)}, "399 samples: one frame needs 400"),
        ({"input_values": torch.zeros(1, 0)}, "0 samples: one frame needs 400"),
        ({"input_values": torch.randn(1, 2, 4000)}, "mix the channels"),
        ({"input_values": torch.randn(4000)}, r"shape \(4000,\)"),
        ({"input_values": torch.ones(1, 4000, dtype=torch.int16)}, "torch.int16.*full scale"),
        ({"input_values": torch.full((1, 4000), float("nan"))}, "NaN or infinite"),
        ({"input_values": torch.full((1, 4000), float("inf"))}, "NaN or infinite"),
        (
            {"input_values": torch.randn(1, 4000), "attention_mask": torch.ones(1, 3999)},
            r"attention_mask.*\(1, 4000\)",
        ),
        ({"input_values": torch.randn(1, 4000), "attention_mask": torch.zeros(1, 4000)}, "leaves 0 samples"),
        (
            {"input_values": torch.randn(1, 4000), "attention_mask": torch.arange(4000)[None] % 2 * 1},
            "pad on the right only",
        ),
    ],
)
def test_bad_input_gets_one_sentence(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_verifier()(**inputs)


def test_an_unknown_path_is_named():
    with pytest.raises(ValueError, match="path is 'fast': use one of kd, ft, both"):
        tiny_verifier().oskdft(waves(4000)[0], path="fast")


def test_wavlm_is_eager_or_refused():
    assert tiny_verifier("wavlm").config._attn_implementation == "eager"
    with pytest.raises(ValueError, match="does not support|not supported|scaled_dot_product"):
        tiny_verifier("wavlm", attn_implementation="sdpa")


def test_dynamic_int8_of_torch_runs():
    model = tiny_verifier()
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear})
    rough, exact = (verifier(waves(8000)[0]).embeddings for verifier in (quantised, model))
    assert bool((torch.cosine_similarity(rough, exact) > 0.95).all())
