"""Classify training speakers: the objectives of the ft path."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.crops import UNLABELLED
from ...model.heads_oskdft import add_angular_margin
from .weighted_loss import WeightedLoss


def class_weights(utterance_counts: Sequence[int], cap: float = 10.0) -> Tensor:
    """Compute class weights inverse to the number of utterances; a speaker with the mean number weighs 1.

    The authors' code has no bound; `cap` keeps a speaker with two utterances from a weight of five hundred.

    Args:
        utterance_counts: utterances of each class, in the order of the classes.
        cap: largest weight.

    Returns:
        (num_speakers,) float32.

    Raises:
        ValueError: when a speaker has no utterances.
    """
    counts = torch.as_tensor(utterance_counts, dtype=torch.float32)
    if bool((counts < 1).any()):
        raise ValueError("A speaker has no utterances: every class of the training set needs at least one.")
    return (counts.mean() / counts).clamp(max=cap)


class TaskObjective(nn.Module, ABC):
    """Base of the losses of labels, of speakers or of other classes: checks labels, weights items by their class.

    An item with the label `UNLABELLED` weighs 0: such a crop takes part in the distillation alone.

    Args:
        num_speakers: number of classes.
        weights: (num_speakers,) class weights; None for 1 each.
    """

    class_weights: Tensor | None

    def __init__(self, num_speakers: int, weights: Tensor | None) -> None:
        super().__init__()
        if weights is not None and len(weights) != num_speakers:
            raise ValueError(
                f"{len(weights)} class weights were given for {num_speakers} speakers: give one a speaker."
            )
        self.num_speakers = num_speakers
        self.register_buffer("class_weights", weights)

    @abstractmethod
    def forward(self, outputs: Tensor, labels: Tensor, frame_mask: Tensor | None = None) -> WeightedLoss:
        """Compute the weighted loss.

        Args:
            outputs: what `task_output` of the student returns, mostly (batch, embedding_size).
            labels: (batch,), or (batch, letters).
            frame_mask: (batch, frames), True where audio is real, for losses of frames; None where nothing is padded.
        """

    def weigh(self, logits: Tensor, labels: Tensor) -> WeightedLoss:
        """Compute the cross entropy with each item weighted by its class.

        Args:
            logits: (batch, num_speakers).
            labels: (batch,).
        """
        losses = F.cross_entropy(logits, labels, reduction="none")
        weights = self.item_weights(labels)
        return WeightedLoss((losses * weights).sum(), weights.sum())

    def item_weights(self, labels: Tensor) -> Tensor:
        """Look up the weight of each item's class.

        Args:
            labels: (batch,) on any device.

        Returns:
            (batch,) on the labels' device.
        """
        labelled = labels != UNLABELLED
        if self.class_weights is None:
            return labelled.float()
        return self.class_weights.to(labels.device)[labels * labelled] * labelled

    def check(self, labels: Tensor) -> None:
        """Refuse labels outside the classes. On a GPU the check would stall the step, and CUDA has its own assert.

        Raises:
            ValueError: for a label that is no speaker.
        """
        if labels.is_cuda or torch.compiler.is_compiling():
            return
        outside = (labels < 0) | (labels >= self.num_speakers)
        if bool((outside & (labels != UNLABELLED)).any()):
            raise ValueError(
                f"Labels run from {int(labels.min())} to {int(labels.max())}: the objective knows speakers 0 to "
                f"{self.num_speakers - 1}; build it with the training set's number of speakers."
            )


class AAMSoftmax(TaskObjective):
    """Additive angular margin softmax (ArcFace, Deng et al., 2019), optionally with a penalty on the top k impostors.

    The target's logit is `scale * cos(theta + margin)`; beyond theta + margin = pi it is its linear continuation,
    which keeps falling (the authors' newer code lost this). The `penalty_top_k` largest other cosines become
    `cos(theta - penalty_margin)`. The paper uses margin 0.2 and scale 30. With `sub_centres`, a speaker has several
    class vectors and the nearest one counts (sub-center ArcFace, Deng et al., 2020).

    `weight` holds the class vectors, which are centroids of the training speakers: checkpoints keep them for resuming,
    and they are never published.

    Args:
        embedding_size: width of the embeddings.
        num_speakers: number of classes.
        margin: angle from 0 to below pi.
        scale: factor on the cosines.
        weights: (num_speakers,) class weights; None for 1 each.
        penalty_top_k: number of penalised impostors.
        penalty_margin: angle of the penalty.
        sub_centres: class vectors of a speaker.

    Raises:
        ValueError: for a value outside its range.
    """

    def __init__(
        self,
        embedding_size: int,
        num_speakers: int,
        margin: float = 0.2,
        scale: float = 30.0,
        weights: Tensor | None = None,
        penalty_top_k: int = 0,
        penalty_margin: float = 0.0,
        sub_centres: int = 1,
    ) -> None:
        super().__init__(num_speakers, weights)
        if sub_centres < 1:
            raise ValueError(f"sub_centres is {sub_centres}: a speaker has at least 1.")
        if not 0 <= margin < math.pi:
            raise ValueError(f"margin is {margin}: an angle of 0 to below pi is needed; the paper's is 0.2.")
        if not 0 <= penalty_top_k < num_speakers:
            raise ValueError(f"penalty_top_k is {penalty_top_k}: there are {num_speakers - 1} other speakers.")
        self.margin, self.scale = margin, scale
        self.penalty_top_k, self.penalty_margin = penalty_top_k, penalty_margin
        self.sub_centres = sub_centres
        self.weight = nn.Parameter(torch.empty(num_speakers * sub_centres, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor, frame_mask: Tensor | None = None) -> WeightedLoss:
        """Compute the weighted cross entropy of the margin logits, in float32.

        Args:
            embeddings: (batch, embedding_size).
            labels: (batch,).
            frame_mask: not read: an embedding has no frames.
        """
        self.check(labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
            cosine = cosine.unflatten(1, (self.num_speakers, self.sub_centres)).amax(2)
            return self.weigh(self.scale * self._with_margins(cosine, labels), labels)

    def _with_margins(self, cosine: Tensor, labels: Tensor) -> Tensor:
        is_target = F.one_hot(labels * (labels != UNLABELLED), self.num_speakers).bool()
        result = cosine
        if self.penalty_top_k:
            others = cosine.masked_fill(is_target, float("-inf"))
            top = others.topk(self.penalty_top_k, dim=1).indices
            # The floor keeps the gradient of the root finite at cosine 1.
            sine = (1.0 - cosine.square()).clamp(min=1e-7).sqrt()
            nearer = cosine * math.cos(self.penalty_margin) + sine * math.sin(self.penalty_margin)
            result = result.scatter(1, top, nearer.gather(1, top))
        return torch.where(is_target, add_angular_margin(cosine, self.margin), result)


class ClassSoftmax(TaskObjective):
    """Plain cross entropy of the logits of a classifier, whose linear layer belongs to the published model.

    Args:
        num_classes: number of classes.
        weights: (num_classes,) class weights; None for 1 each.
    """

    def __init__(self, num_classes: int, weights: Tensor | None = None) -> None:
        super().__init__(num_classes, weights)

    def forward(self, logits: Tensor, labels: Tensor, frame_mask: Tensor | None = None) -> WeightedLoss:
        """Compute the weighted cross entropy.

        Args:
            logits: (batch, num_classes).
            labels: (batch,).
            frame_mask: not read: a recording has one class.
        """
        self.check(labels)
        return self.weigh(logits.float(), labels)


class LinearSoftmax(TaskObjective):
    """A linear classifier on the embedding with plain cross entropy, as in the recipes of the authors' repository.

    Args:
        embedding_size: width of the embeddings.
        num_speakers: number of classes.
        weights: (num_speakers,) class weights; None for 1 each.
    """

    def __init__(self, embedding_size: int, num_speakers: int, weights: Tensor | None = None) -> None:
        super().__init__(num_speakers, weights)
        self.classifier = nn.Linear(embedding_size, num_speakers)

    def forward(self, embeddings: Tensor, labels: Tensor, frame_mask: Tensor | None = None) -> WeightedLoss:
        """Compute the weighted cross entropy.

        Args:
            embeddings: (batch, embedding_size).
            labels: (batch,).
            frame_mask: not read: an embedding has no frames.
        """
        self.check(labels)
        return self.weigh(self.classifier(embeddings).float(), labels)
