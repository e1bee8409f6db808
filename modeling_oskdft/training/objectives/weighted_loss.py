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


def over_frames(values: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Average a loss over the frames of each item, and over the width of a frame.

    Args:
        values: (batch, frames) or (batch, frames, width).
        frame_mask: (batch, frames), True for the frames that count; None: all.

    Returns:
        (batch,).
    """
    dims = tuple(range(1, values.dim()))
    if frame_mask is None:
        return values.mean(dims)
    mask = frame_mask.reshape(*frame_mask.shape, *[1] * (values.dim() - 2)).expand_as(values)
    return values.masked_fill(~mask, 0.0).sum(dims) / mask.sum(dims).clamp(min=1)


def over_items(per_item: Tensor) -> WeightedLoss:
    """Sum a loss over items that weigh 1 each.

    Args:
        per_item: (batch,).
    """
    # `new_full` fills on the device; a number that is copied there makes the host wait for the step.
    return WeightedLoss(per_item.sum(), per_item.new_full((), float(len(per_item))))
