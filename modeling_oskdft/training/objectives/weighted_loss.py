"""Keep a loss as a sum and the weight that divides it."""

from typing import NamedTuple

from torch import Tensor


class WeightedLoss(NamedTuple):
    """Sum of a loss over items, and sum of the items' weights.

    The step divides by the weight of the whole batch, over all accumulation steps and processes; a mean for each part
    would give unequal parts equal weight.

    Args:
        total: scalar, the weighted sum of the loss.
        weight: scalar, the sum of the weights.
    """

    total: Tensor
    weight: Tensor

    def mean(self) -> Tensor:
        """Divide the sum by the weight of these items alone."""
        return self.total / self.weight


def over_items(per_item: Tensor) -> WeightedLoss:
    """Sum a loss over items that weigh 1 each.

    Args:
        per_item: (batch,).
    """
    # `new_full` fills on the device; a number that is copied there makes the host wait for the step.
    return WeightedLoss(per_item.sum(), per_item.new_full((), float(len(per_item))))
