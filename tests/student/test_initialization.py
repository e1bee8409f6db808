import pytest
import torch

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector, init_student_from_teacher
from modeling_oskdft.student.importance import choose_units
from modeling_oskdft.student.initialization import STARTS, evenly_spaced_layers, thirds
from modeling_oskdft.training.objectives.distillation import LastLayerMSE
from tests.tiny import SHAPES, tiny_config, tiny_teacher, waves


def test_even_spacing():
    assert evenly_spaced_layers(12, 2) == [0, 11]
    assert evenly_spaced_layers(12, 4) == [0, 4, 7, 11]
    assert evenly_spaced_layers(8, 8) == list(range(8))
    assert evenly_spaced_layers(8, 1) == [0]
    for count in (0, 9):
        with pytest.raises(ValueError, match="a teacher of 8"):
            evenly_spaced_layers(8, count)


def test_thirds_are_4_8_12_of_a_base_model():
    assert thirds(12) == [4, 8, 12] and thirds(24) == [8, 16, 24] and thirds(1) == [1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layers", [[0, 1], [0, 3], [2, 3], [3]])
def test_any_layers_make_the_truncated_teacher(shape, layers):
    teacher = tiny_teacher(*shape)
    student = init_student_from_teacher(teacher, OSKDFTConfig.from_teacher(teacher.config, layers)).eval()
    if shape[0] == "wavlm" and layers[0] != 0:  # the position embedding lives in layer 0 of the teacher
        first = teacher.encoder.layers[layers[0]].attention
        first.rel_attn_embed = teacher.encoder.layers[0].attention.rel_attn_embed
    teacher.encoder.layers = torch.nn.ModuleList([teacher.encoder.layers[layer] for layer in layers])
    waveforms, _ = waves(4000, 4000)
    kd = student.oskdft(waveforms, path="kd").last_hidden_state
    torch.testing.assert_close(kd, teacher(waveforms).last_hidden_state)


THIN = {"front_end_width": 8, "hidden_size": 16, "intermediate_size": 20}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("heads", [None, 4])
def test_a_thin_student_of_every_family_starts_saves_and_opens(tmp_path, shape, start, heads):
    teacher = tiny_teacher(*shape)
    config = OSKDFTConfig.from_teacher(
        teacher.config, [2, 3], head_type="statistics_pooling", num_attention_heads=heads, time_reduction=2, **THIN
    )
    student = init_student_from_teacher(teacher, config, start).eval()
    waveforms, mask = waves(4000, 3000)
    embeddings = student(waveforms, mask).embeddings
    assert bool(torch.isfinite(embeddings).all())
    student.save_pretrained(tmp_path)
    opened = OSKDFTForXVector.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(opened(waveforms, mask).embeddings, embeddings)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kd_path_of_a_thin_student_is_a_plain_encoder(shape):
    teacher = tiny_teacher(*shape)
    strides = [10, 2, 2, 2, 2, 2, 2]
    config = OSKDFTConfig.from_teacher(teacher.config, [0, 3], front_end_stride=strides, **THIN)
    student = init_student_from_teacher(teacher, config).eval()
    waveforms, _ = waves(8000)
    plain = student.export_kd_path()
    assert type(plain) is type(teacher) and plain.config.hidden_size == 16
    kd = student.oskdft(waveforms, path="kd").last_hidden_state
    torch.testing.assert_close(plain(waveforms).last_hidden_state, kd)


@torch.no_grad()
def dead(teacher):
    """Set units to zero that a thinner student leaves out, except where a LayerNorm averages over them."""
    convolutions = teacher.feature_extractor.conv_layers
    for number, layer in enumerate(convolutions[:-1]):
        if isinstance(getattr(layer, "layer_norm", None), torch.nn.LayerNorm):
            continue
        unread = torch.arange(4) * (1 + number % 3)  # others in every convolution
        convolutions[number + 1].conv.weight[:, unread] = 0
    for layer in teacher.encoder.layers:
        layer.attention.out_proj.weight[:, 8:16] = 0
        layer.feed_forward.intermediate_dense.weight[5:17] = 0
        layer.feed_forward.intermediate_dense.bias[5:17] = 0
    return teacher


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] != "wavlm"])
def test_leaving_out_what_is_dead_changes_nothing(shape):
    teacher = dead(tiny_teacher(*shape, layers=2))
    narrow = shape[2] == "group"
    config = OSKDFTConfig.from_teacher(
        teacher.config, front_end_width=[12] * 6 + [16] if narrow else None, intermediate_size=36
    )
    student = init_student_from_teacher(teacher, config).eval()
    waveforms, _ = waves(4000, 4000)
    expected = teacher(waveforms).last_hidden_state
    ours = student.oskdft(waveforms, path="kd").last_hidden_state
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    random = init_student_from_teacher(teacher, config, "random_channels").eval()
    assert float((random.oskdft(waveforms, path="kd").last_hidden_state - expected).detach().abs().max()) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("family", ["hubert", "wavlm"])
def test_a_narrower_layer_is_the_teacher_s_on_what_it_keeps(family):
    """Compare with the teacher's layer, in which everything that was left out is zero: heads and hidden channels."""
    teacher = tiny_teacher(family, False, "group", layers=1)
    config = OSKDFTConfig.from_teacher(teacher.config, [0], hidden_size=16, num_attention_heads=2)
    if family == "wavlm":  # the gate reads channels by their place: it keeps its bias alone
        teacher.encoder.layers[0].attention.gru_rel_pos_linear.weight.zero_()
    student = init_student_from_teacher(teacher, config).eval()
    kept = choose_units(teacher, config.encoder_config, [0])
    attention, narrow = teacher.encoder.layers[0].attention, student.oskdft.encoder.layers[0].attention
    inputs = torch.randn(2, 11, 16)
    wide = torch.zeros(2, 11, 32).index_copy(2, kept.hidden, inputs)
    others = [head for head in range(4) if head not in kept.layers[0].heads.tolist()]
    for head in others:
        attention.out_proj.weight[:, 8 * head : 8 * head + 8] = 0
    torch.testing.assert_close(narrow(inputs)[0], attention(wide)[0][..., kept.hidden], rtol=1e-4, atol=1e-5)
    positions = teacher.encoder.pos_conv_embed
    for group in (0, 1):
        place = kept.hidden // 16 == group
        assert int(place.sum()) == 8
    torch.testing.assert_close(
        student.oskdft.encoder.pos_conv_embed(inputs), positions(wide)[..., kept.hidden], rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_narrower_heads_keep_the_sharpness_of_attention():
    teacher = tiny_teacher(layers=1)
    attention = teacher.encoder.layers[0].attention
    keep = torch.arange(32) % 8 < 4  # four live dimensions in each head of eight
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[~keep], projection.bias[~keep] = 0, 0
    config = OSKDFTConfig.from_teacher(teacher.config, [0], hidden_size=16, num_attention_heads=4)
    narrow = init_student_from_teacher(teacher, config).eval().oskdft.encoder.layers[0].attention
    hidden = choose_units(teacher, config.encoder_config, [0]).hidden
    inputs = torch.randn(2, 11, 16)
    wide = torch.zeros(2, 11, 32).index_copy(2, hidden, inputs)
    torch.testing.assert_close(narrow(inputs)[0], attention(wide)[0][..., hidden], rtol=1e-4, atol=1e-5)


def test_importance_starts_nearer_to_the_teacher_than_chance():
    """On a teacher some of whose channels say little, as in trained ones."""
    teacher = tiny_teacher(layers=2)
    with torch.no_grad():
        for layer in teacher.feature_extractor.conv_layers:
            layer.conv.weight *= torch.logspace(0, -2, 16)[torch.randperm(16)][:, None, None]
        for layer in teacher.encoder.layers:
            layer.feed_forward.intermediate_dense.weight *= torch.logspace(0, -2, 48)[torch.randperm(48)][:, None]
            layer.attention.out_proj.weight *= torch.tensor([1.0, 0.05, 0.05, 1.0]).repeat_interleave(8)
    config = OSKDFTConfig.from_teacher(teacher.config, front_end_width=[8] * 6 + [16], intermediate_size=24)
    waveforms, _ = waves(8000, 8000)
    objective = LastLayerMSE(2)

    def loss(start):
        student = init_student_from_teacher(teacher, config, start).eval()
        with torch.no_grad():
            states = student.oskdft(waveforms, path="kd", output_hidden_states=True).hidden_states
            return float(objective(states, [teacher(waveforms).last_hidden_state]).mean())

    important = loss("importance")
    chance = [loss("random_channels") for _ in range(5)]
    assert important < min(chance) and important < 0.75 * sum(chance) / 5
    assert important < 0.7 * loss("random_weights")


def test_time_reduction_starts_as_a_mean_of_frames():
    teacher = tiny_teacher()
    encoder = init_student_from_teacher(teacher, OSKDFTConfig.from_teacher(teacher.config, time_reduction=2)).oskdft
    features = torch.randn(1, 16, 9)
    expected = (features[..., 0:8:2] + features[..., 1:8:2]) / 2
    torch.testing.assert_close(encoder.time_reduction(features), expected)


def test_random_weights_take_nothing_and_need_no_shape_of_the_teacher():
    teacher = tiny_teacher()
    config = tiny_config("wavlm", encoder={"intermediate_size": 64})
    student = init_student_from_teacher(teacher, config, "random_weights")
    assert student.config is config
    with pytest.raises(ValueError, match="start is 'zeros': use one of importance, random_channels, random_weights"):
        init_student_from_teacher(teacher, config, "zeros")


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        (("hubert", False, "group"), {"conv_dim": (24,) * 7}, "conv_dim is .24, .*no more than the teacher's"),
        (
            ("hubert", False, "group"),
            {"conv_dim": (16,) * 6, "conv_kernel": (10,) * 6, "conv_stride": (5,) * 6},
            "conv",
        ),
        (("hubert", False, "group"), {"num_attention_heads": 2}, "heads are no wider than the teacher's"),
        (("hubert", False, "group"), {"num_conv_pos_embeddings": 8}, "num_conv_pos_embeddings is 8"),
        (("hubert", True, "group"), {}, "do_stable_layer_norm is True"),
        (("hubert", False, "layer"), {}, "feat_extract_norm is layer"),
    ],
)
def test_a_shape_that_the_teacher_does_not_have_is_named(shape, fields, message):
    with pytest.raises(ValueError, match=f"cannot start from the teacher's: its .*{message}"):
        init_student_from_teacher(tiny_teacher(), tiny_config(*shape, encoder=fields, teacher_layers=[0, 1]))


def test_the_mask_embedding_comes_along():
    teacher = tiny_teacher(mask_time_prob=0.1)
    config = OSKDFTConfig.from_teacher(teacher.config)
    assert not hasattr(init_student_from_teacher(teacher, config).oskdft, "masked_spec_embed")
    encoder = teacher.config.to_dict() | {"num_hidden_layers": 2}
    config = OSKDFTConfig.from_teacher(teacher.config, encoder_config=encoder)
    student = init_student_from_teacher(teacher, config)
    assert torch.equal(student.oskdft.masked_spec_embed, teacher.masked_spec_embed)


def test_the_student_owns_its_weights():
    teacher = tiny_teacher()
    student = init_student_from_teacher(teacher, OSKDFTConfig.from_teacher(teacher.config))
    before = teacher.encoder.layers[0].attention.q_proj.weight.clone()
    student.oskdft.encoder.layers[0].attention.q_proj.weight.data.zero_()
    assert torch.equal(teacher.encoder.layers[0].attention.q_proj.weight, before)


def test_a_teacher_that_does_not_fit_gets_a_sentence():
    teacher = tiny_teacher()
    with pytest.raises(ValueError, match="teacher is a hubert and the student a wavlm"):
        init_student_from_teacher(teacher, tiny_config("wavlm", teacher_layers=[0, 1]))
    with pytest.raises(ValueError, match="teacher_layers is None for 2 student layers"):
        init_student_from_teacher(teacher, tiny_config())
    with pytest.raises(ValueError, match="teacher has layers 0 to 3"):
        init_student_from_teacher(teacher, tiny_config(teacher_layers=[0, 4]))
    with pytest.raises(
        ValueError, match="cannot start from the teacher's: its intermediate_size is 64 and the teacher's 48"
    ):
        init_student_from_teacher(teacher, tiny_config(teacher_layers=[0, 1], encoder={"intermediate_size": 64}))
