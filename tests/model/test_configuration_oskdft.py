import json

import pytest
from transformers import BertConfig, HubertConfig, Wav2Vec2Config, WavLMConfig

from modeling_oskdft import OSKDFTConfig
from modeling_oskdft.model.configuration_oskdft import frame_ratio
from modeling_oskdft.model.modeling_oskdft import feature_lengths, shortest_input
from tests.tiny import encoder_config, tiny_config


def test_the_default_is_hubert_base_with_two_layers():
    config = OSKDFTConfig()
    assert config.encoder_config.model_type == "hubert"
    assert (config.encoder_config.hidden_size, config.encoder_config.num_hidden_layers) == (768, 2)
    assert (config.adapter_size, config.adapter_scale, config.head_type) == (64, 0.1, "ecapa_tdnn")


@pytest.mark.parametrize("teacher", [HubertConfig(), Wav2Vec2Config(), WavLMConfig()])
def test_from_teacher_keeps_the_shape_and_drops_what_would_drop_layers(teacher):
    config = OSKDFTConfig.from_teacher(teacher, layers=[0, 5, 11], adapter_size=16)
    encoder = config.encoder_config
    assert type(encoder) is type(teacher) and encoder.num_hidden_layers == 3
    assert (encoder.layerdrop, encoder.mask_time_prob, encoder.mask_feature_prob) == (0.0, 0.0, 0.0)
    assert config.teacher_layers == [0, 5, 11] and config.adapter_size == 16
    assert teacher.num_hidden_layers == 12, "the teacher's own config was changed"


def thin(**fields):
    return OSKDFTConfig.from_teacher(HubertConfig(), **fields)


def test_a_thinner_student_is_an_ordinary_encoder_configuration(tmp_path):
    config = thin(front_end_width=256, front_end_stride=[10, 2, 2, 2, 2, 2, 2], hidden_size=384)
    encoder = config.encoder_config
    assert (encoder.conv_dim, encoder.conv_stride) == ([256] * 7, [10, 2, 2, 2, 2, 2, 2])
    assert (encoder.hidden_size, encoder.intermediate_size, encoder.num_attention_heads) == (384, 1536, 6)
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert not {"front_end_width", "hidden_size"} & set(saved)
    assert OSKDFTConfig.from_pretrained(tmp_path).encoder_config.to_dict() == encoder.to_dict()


def test_widths_follow_the_teacher_s_proportion_or_are_given_one_by_one():
    teacher = encoder_config(layers=4, conv_dim=(8, 8, 12, 16, 16, 24, 24))
    half = OSKDFTConfig.from_teacher(teacher, front_end_width=12)
    assert half.encoder_config.conv_dim == [4, 4, 6, 8, 8, 12, 12]
    share = OSKDFTConfig.from_teacher(teacher, front_end_width=0.5, hidden_size=0.5)
    assert share.encoder_config.conv_dim == half.encoder_config.conv_dim
    assert share.encoder_config.hidden_size == 16
    each = OSKDFTConfig.from_teacher(teacher, front_end_width=[4, 8, 8, 16, 16, 24, 20])
    assert each.encoder_config.conv_dim == [4, 8, 8, 16, 16, 24, 20]
    assert OSKDFTConfig.from_teacher(teacher, intermediate_size=0.25).encoder_config.intermediate_size == 12
    heads = OSKDFTConfig.from_teacher(teacher, hidden_size=16, num_attention_heads=4, intermediate_size=48)
    assert (heads.encoder_config.num_attention_heads, heads.encoder_config.intermediate_size) == (4, 48)
    same = OSKDFTConfig.from_teacher(teacher, front_end_width=24, hidden_size=32)
    assert same.to_dict() == OSKDFTConfig.from_teacher(teacher).to_dict()


def test_strides_and_time_reduction_make_the_frame_rate_together():
    config = thin(front_end_stride=[5, 2, 2, 2, 2, 2, 1], time_reduction=2)
    assert frame_ratio(config.encoder_config, HubertConfig(), 2) == 1
    assert frame_ratio(HubertConfig(), HubertConfig(), 3) == 3


def test_from_teacher_reads_a_folder_and_remembers_it(tmp_path):
    encoder_config(layers=4).save_pretrained(tmp_path)
    config = OSKDFTConfig.from_teacher(str(tmp_path), layers=[1])
    assert config.teacher_name_or_path == tmp_path.name  # no path of this machine travels
    assert config.encoder_config.num_hidden_layers == 1


def test_round_trip(tmp_path):
    config = tiny_config(adapter_layers=[1], adapter_noise=(0.1, 0.5), ecapa_dilations=(2, 3))
    config.save_pretrained(tmp_path)
    again = OSKDFTConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.encoder_config.to_dict() == config.encoder_config.to_dict()


SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def test_the_encoder_s_sizes_are_read_at_the_top_and_saved_once(tmp_path):
    config = OSKDFTConfig.from_teacher(HubertConfig(), [0, 1, 2], hidden_size=384)
    assert [getattr(config, name) for name in SIZES] == [384, 3, 6, 1536]
    config.encoder_config.num_hidden_layers = 2
    assert config.num_hidden_layers == 2
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert not set(SIZES) & set(saved) and saved["encoder_config"]["hidden_size"] == 384
    again = OSKDFTConfig.from_pretrained(tmp_path)
    assert [getattr(again, name) for name in SIZES] == [384, 2, 6, 1536]
    assert again.to_dict() == config.to_dict()


def test_the_encoder_s_sizes_are_set_in_its_own_configuration(tmp_path):
    config = tiny_config()
    with pytest.raises(AttributeError, match="hidden_size was set to 16 .*: set encoder_config.hidden_size"):
        config.hidden_size = 16
    with pytest.raises(ValueError, match="hidden_size is a field of encoder_config: set it there"):
        OSKDFTConfig(hidden_size=16)
    config.save_pretrained(tmp_path)
    with pytest.raises(AttributeError, match="num_hidden_layers was set to 1"):
        OSKDFTConfig.from_pretrained(tmp_path, num_hidden_layers=1)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_size": 7, "save_pretrained": 7}))
    again = OSKDFTConfig.from_pretrained(tmp_path)
    assert again.hidden_size == 32 and callable(again.save_pretrained)


@pytest.mark.parametrize("time_reduction", [1, 2])
def test_the_ratio_of_inputs_to_frames(time_reduction):
    config = tiny_config(time_reduction=time_reduction)
    assert config.inputs_to_logits_ratio == 320 * time_reduction
    shortest = shortest_input(config)
    assert feature_lengths(config, shortest + config.inputs_to_logits_ratio) == feature_lengths(config, shortest) + 1


def test_a_field_of_a_newer_version_warns_and_is_ignored(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"adapter_shape": "round"}))
    with pytest.warns(UserWarning, match="does not know and ignores: adapter_shape"):
        config = OSKDFTConfig.from_pretrained(tmp_path)
    assert not hasattr(config, "adapter_shape")


def test_transformers_own_fields_pass():
    config = OSKDFTConfig(dtype="float32", architectures=["X"], auto_map={"AutoConfig": "a.B"}, _anything=1)
    assert config.auto_map == {"AutoConfig": "a.B"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OSKDFTConfig(adaptr_size=3), "no field 'adaptr_size': did you mean 'adapter_size'"),
        (lambda: OSKDFTConfig.from_teacher(HubertConfig(), hed_type="x"), "did you mean 'head_type'"),
        (lambda: OSKDFTConfig(BertConfig()), "family 'bert' is not supported: use one of hubert, wav2vec2, wavlm"),
        (lambda: OSKDFTConfig.from_teacher(BertConfig()), "family 'bert' is not supported"),
        (lambda: OSKDFTConfig.from_teacher(HubertConfig(), [0, 12]), "layer 12 does not exist: .* 0 to 11"),
        (lambda: OSKDFTConfig.from_teacher(HubertConfig(), [-1]), "layer -1 does not exist"),
        (lambda: OSKDFTConfig.from_teacher(HubertConfig(), []), "no layers"),
        (lambda: OSKDFTConfig(adapter_layers=[2]), "layer 2: the student has layers 0 to 1"),
        (lambda: OSKDFTConfig(hidden_size=3), "hidden_size is a field of encoder_config: set it there"),
        (lambda: OSKDFTConfig(head_type="x"), "head_type is 'x': use one of ecapa_tdnn"),
        (lambda: OSKDFTConfig(adapter_activation="relo"), "adapter_activation is 'relo'"),
        (lambda: OSKDFTConfig(adapter_initialization="one"), "adapter_initialization is 'one'"),
        (lambda: OSKDFTConfig(adapter_size=-1), "adapter_size is -1: it must be at least 0"),
        (lambda: OSKDFTConfig(time_reduction=0), "time_reduction is 0"),
        (lambda: OSKDFTConfig(ecapa_res2net_scale=0), "ecapa_res2net_scale is 0"),
        (lambda: OSKDFTConfig(ecapa_dilations=()), "ecapa_dilations is"),
        (lambda: OSKDFTConfig(ecapa_channels=30), "multiple of ecapa_res2net_scale"),
        (lambda: OSKDFTConfig(adapter_noise=(0.5, 0.1)), "adapter_noise"),
        (lambda: OSKDFTConfig(Wav2Vec2Config(add_adapter=True)), "add_adapter is True"),
        (lambda: OSKDFTConfig(HubertConfig(hidden_size=100)), "hidden_size is 100: .* num_attention_heads, 12"),
        (lambda: OSKDFTConfig.from_teacher(HubertConfig(), hiden_size=384), "did you mean 'hidden_size'"),
        (lambda: thin(hidden_size=400), "hidden_size is 400: it must be a multiple of 64, the width of a teacher's"),
        (lambda: thin(hidden_size=400, num_attention_heads=7), "hidden_size is 400 with 7 num_attention_heads"),
        (lambda: thin(hidden_size=360, num_attention_heads=6), "multiple of .* num_conv_pos_embedding_groups, 16"),
        (lambda: thin(hidden_size=768, num_attention_heads=6), "hidden_size / num_attention_heads is 128: .* 1 to 64"),
        (lambda: thin(hidden_size=96.5), "hidden_size is 96.5: give a whole number, or a share"),
        (lambda: thin(hidden_size=1024), "hidden_size is 1024: a student starts from 1 to 768"),
        (lambda: thin(num_attention_heads=16), "num_attention_heads is 16: a student starts from 1 to 12"),
        (lambda: thin(intermediate_size=0), "intermediate_size is 0: a student starts from 1 to 3072"),
        (lambda: thin(front_end_width=513), "front_end_width is 513: a student starts from 1 to 512"),
        (lambda: thin(front_end_width=[64] * 6 + [600]), "front_end_width is 600"),
        (lambda: thin(front_end_width=[64, 64]), "front_end_width is .* each of the teacher's 7 convolutions"),
        (lambda: thin(front_end_stride=[5, 2]), "front_end_stride is .* each of the teacher's 7 convolutions"),
        (lambda: thin(front_end_stride=[5, 2, 2, 2, 2, 2, 0]), "every stride must be at least 1"),
        (lambda: thin(front_end_stride=[5, 2, 2, 2, 2, 2, 3]), "every 480 samples and the teacher every 320"),
        (lambda: thin(front_end_stride=[5, 2, 2, 2, 2, 2, 1]), "every 160 samples and the teacher every 320"),
    ],
)
def test_bad_values_get_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
