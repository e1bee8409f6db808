import pytest
import torch

from modeling_oskdft import OSKDFTConfig, init_student_from_teacher
from modeling_oskdft.model.modeling_oskdft import adapter_parameters
from modeling_oskdft.training.joint_model import JointModel, SpecMask
from modeling_oskdft.training.objectives.building import ObjectiveArguments, build_objectives
from modeling_oskdft.training.objectives.distillation import FrontEndDistillation, LastLayerMSE, LayerwiseHeads
from modeling_oskdft.training.objectives.objectives import Objectives
from modeling_oskdft.training.objectives.speaker import AAMSoftmax
from modeling_oskdft.training.teacher import Teacher, same_convolutions
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
    output = model.train()(waveforms, torch.tensor([0, 3]), teacher({"input_values": waveforms}).hidden_states)
    (output.kd.mean() + output.ft.mean()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in encoder.parameters())


def test_without_distillation_there_is_no_kd_path():
    model, _ = joint(kd=False)
    asked = []
    encode = model.student.oskdft.encode
    model.student.oskdft.encode = lambda *a, **k: asked.append(k["path"]) or encode(*a, **k)
    assert model(waves(4000, 4000)[0], torch.tensor([0, 1])).kd is None
    assert asked == ["ft"]


def test_the_kd_loss_is_zero_for_a_student_with_all_layers():
    teacher = tiny_teacher()
    config = OSKDFTConfig.from_teacher(teacher.config, [0, 1, 2, 3])
    model = JointModel(init_student_from_teacher(teacher, config), Objectives(AAMSoftmax(192, 4), LastLayerMSE(4)))
    waveforms, _ = waves(4000, 4000)
    output = model.eval()(
        waveforms, torch.tensor([0, 1]), Teacher(teacher, [4])({"input_values": waveforms}).hidden_states
    )
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


@pytest.mark.parametrize("shape", SHAPES)
def test_one_step_of_a_thin_student_reaches_every_parameter(shape):
    encoder = tiny_teacher(*shape)
    thin = {"front_end_width": 8, "front_end_stride": [10, 2, 2, 2, 2, 2, 1], "hidden_size": 16, "time_reduction": 2}
    config = OSKDFTConfig.from_teacher(encoder.config, adapter_size=8, head_type="statistics_pooling", **thin)
    student = init_student_from_teacher(encoder, config)
    arguments = ObjectiveArguments(kd_objective="layerwise_heads", front_end_kd_lambda=1.0)
    model = JointModel(student, build_objectives(arguments, student, [3] * 4, encoder.config)).train()
    teacher = Teacher(encoder, [1, 3, 4], conv_target=True)
    waveforms, _ = waves(8000, 8000)
    states, features, target = teacher({"input_values": waveforms})
    assert features is None and target.shape[:2] == (2, 16) and not target.is_inference()
    output = model(waveforms, torch.tensor([0, 3]), states, features, target)
    (output.kd.mean() + output.ft.mean()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert float(output.kd.total.detach()) > float(output.front_end.total.detach()) > 0
    assert float(output.front_end.weight) == float(output.kd.weight) == 2
    assert {id(p) for p in model.objectives.front_end.parameters()} <= {
        id(p) for p in model.parameter_groups()["head"]
    }


def test_a_frozen_front_end_is_not_distilled():
    model, encoder = joint()
    model.objectives.front_end = FrontEndDistillation(16, 16)
    with pytest.raises(ValueError, match="no convolution would learn; set front_end_kd_lambda to 0"):
        JointModel(model.student, model.objectives, "feature_encoder")


def test_bad_freezing_is_named():
    with pytest.raises(ValueError, match="nothing would learn"):
        joint(freeze="encoder")
    with pytest.raises(ValueError, match="freeze is 'all'"):
        joint(freeze="all")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shared_front_end_gives_the_same_losses_and_gradients(shape):
    model, encoder = joint(shape, freeze="feature_encoder")
    assert same_convolutions(model.student, encoder.feature_extractor)
    teacher = Teacher(encoder, [1, 3, 4], shared_dtype=torch.float32)
    waveforms, labels = waves(4000, 4000)[0], torch.tensor([0, 3])
    states, features, _ = teacher({"input_values": waveforms})
    assert features is not None and not features.is_inference()
    gradients = []
    for given in (features, None):
        model.zero_grad()
        output = model.eval()(waveforms, labels, states, given)
        (output.kd.mean() + output.ft.mean()).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


def test_the_spec_mask_hides_the_same_band_and_span_of_every_state():
    states = [torch.ones(400, 20, 32), 2 * torch.ones(400, 20, 32)]
    first, second = SpecMask(0.5, features=8, frames=4)(states)
    assert torch.equal(second, 2 * first)
    hidden = first == 0
    frames, band = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert int(frames.max()) == 4 and int(band.max()) == 8 and int(frames.min()) == 0
    untouched = float((~hidden.flatten(1).any(1)).float().mean())
    assert 0.42 < untouched < 0.62  # half are not drawn, and 1 in 45 of the others has both widths 0
    assert all(bool((row[:, 0].diff().abs().sum() <= 2).all()) for row in hidden.int())
    assert SpecMask(0.0)(states)[0].equal(states[0])


def test_the_spec_mask_is_for_training_alone():
    model, encoder = joint(kd=False)
    model.spec_mask = SpecMask(1.0)
    waveforms, labels = waves(4000, 4000)[0], torch.tensor([0, 1])
    plain = JointModel(model.student, model.objectives)
    assert torch.equal(model.eval()(waveforms, labels).ft.total, plain.eval()(waveforms, labels).ft.total)
    for module in (model, plain):
        module.train()
        module.student.eval()
    assert not torch.equal(model(waveforms, labels).ft.total, plain(waveforms, labels).ft.total)
