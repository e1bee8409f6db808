import pytest
import torch
from torch.nn import functional as F

from modeling_oskdft.training.objectives.embeddings import EmbeddingDistillation

STUDENT = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
TARGET = torch.tensor([[0.0, 1.0], [0.0, 1.0]])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape, seed=0):
    return F.normalize(drawn(*shape, seed=seed), dim=-1)


def test_hand_worked_values():
    # cosines to the target: 0 and 1; between the crops: 0 of the student, 1 of the verifier
    assert EmbeddingDistillation(2, [2], cosine=1, relations=0)(STUDENT, [TARGET]).total == pytest.approx(1.0)
    assert EmbeddingDistillation(2, [2], cosine=0, relations=1)(STUDENT, [TARGET]).total == pytest.approx(2.0)
    both = EmbeddingDistillation(2, [2], cosine=3, relations=0.5)(STUDENT, [TARGET])
    assert both.total == pytest.approx(4.0) and both.weight == 2


def test_hand_worked_gradients():
    student = STUDENT.clone().requires_grad_()
    EmbeddingDistillation(2, [2], cosine=1, relations=0)(student, [TARGET]).total.backward()
    # of 1 - cos(s, t): -(t - cos s/|s|) / |s|
    torch.testing.assert_close(student.grad, torch.tensor([[0.0, -1 / 3], [0.0, 0.0]]))
    student.grad = None
    EmbeddingDistillation(2, [2], cosine=0, relations=1)(student, [TARGET]).total.backward()
    # twice (c - 1)^2, c the cosine of the crops: 4 (c - 1) dc/ds = -4 (u' - c u) / |s|
    torch.testing.assert_close(student.grad, torch.tensor([[0.0, -4 / 3], [-4 / 2, 0.0]]))


def test_a_student_that_agrees_has_no_loss_whatever_its_scale():
    target = unit(5, 8)
    loss = EmbeddingDistillation(8, [8])
    assert loss(target * torch.tensor([[0.1], [1.0], [7.0], [30.0], [2.0]]), [target]).total == pytest.approx(
        0, abs=1e-5
    )


def test_relations_do_not_see_a_rotation():
    target = unit(5, 8)
    rotation, _ = torch.linalg.qr(drawn(8, 8, seed=1))
    assert EmbeddingDistillation(8, [8], 0, 1)(target @ rotation, [target]).total == pytest.approx(0, abs=1e-5)
    assert EmbeddingDistillation(8, [8], 1, 0)(target @ rotation, [target]).total > 1


def test_several_verifiers_give_the_mean_of_their_embeddings_and_of_their_scores():
    first, second, student = unit(4, 8, seed=1), unit(4, 8, seed=2), drawn(4, 8, seed=3)
    mean = F.normalize(first + second, dim=-1)
    cosine = EmbeddingDistillation(8, [8, 8], 1, 0)
    torch.testing.assert_close(cosine(student, [first, second]).total, cosine(student, [mean]).total)
    scores = (first @ first.T + second @ second.T) / 2
    own = F.normalize(student, dim=-1) @ F.normalize(student, dim=-1).T
    off = ~torch.eye(4, dtype=torch.bool)
    expected = sum((own - scores)[row][off[row]].square().mean() for row in range(4))
    relations = EmbeddingDistillation(8, [8, 8], 0, 1)
    torch.testing.assert_close(relations(student, [first, second]).total, expected)


def test_another_size_is_projected_and_relations_need_no_projection():
    loss = EmbeddingDistillation(8, [6])
    assert loss.projection.weight.shape == (6, 8)
    loss(drawn(3, 8), [unit(3, 6)]).total.backward()
    assert loss.projection.weight.grad.abs().sum() > 0
    alone = EmbeddingDistillation(8, [6, 12], cosine=0)
    assert alone.projection is None and alone(drawn(3, 8), [unit(3, 6), unit(3, 12)]).total > 0


def test_one_crop_has_no_relations():
    assert EmbeddingDistillation(8, [8], 0, 1)(drawn(1, 8), [unit(1, 8)]).total == 0


@pytest.mark.parametrize(
    ("sizes", "fields", "message"),
    [
        ([], {}, "no verifier to learn from"),
        ([8, 6], {}, "sizes 6, 8, which have no mean"),
        ([8], {"cosine": 0, "relations": 0}, "both 0: nothing is compared"),
    ],
)
def test_what_cannot_be_compared_is_named(sizes, fields, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingDistillation(8, sizes, **fields)
