import pytest
import torch
from torch.nn import functional as F

from modeling_oskdft.training.objectives.distillation import (
    FrontEndDistillation,
    LastLayerMSE,
    LayerwiseHeads,
    LayerwiseProjection,
)
from modeling_oskdft.training.objectives.frames import FrameMatch
from modeling_oskdft.training.objectives.speaker import AAMSoftmax


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
    objective = LayerwiseHeads(8, 10, [2, 4], match=FrameMatch(2))
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
