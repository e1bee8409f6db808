"""Hold the losses of a run and the weight of the distillation."""

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...errors import choose
from ...model.layers_oskdft import Path
from ..gates import Gates
from ..schedules import KD_SCHEDULES, Clock
from .distillation import FrontEndDistillation, KDObjective
from .embeddings import EmbeddingDistillation
from .speaker import TaskObjective


class KDWeights(NamedTuple):
    """Factors on the distillation losses of a step.

    Args:
        kd_weight: of hidden states.
        embedding_kd_weight: of embeddings.
    """

    kd_weight: float
    embedding_kd_weight: float

    def of_losses(self, names: Container[str]) -> dict[str, float]:
        """Return by name the weights of those losses that are among `names`."""
        return {name: weight for name, weight in self._asdict().items() if name.replace("weight", "loss") in names}


class Objectives(nn.Module):
    """The losses of a run. A checkpoint holds them in `objectives.safetensors`.

    They are `kd_weight(t) * kd_loss + embedding_kd_weight(t) * embedding_kd_loss + ft_loss`.

    Args:
        speaker: loss of the ft path; None in distillation alone.
        kd: loss of the kd path; None without distillation of hidden states.
        front_end: a further term of kd_loss, on the convolutions; None without it.
        kd_weight: factor on kd_loss before its schedule.
        kd_schedule: a name in `KD_SCHEDULES`.
        embedding: loss of the embeddings; None without verifiers to learn from.
        embedding_kd_weight: factor on embedding_kd_loss before its schedule.
        embedding_kd_schedule: a name in `KD_SCHEDULES`.
        gates: gates of the student's units; None without learned thinning.
        settings: the fields that the losses were built from; a resumed run must have the same.

    Raises:
        ValueError: without any loss.
    """

    def __init__(
        self,
        speaker: TaskObjective | None,
        kd: KDObjective | None = None,
        front_end: FrontEndDistillation | None = None,
        kd_weight: float = 1.0,
        kd_schedule: str = "linear",
        settings: Mapping[str, Any] | None = None,
        embedding: EmbeddingDistillation | None = None,
        embedding_kd_weight: float = 1.0,
        embedding_kd_schedule: str = "constant",
        gates: Gates | None = None,
    ) -> None:
        super().__init__()
        if speaker is None and kd is None and embedding is None:
            raise ValueError("speaker_objective is 'none' and kd_weight 0: nothing would learn; set one of them.")
        self.speaker = speaker
        self.kd = kd
        self.front_end = front_end
        self.kd_weight = kd_weight
        self.kd_schedule = choose("kd_schedule", kd_schedule, KD_SCHEDULES)
        self.embedding = embedding
        self.embedding_kd_weight = embedding_kd_weight
        self.embedding_kd_schedule = choose("embedding_kd_schedule", embedding_kd_schedule, KD_SCHEDULES)
        self.gates = gates
        self.settings = dict(settings or {})

    @property
    def train_head(self) -> bool:
        """Whether a loss reads embeddings, so that the head learns and the student has an error rate."""
        return self.speaker is not None or self.embedding is not None

    @property
    def path(self) -> Path:
        """The path that the losses read: "ft", "kd" or "both"."""
        of_embedding = None if self.embedding is None else self.embedding.path
        reads_ft, reads_kd = (
            self.speaker is not None or of_embedding == "ft",
            self.kd is not None or of_embedding == "kd",
        )
        return "both" if reads_ft and reads_kd else "ft" if reads_ft else "kd"

    def kd_weights_at(self, clock: Clock, finished_steps: int) -> KDWeights:
        """Return the factors on both distillation losses in the step after `finished_steps`, see `schedules`."""
        epoch = clock.epoch(finished_steps)
        return KDWeights(
            self.kd_weight * self.kd_schedule(epoch, clock.num_epochs),
            self.embedding_kd_weight * self.embedding_kd_schedule(epoch, clock.num_epochs),
        )

    def batch_weights(self, labels: Tensor) -> Tensor:
        """Compute the weights that divide the losses of a batch.

        Args:
            labels: (batch,).

        Returns:
            (2,): the number of crops for both distillation losses, and the sum of their class weights for ft_loss. The
            floor of the latter makes the speaker loss of a batch without labels 0, and not 0 / 0.
        """
        if self.speaker is None:
            weights = torch.ones(len(labels), device=labels.device)
        else:
            weights = self.speaker.item_weights(labels)
        return torch.stack([torch.ones_like(weights).sum(), weights.sum().clamp(min=1e-6)])
