import pytest
import torch

from modeling_oskdft import OSKDFTConfig, init_student_from_teacher
from modeling_oskdft.training.initialization import evenly_spaced_layers, thirds
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
    assert torch.equal(kd, teacher(waveforms).last_hidden_state)


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
