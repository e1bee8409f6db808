import torch

from modeling_oskdft.training.objectives.weighted_loss import WeightedLoss, over_items


def test_parts_of_unequal_weight_have_the_mean_of_the_whole():
    losses, weights = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 3.0, 0.5])
    parts = [
        WeightedLoss((losses[part] * weights[part]).sum(), weights[part].sum()) for part in (slice(2), slice(2, 3))
    ]
    whole = WeightedLoss(sum(part.total for part in parts), sum(part.weight for part in parts))
    torch.testing.assert_close(whole.mean(), torch.tensor(10.0 / 4.5))


def test_items_weigh_one_each():
    loss = over_items(torch.tensor([1.0, 2.0, 6.0]))
    assert float(loss.total) == 9 and float(loss.weight) == 3 and loss.weight.shape == ()
