import pytest
import torch

from modeling_oskdft import OSKDFTConfig, init_student_from_teacher
from modeling_oskdft.modeling_oskdft import adapter_parameters
from modeling_oskdft.training.joint_model import JointModel, Teacher
from modeling_oskdft.training.objectives import AAMSoftmax, LastLayerMSE, LayerwiseHeads, Objectives
from tests.tiny import SHAPES, tiny_teacher, waves


def joint(shape=("hubert", False, "group"), kd=True, freeze="none"):
    teacher = tiny_teacher(*shape)
    config = OSKDFTConfig.from_teacher(teacher.config, [0, 1], adapter_size=8, head_type="statistics_pooling")
    student = init_student_from_teacher(teacher, config)
    objectives = Objectives(AAMSoftmax(192, 4), LayerwiseHeads(32, 32, [1, 3, 4]) if kd else None)
    return JointModel(student, objectives, freeze), teacher


@pytest.mark.parametrize("shape", SHAPES)
def test_one_step_reaches_every_parameter_and_never_the_teacher(shape):
    model, encoder = joint(shape)
    teacher = Teacher(encoder, [1, 3, 4])
    waveforms, _ = waves(4000, 4000)
    output = model.train()(waveforms, torch.tensor([0, 3]), teacher(waveforms))
    (output.kd.mean() + output.ft.mean()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in encoder.parameters())


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
    for layer, state in zip(targets, teacher(waveforms), strict=True):
        assert torch.equal(state, expected[layer])
        assert not state.requires_grad


def test_a_target_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="hidden state 5: the teacher has 0 to 4"):
        Teacher(tiny_teacher(), [5])


def test_without_distillation_there_is_no_kd_path():
    model, _ = joint(kd=False)
    asked = []
    forward = model.student.oskdft.forward
    model.student.oskdft.forward = lambda *a, **k: asked.append(k["path"]) or forward(*a, **k)
    assert model(waves(4000, 4000)[0], torch.tensor([0, 1])).kd is None
    assert asked == ["ft"]


def test_the_kd_loss_is_zero_for_a_student_with_all_layers():
    teacher = tiny_teacher()
    config = OSKDFTConfig.from_teacher(teacher.config, [0, 1, 2, 3])
    model = JointModel(init_student_from_teacher(teacher, config), Objectives(AAMSoftmax(192, 4), LastLayerMSE(4)))
    waveforms, _ = waves(4000, 4000)
    output = model.eval()(waveforms, torch.tensor([0, 1]), Teacher(teacher, [4])(waveforms))
    assert float(output.kd.mean().detach()) == 0.0


def test_three_groups_hold_every_trainable_parameter_once():
    model, _ = joint()
    groups = model.parameter_groups()
    everything = [id(p) for group in groups.values() for p in group]
    before_batch_norm = model.student.head.projection.bias
    assert sorted(everything) == sorted(id(p) for p in model.parameters() if p is not before_batch_norm)
    assert {id(p) for p in groups["adapters"]} == {id(p) for _, p in adapter_parameters(model.student)}
    assert id(model.objectives.speaker.weight) in {id(p) for p in groups["head"]}
    assert id(model.objectives.kd.predictors[0][0].weight) in {id(p) for p in groups["head"]}


def test_the_bias_before_the_batch_norm_has_no_gradient_but_rounding():
    model, _ = joint(kd=False)
    model.train()(waves(4000, 3900)[0], torch.tensor([0, 1])).ft.mean().backward()
    projection = model.student.head.projection
    assert float(projection.bias.grad.abs().max()) < 1e-5 * float(projection.weight.grad.abs().max())


def test_a_frozen_encoder_neither_learns_nor_drops():
    model, _ = joint(kd=False, freeze="encoder")
    model.train()
    assert not model.student.oskdft.training and model.student.head.training
    assert model.parameter_groups()["backbone"] == [] and model.parameter_groups()["adapters"] == []


def test_a_frozen_front_end_learns_behind_it():
    model, _ = joint(kd=False, freeze="feature_encoder")
    front = {id(p) for p in model.student.oskdft.feature_extractor.parameters()}
    trained = {id(p) for group in model.parameter_groups().values() for p in group}
    assert not front & trained and trained


def test_bad_freezing_is_named():
    with pytest.raises(ValueError, match="nothing would learn"):
        joint(freeze="encoder")
    with pytest.raises(ValueError, match="freeze is 'all'"):
        joint(freeze="all")
