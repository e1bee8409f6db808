import math

import pytest
import torch

from modeling_oskdft.training.objectives.letters import LetterCTC

NONE = -100


def test_the_loss_of_a_text_by_hand():
    # Three frames, uniform over blank, a, b: of 27 paths "aaa", "a__", "_a_", "__a", "aa_", "_aa" say "a".
    logits = torch.zeros(1, 3, 3)
    loss = LetterCTC(3)(logits, torch.tensor([[1, NONE]]))
    assert loss.mean().item() == pytest.approx(-math.log(6 / 27))
    # "ab" in two frames has one path of nine, and its loss is divided by its letters.
    assert LetterCTC(3)(logits[:, :2], torch.tensor([[1, 2]])).mean().item() == pytest.approx(math.log(9) / 2)


def test_padding_changes_nothing_and_a_recording_without_a_text_weighs_nothing():
    torch.manual_seed(0)
    logits = torch.randn(2, 9, 4)
    labels = torch.tensor([[1, 2, 2], [NONE, NONE, NONE]])
    mask = torch.arange(9) < torch.tensor([[6], [9]])
    objective = LetterCTC(4)
    padded, alone = objective(logits, labels, mask), objective(logits[:1, :6], labels[:1])
    assert torch.isclose(padded.total, alone.total) and padded.weight == alone.weight == 1
    assert objective.item_weights(labels).tolist() == [1, 0]


def test_gradients_are_finite_for_a_batch_without_texts():
    logits = torch.randn(2, 5, 3, requires_grad=True)
    LetterCTC(3)(logits, torch.full((2, 2), NONE)).total.backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad.any()


def test_a_letter_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="run from"):
        LetterCTC(3)(torch.zeros(1, 4, 3), torch.tensor([[3, 1]]))
