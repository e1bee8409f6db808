import math

import pytest
import torch
from torch.nn import functional as F

from modeling_oskdft.data.crops import UNLABELLED
from modeling_oskdft.training.building import frame_match
from modeling_oskdft.training.objectives.objectives import (
    AAMSoftmax,
    FrameMatch,
    FrameUpsampling,
    FrontEndDistillation,
    LastLayerMSE,
    LayerwiseHeads,
    LayerwiseProjection,
    LinearSoftmax,
    Objectives,
    class_weights,
)
from tests.tiny import encoder_config


def batch(items=6, width=8, speakers=5):
    return torch.randn(items, width), torch.arange(items) % speakers


def test_margin_0_is_scaled_softmax():
    embeddings, labels = batch()
    loss = AAMSoftmax(8, 5, margin=0.0, scale=30.0)
    cosine = F.normalize(embeddings) @ F.normalize(loss.weight).T
    torch.testing.assert_close(loss(embeddings, labels).mean(), F.cross_entropy(30 * cosine, labels))


def test_the_margin_is_an_angle():
    loss = AAMSoftmax(2, 2, margin=0.2, scale=1.0)
    loss.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    theta = 0.5
    embedding = torch.tensor([[math.cos(theta), math.sin(theta)]])
    logits = torch.tensor([[math.cos(theta + 0.2), math.sin(theta)]])
    expected = F.cross_entropy(logits, torch.tensor([0]))
    torch.testing.assert_close(loss(embedding, torch.tensor([0])).mean(), expected)


def test_beyond_pi_the_target_keeps_falling():
    loss = AAMSoftmax(2, 2, margin=0.2, scale=1.0)
    loss.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    angles = torch.linspace(math.pi - 0.5, math.pi - 1e-3, 50)
    embeddings = torch.stack([angles.cos(), -angles.sin()], dim=1)  # away from the other class
    cosine = F.normalize(embeddings) @ F.normalize(loss.weight).T
    targets = loss._with_margins(cosine, torch.zeros(50, dtype=torch.long))[:, 0]
    assert bool((targets.diff() < 0).all())


def test_the_gradient_is_finite_at_cosine_one():
    loss = AAMSoftmax(4, 3)
    embeddings = loss.weight.detach()[:1].clone().requires_grad_()
    loss(embeddings, torch.tensor([0])).mean().backward()
    assert bool(torch.isfinite(embeddings.grad).all()) and bool(torch.isfinite(loss.weight.grad).all())


def test_the_target_is_never_its_own_impostor():
    loss = AAMSoftmax(2, 3, margin=0.2, scale=1.0, penalty_top_k=1, penalty_margin=0.3)
    loss.weight.data = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    cosine = torch.tensor([[-0.9, 0.2, -0.95]])  # the target's cosine is negative
    ours = loss._with_margins(cosine, torch.tensor([0]))
    angle = math.acos(0.2)
    assert float(ours[0, 1]) == pytest.approx(math.cos(angle - 0.3), abs=1e-6)
    assert float(ours[0, 2]) == pytest.approx(-0.95)
    assert float(ours[0, 0]) == pytest.approx(math.cos(math.acos(-0.9) + 0.2), abs=1e-5)


def test_a_crop_is_held_against_the_nearest_of_its_sub_centres():
    loss = AAMSoftmax(2, 2, margin=0.0, scale=1.0, sub_centres=2)
    loss.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # two vectors a speaker
    embeddings = torch.tensor([[3.0, 4.0]])  # cosines 0.6, 0.8 with speaker 0, -0.6, -0.8 with speaker 1
    expected = -math.log(math.exp(0.8) / (math.exp(0.8) + math.exp(-0.6)))
    assert float(loss(embeddings, torch.tensor([0])).total) == pytest.approx(expected, abs=1e-6)
    assert set(loss.state_dict()) == set(AAMSoftmax(2, 2).state_dict())


@pytest.mark.parametrize("make", [lambda w: AAMSoftmax(8, 5, weights=w), lambda w: LinearSoftmax(8, 5, w)])
def test_weights_weigh_and_parts_add_up(make):
    embeddings, labels = batch(10)
    loss = make(torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0]))
    whole = loss(embeddings, labels)
    parts = [loss(embeddings[i : i + 1], labels[i : i + 1]) for i in range(10)]
    torch.testing.assert_close(whole.mean(), sum(p.total for p in parts) / sum(p.weight for p in parts))
    assert float(whole.weight) == pytest.approx(2 * (1 + 2 + 3 + 0.5 + 1))


def test_class_weights_are_inverse_and_capped():
    weights = class_weights([10, 10, 10, 1], cap=5.0)
    torch.testing.assert_close(weights, torch.tensor([0.775, 0.775, 0.775, 5.0]))
    assert float(class_weights([2] + [1000] * 9, cap=10.0).max()) == 10.0
    with pytest.raises(ValueError, match="no utterances"):
        class_weights([3, 0])


@pytest.mark.parametrize("label", [-1, 5])
@pytest.mark.parametrize("make", [lambda: AAMSoftmax(8, 5), lambda: LinearSoftmax(8, 5)])
def test_a_label_out_of_range_gets_a_sentence(make, label):
    with pytest.raises(ValueError, match="the objective knows speakers 0 to 4"):
        make()(torch.randn(2, 8), torch.tensor([0, label]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AAMSoftmax(8, 5, margin=4.0), "margin is 4.0"),
        (lambda: AAMSoftmax(8, 5, penalty_top_k=5), "penalty_top_k is 5: there are 4 other"),
        (lambda: AAMSoftmax(8, 5, sub_centres=0), "sub_centres is 0"),
        (lambda: AAMSoftmax(8, 5, weights=torch.ones(4)), "4 class weights were given for 5 speakers"),
        (lambda: LayerwiseHeads(8, 8, [1], reduction="median"), "reduction is 'median'"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bf16_autocast_keeps_the_angle_exact():
    embeddings, labels = batch()
    loss = AAMSoftmax(8, 5)
    exact = loss(embeddings, labels).mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(embeddings, labels).mean(), exact)


def states(count, frames=7, width=8, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, frames, width, generator=generator) for _ in range(count)]


def test_last_layer_mse_is_100_times_the_mean_square():
    student, teacher = states(3), states(1, seed=1)
    expected = 100 * F.mse_loss(student[-1], teacher[0])
    torch.testing.assert_close(LastLayerMSE(12)(student, teacher).mean(), expected)
    assert LastLayerMSE(12).target_layers == [12]


@pytest.mark.parametrize("teacher", [states(1, width=9), states(1, frames=14)])
def test_last_layer_mse_refuses_unequal_shapes(teacher):
    with pytest.raises(ValueError, match="use layerwise_heads or layerwise_projection"):
        LastLayerMSE(12)(states(3), teacher)


def test_layerwise_heads_reach_another_width_and_frame_rate():
    objective = LayerwiseHeads(8, 10, [2, 4], time_reduction=2)
    loss = objective(states(3, frames=7), states(2, frames=15, width=10))
    loss.mean().backward()
    assert all(p.grad is not None for p in objective.parameters())


def test_sum_over_frames_grows_with_them_and_mean_does_not():
    short, long = [s[:, :5] for s in states(1, 50)], states(1, 50)
    for reduction, grows in (("sum", True), ("mean", False)):
        torch.manual_seed(0)
        objective = LayerwiseHeads(8, 8, [1], reduction=reduction)
        ratio = objective(long, long).mean() / objective(short, short).mean()
        assert (float(ratio.detach()) > 3) == grows


def test_layerwise_projection_weighs_hints():
    objective = LayerwiseProjection(8, 8, [1, 2], hint_lambda=0.1)
    own, teacher = states(2), states(2, seed=1)
    expected = 0.1 * F.mse_loss(own[0], teacher[0]) + F.mse_loss(own[1], teacher[1])
    torch.testing.assert_close(objective.compare(own, teacher).mean(), expected)
    with pytest.raises(ValueError, match="2 target layers for 3 student layers"):
        objective(states(4), teacher)


def test_upsampling_refuses_a_rate_that_does_not_divide():
    with pytest.raises(ValueError, match="7 student frames times 2 do not reach the teacher's 20"):
        FrameUpsampling(8, 2)(states(1)[0], 20)


def lengths(kernels, strides, samples):
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


@pytest.mark.parametrize(
    ("strides", "time_reduction"),
    [
        ((10, 2, 2, 2, 2, 2, 1), 1),
        ((10, 2, 2, 2, 2, 2, 2), 1),
        ((5, 2, 2, 2, 2, 2, 1), 2),
        ((10, 2, 2, 2, 2, 2, 1), 2),
        ((5, 4, 2, 2, 2, 2, 3), 1),
        ((1, 1, 5, 4, 4, 2, 2), 1),  # hears less than the teacher
    ],
)
def test_frames_of_other_strides_reach_the_teacher_s_whatever_the_length(strides, time_reduction):
    kernels, theirs = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    teacher = encoder_config(conv_stride=theirs)
    match = frame_match(encoder_config(conv_stride=strides), teacher, time_reduction)
    module = FrameUpsampling(1, *match)
    for samples in range(16000, 16000 + 2 * 960, 53):
        frames, own = lengths(kernels, theirs, samples), lengths(kernels, strides, samples) // time_reduction
        assert module(torch.zeros(1, own, 1), frames).shape == (1, frames, 1)
    with pytest.raises(ValueError, match="do not reach the teacher's"):
        module(torch.zeros(1, own, 1), frames + 4)


def test_frames_that_hear_longer_stretches_are_held_against_those_with_their_middle():
    ours = FrameUpsampling(1, 1, surplus=4.0)(torch.arange(5.0).view(1, 5, 1), 9)
    assert ours.flatten().tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4]
    shorter = FrameUpsampling(1, 1, surplus=-2.0)(torch.arange(6.0).view(1, 6, 1), 4)
    assert shorter.flatten().tolist() == [1, 2, 3, 4]
    assert FrameMatch(1, 0.0).equal and not FrameMatch(1, 1.0).equal and not FrameMatch(2).equal
    assert LayerwiseHeads(8, 8, [1], surplus=0.0).upsampling is None


def test_front_end_distillation_is_zero_for_the_teacher_and_one_for_nothing():
    features = 7 * torch.randn(3, 8, 20) + 2
    objective = FrontEndDistillation(8, 8, weight=2.0)
    torch.nn.init.zeros_(objective.projection.weight)
    torch.nn.init.zeros_(objective.projection.bias)
    assert float(objective(features, features).mean().detach()) == pytest.approx(2.0, rel=1e-4)
    objective.projection.weight.data = torch.eye(8)
    assert float(objective(features, 3 * features).mean().detach()) == pytest.approx(0.0, abs=1e-6)


def test_front_end_distillation_reaches_another_width_and_frame_rate():
    objective = FrontEndDistillation(6, 8, match=FrameMatch(2))
    features = torch.randn(2, 6, 10, requires_grad=True)
    objective(features, torch.randn(2, 8, 21)).mean().backward()
    assert all(parameter.grad is not None for parameter in objective.parameters()) and features.grad is not None


def test_objectives_name_their_parts():
    names = set(Objectives(AAMSoftmax(8, 5), LayerwiseHeads(8, 8, [1])).state_dict())
    assert "speaker.weight" in names and "kd.predictors.0.2.bias" in names


@pytest.mark.parametrize("objective", [AAMSoftmax, LinearSoftmax])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])])
def test_a_crop_without_a_label_weighs_nothing(objective, weights):
    embeddings, labels = batch()
    loss = objective(8, 5, weights=weights)
    alone = loss(embeddings[:4], labels[:4])
    embeddings.requires_grad_()
    together = loss(embeddings, torch.cat([labels[:4], torch.tensor([UNLABELLED, UNLABELLED])]))
    torch.testing.assert_close(together.total, alone.total)
    assert together.weight == alone.weight
    together.mean().backward()
    assert not embeddings.grad[4:].any() and embeddings.grad[:4].abs().sum(1).min() > 0
    with pytest.raises(ValueError, match="Labels run from -1 to 4"):
        loss(embeddings, torch.tensor([-1, 0, 1, 2, 3, 4]))


def test_a_run_without_any_objective_is_refused():
    with pytest.raises(ValueError, match="nothing would learn"):
        Objectives(None, None)
