import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel

from modeling_oskdft import OSKDFTForXVector, OSKDFTModel, init_student_from_teacher
from modeling_oskdft.model.configuration_oskdft import OSKDFTConfig
from modeling_oskdft.model.modeling_oskdft import adapter_parameters, feature_lengths, shortest_input
from tests.tiny import HEADS, SHAPES, tiny_config, tiny_teacher, tiny_verifier, waves


def truncated(teacher, layers):
    """Cut the teacher's encoder to these layers; its final norm stays."""
    teacher.encoder.layers = torch.nn.ModuleList([teacher.encoder.layers[layer] for layer in layers])
    return teacher


@pytest.mark.parametrize("shape", SHAPES)
def test_kd_path_is_the_truncated_teacher_bit_for_bit_and_no_adapter_moves_it(shape):
    teacher = tiny_teacher(*shape)
    student = init_student_from_teacher(teacher, OSKDFTConfig.from_teacher(teacher.config, [0, 1], adapter_size=8))
    encoder = student.oskdft.eval()
    waveforms, _ = waves(4000, 4000)
    expected = truncated(teacher, [0, 1])(waveforms).last_hidden_state
    assert torch.equal(encoder(waveforms, path="kd").last_hidden_state, expected)
    for _, parameter in adapter_parameters(encoder):
        parameter.data.normal_()
    assert torch.equal(encoder(waveforms, path="kd").last_hidden_state, expected)
    assert not torch.allclose(encoder(waveforms, path="ft").last_hidden_state, expected, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_start_makes_the_paths_equal_also_after_loading(shape, tmp_path):
    verifier = OSKDFTForXVector(tiny_config(*shape)).eval()
    verifier.save_pretrained(tmp_path / "verifier")
    # A folder without adapters: from_pretrained makes them, and they must start at zero too.
    bare = OSKDFTForXVector(tiny_config(*shape, adapter_size=0))
    bare.save_pretrained(tmp_path / "bare")
    grown = OSKDFTForXVector.from_pretrained(tmp_path / "bare", config=tiny_config(*shape)).eval()
    for model in (verifier, OSKDFTForXVector.from_pretrained(tmp_path / "verifier").eval(), grown):
        out = model.oskdft(waves(3000)[0], path="both")
        assert torch.equal(out.last_hidden_state, out.kd_last_hidden_state)
        assert all(bool((layer.adapter.up.weight == 0).all()) for layer in model.oskdft.encoder.layers)
        assert all(bool(layer.adapter.down.weight.std() > 0) for layer in model.oskdft.encoder.layers)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fields", [{}, {"adapter_layers": [1]}, {"adapter_residual": True, "adapter_norm": False}])
def test_both_equals_two_separate_passes(shape, fields):
    encoder = tiny_verifier(*shape, layers=3, **fields).oskdft
    waveforms, mask = waves(5000, 3000)
    for attention_mask in (None, mask):
        both = encoder(waveforms, attention_mask, path="both", output_hidden_states=True)
        for path, states in (("kd", both.kd_hidden_states), ("ft", both.hidden_states)):
            alone = encoder(waveforms, attention_mask, path=path, output_hidden_states=True)
            assert len(alone.hidden_states) == 4
            for state, state_of_both in zip(alone.hidden_states, states, strict=True):
                torch.testing.assert_close(state, state_of_both, atol=1e-5, rtol=0)
            assert torch.equal(alone.last_hidden_state, alone.hidden_states[-1])


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


def test_kd_loss_gives_adapters_no_gradient_and_ft_loss_reaches_everything():
    encoder = tiny_verifier().oskdft
    encoder(waves(3000)[0], path="both").kd_last_hidden_state.sum().backward()
    assert all(p.grad is None for _, p in adapter_parameters(encoder))
    encoder.zero_grad()
    encoder(waves(3000)[0], path="both").last_hidden_state.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in encoder.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(shape, head):
    verifier = tiny_verifier(*shape, head_type=head)
    lengths = (8000, 5000, 1200, 400)
    waveforms, mask = waves(*lengths)
    batch = verifier(waveforms, mask).embeddings
    for row, length in enumerate(lengths):
        alone = verifier(waveforms[row : row + 1, :length]).embeddings
        torch.testing.assert_close(batch[row : row + 1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_in_the_padding_are_never_read(shape):
    verifier = tiny_verifier(*shape, head_type="ecapa_tdnn")
    waveforms, mask = waves(6000, 3000)
    loud = waveforms + 100 * (1 - mask)
    torch.testing.assert_close(
        verifier(loud, mask).embeddings, verifier(waveforms, mask).embeddings, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_a_mask_of_ones_is_no_mask(shape, head):
    verifier = tiny_verifier(*shape, head_type=head)
    waveforms, mask = waves(5000, 5000)
    ones = verifier(waveforms, mask).embeddings
    torch.testing.assert_close(ones, verifier(waveforms).embeddings, atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing_with_time_reduction():
    verifier = tiny_verifier("hubert", True, "group", time_reduction=2)
    waveforms, mask = waves(8000, 5100)
    alone = verifier(waveforms[1:, :5100]).embeddings
    torch.testing.assert_close(verifier(waveforms, mask).embeddings[1:], alone, atol=1e-4, rtol=1e-4)


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


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4], SHAPES[5]])
@pytest.mark.parametrize("head", HEADS)
def test_bf16_stays_near_and_embeddings_are_float32(shape, head):
    verifier = tiny_verifier(*shape, head_type=head)
    waveforms, mask = waves(6000, 4000)
    exact = verifier(waveforms, mask).embeddings
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = verifier(waveforms, mask).embeddings
    whole = verifier.to(torch.bfloat16)(waveforms.bfloat16(), mask).embeddings
    for rough in (autocast, whole):
        assert rough.dtype == torch.float32
        assert bool((torch.nn.functional.cosine_similarity(rough, exact) > 0.99).all())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_the_ft_path_is_one_graph(shape, head):
    verifier = tiny_verifier(*shape, head_type=head)
    waveforms, mask = waves(4000, 3000)
    for arguments in ((waveforms,), (waveforms, mask)):
        torch.compiler.reset()
        compiled = torch.compile(verifier, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(*arguments).embeddings, verifier(*arguments).embeddings)


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


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kd_path_leaves_as_a_plain_encoder(shape, tmp_path):
    verifier = tiny_verifier(*shape)
    plain = verifier.export_kd_path()
    waveforms, mask = waves(4000, 4000)
    expected = verifier.oskdft(waveforms, path="kd").last_hidden_state
    assert torch.equal(plain(waveforms).last_hidden_state, expected)
    plain.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert (
        type(again).__name__ == {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model", "wavlm": "WavLMModel"}[shape[0]]
    )
    torch.testing.assert_close(again(waveforms).last_hidden_state, expected)


def test_the_kd_path_with_time_reduction_stays():
    with pytest.raises(ValueError, match="time_reduction is 2.*path='kd'"):
        tiny_verifier(time_reduction=2).export_kd_path()


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
