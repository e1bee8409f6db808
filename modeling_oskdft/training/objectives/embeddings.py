"""Pull the student's embeddings towards those of verifiers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .weighted_loss import WeightedLoss, over_items

EMBEDDING_PATHS = ("ft", "kd")


class EmbeddingDistillation(nn.Module):
    """Compare embeddings with those of one verifier or of several, which needs no labels.

    Two terms, each a mean over the crops of a batch:

    - `cosine` times 1 - cos(student, target). The target of several verifiers is the mean of their embeddings at unit
      length. Where its size is another than the student's, a linear projection of the student's embedding is compared;
      it belongs to the objectives and is never published.
    - `relations` times the mean squared difference between the cosines of a crop to the other crops of the batch and
      the same cosines of the verifiers (similarity-preserving distillation, Tung and Mori, 2019, with cosines as
      relational distillation, Park et al., 2019, compares distances). Several verifiers give the mean of their
      cosines, whatever their sizes: a fusion of their scores. A batch of one crop has no relations.

    Args:
        student_size: size of the student's embeddings.
        teacher_sizes: size of the embeddings of each verifier.
        cosine: weight of the first term.
        relations: weight of the second term.
        path: path of the student whose embedding is compared: "ft", or "kd" through the same head.

    Raises:
        ValueError: without verifiers or terms, and for verifiers of unequal sizes with `cosine`.
    """

    def __init__(
        self,
        student_size: int,
        teacher_sizes: Sequence[int],
        cosine: float = 1.0,
        relations: float = 1.0,
        path: str = "ft",
    ) -> None:
        super().__init__()
        if not teacher_sizes:
            raise ValueError("Distillation of embeddings has no verifier to learn from: name embedding_teachers.")
        if not cosine and not relations:
            raise ValueError("embedding_cosine and embedding_relations are both 0: nothing is compared; set one.")
        sizes = sorted(set(teacher_sizes))
        if cosine and len(sizes) > 1:
            raise ValueError(
                f"embedding_teachers have embeddings of sizes {', '.join(map(str, sizes))}, which have no mean: name "
                "verifiers of one size, or set embedding_cosine to 0 and compare relations alone."
            )
        self.cosine, self.relations, self.path = cosine, relations, path
        projected = cosine > 0 and sizes[0] != student_size
        self.projection = nn.Linear(student_size, sizes[0], bias=False) if projected else None

    def forward(self, embeddings: Tensor, targets: Sequence[Tensor]) -> WeightedLoss:
        """Compare, in float32.

        Args:
            embeddings: (batch, student_size).
            targets: of each verifier (batch, its size), at unit length.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            student = embeddings.float()
            per_item = student.new_zeros(len(student))
            if self.cosine:
                per_item = per_item + self.cosine * (1 - self._cosines(student, targets))
            if self.relations and len(student) > 1:
                per_item = per_item + self.relations * self._relations(student, targets)
        return over_items(per_item)

    def _cosines(self, student: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Compute the cosine of each crop to its target, (batch,)."""
        projected = student if self.projection is None else self.projection(student)
        return F.cosine_similarity(projected, torch.stack(list(targets)).mean(0), dim=-1)

    @staticmethod
    def _relations(student: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Compute the mean squared difference of each crop's cosines to the others, (batch,)."""
        unit = F.normalize(student, dim=-1)
        wanted = torch.stack([target @ target.T for target in targets]).mean(0)
        difference = (unit @ unit.T - wanted).square()
        others = 1 - torch.eye(len(student), device=student.device)  # the diagonal is 1 - 1 but for rounding
        return (difference * others).sum(1) / (len(student) - 1)
