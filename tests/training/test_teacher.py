import pytest
import torch

from modeling_oskdft.training.teacher import Teacher, same_convolutions
from tests.tiny import SHAPES, tiny_teacher, waves
from tests.training.test_joint_model import joint


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("targets", [[4], [1, 2, 3], [0, 2]])
def test_a_cut_teacher_gives_the_whole_teacher_s_states(shape, targets):
    waveforms, _ = waves(4000)
    whole = tiny_teacher(*shape)
    with torch.no_grad():
        outputs = whole(waveforms, output_hidden_states=True)
    expected = [*outputs.hidden_states[:-1], outputs.last_hidden_state]
    teacher = Teacher(tiny_teacher(*shape), targets)
    assert len(teacher.model.encoder.layers) == max(targets)
    for layer, state in zip(targets, teacher({"input_values": waveforms}).hidden_states, strict=True):
        torch.testing.assert_close(state, expected[layer])
        assert not state.requires_grad


def test_a_target_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="hidden state 5: the teacher has 0 to 4"):
        Teacher(tiny_teacher(), [5])


def test_a_front_end_target_outlives_the_end_of_sharing():
    teacher = Teacher(tiny_teacher(), [4], conv_target=True)
    teacher.stop_sharing()
    waveforms, _ = waves(4000)
    target = teacher({"input_values": waveforms}).conv_target
    torch.testing.assert_close(target, tiny_teacher().feature_extractor(waveforms))


def test_a_shared_front_end_keeps_the_student_s_precision():
    model, encoder = joint(freeze="feature_encoder")
    expected = model.student.oskdft.convolve(waves(4000, 4000)[0])
    for precision in (torch.float32, torch.bfloat16):
        rough = Teacher(tiny_teacher(), [4], torch.bfloat16, precision)({"input_values": waves(4000, 4000)[0]})
        assert rough.hidden_states[0].dtype == torch.float32
        assert torch.allclose(rough.conv_features.float(), expected, atol=1e-5) is (precision == torch.float32)


def test_another_front_end_is_seen():
    model, encoder = joint()
    assert same_convolutions(model.student, encoder.feature_extractor)
    with torch.no_grad():
        model.student.oskdft.feature_extractor.conv_layers[2].conv.weight[0, 0, 0] += 1e-3
    assert not same_convolutions(model.student, encoder.feature_extractor)
    assert not same_convolutions(model.student, tiny_teacher("wav2vec2", True, "layer").feature_extractor)


def test_a_bfloat16_teacher_is_close_and_hands_on_what_autograd_takes():
    waveforms, _ = waves(8000, 8000)
    exact = Teacher(tiny_teacher(), [2, 4])({"input_values": waveforms}).hidden_states
    rough = Teacher(tiny_teacher(), [2, 4], torch.bfloat16)({"input_values": waveforms}).hidden_states
    for one, other in zip(exact, rough, strict=True):
        assert not torch.equal(one, other)
        assert float((one - other).norm() / one.norm()) < 0.02
        (other * torch.ones(32, requires_grad=True)).sum().backward()
