"""Learn to write down what is said: the objective of letters."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...data.crops import UNLABELLED
from .speaker import TaskObjective
from .weighted_loss import WeightedLoss


class LetterCTC(TaskObjective):
    """CTC (Graves et al., 2006): the negative log likelihood of a text, over all places of its letters, a letter.

    The letter 0 is the blank. A recording without a text weighs 0.

    Args:
        num_letters: size of the vocabulary.
    """

    def __init__(self, num_letters: int) -> None:
        super().__init__(num_letters, None)

    def item_weights(self, labels: Tensor) -> Tensor:
        """Return (batch,): 1 for each recording with a text.

        Args:
            labels: (batch, letters), padded by `UNLABELLED`.
        """
        return (labels != UNLABELLED).any(-1).float()

    def forward(self, logits: Tensor, labels: Tensor, frame_mask: Tensor | None = None) -> WeightedLoss:
        """Compute the loss of each text, divided by its letters.

        Args:
            logits: (batch, frames, num_letters).
            labels: (batch, letters), padded by `UNLABELLED`.
            frame_mask: (batch, frames), True where audio is real; None where nothing is padded.
        """
        self.check(labels)
        is_letter = labels != UNLABELLED
        letters, weights = is_letter.sum(-1), self.item_weights(labels)
        frames = letters.new_full((len(logits),), logits.shape[1]) if frame_mask is None else frame_mask.sum(-1)
        with torch.autocast(logits.device.type, enabled=False):
            losses = F.ctc_loss(
                logits.float().log_softmax(-1).transpose(0, 1),
                labels.masked_fill(~is_letter, 0),
                frames,
                letters,
                reduction="none",
                zero_infinity=True,
            )
        losses = losses / letters.clamp(min=1) * weights
        return WeightedLoss(losses.sum(), weights.sum())
