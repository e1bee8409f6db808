import math

import pytest
import torch
from torch.nn import functional as F

from modeling_oskdft.data.crops import UNLABELLED
from modeling_oskdft.training.objectives.speaker import AAMSoftmax, LinearSoftmax, class_weights


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


def test_bf16_autocast_keeps_the_angle_exact():
    embeddings, labels = batch()
    loss = AAMSoftmax(8, 5)
    exact = loss(embeddings, labels).mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(embeddings, labels).mean(), exact)


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
