"""Compute one training step: a batch through both paths of the student, and both losses, in a single forward.

DDP, compilation and accumulation see this one module. The frozen teacher is not part of it: its states are inputs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import check_choice
from ..model.layers_oskdft import ParallelAdapter
from ..model.modeling_oskdft import adapter_parameters
from ..model.modeling_tasks_oskdft import Student
from ..student.positional_convolution import use_fourier_on_gpu
from .objectives.objectives import Objectives
from .objectives.weighted_loss import WeightedLoss
from .precision import protect_narrow_convolutions

FREEZABLE = ("none", "feature_encoder", "trunk", "encoder")
WEIGHTED = ("weighted_kd_loss", "weighted_embedding_kd_loss")  # beside ft_loss, the terms of the loss


class JointOutput(NamedTuple):
    """Both losses of a batch, undivided; each is None without its objective.

    Args:
        ft: the speaker loss.
        kd: the distillation loss of hidden states, with its term on the convolutions.
        front_end: that term alone, with its weight inside `kd`.
        embedding: the distillation loss of embeddings.
        gates: the penalty on multiply-adds, which is divided by nothing.
    """

    ft: WeightedLoss | None
    kd: WeightedLoss | None
    front_end: WeightedLoss | None = None
    embedding: WeightedLoss | None = None
    gates: Tensor | None = None

    def losses(
        self,
        kd_share: Tensor,
        ft_share: Tensor,
        kd_weight: float,
        embedding_kd_weight: float = 1.0,
        gate_share: float = 1.0,
    ) -> dict[str, Tensor]:
        """Divide the losses and add them up.

        Args:
            kd_share: scalar factor on the sums `kd` and `embedding`.
            ft_share: scalar factor on the sum `ft`.
            kd_weight: weight of kd_loss in the loss.
            embedding_kd_weight: weight of embedding_kd_loss in the loss.
            gate_share: factor on the penalty of the gates.

        Returns:
            Scalars: `loss`, and of the terms that exist `ft_loss`, `kd_loss`, `front_end_kd_loss`,
            `embedding_kd_loss`, `weighted_kd_loss`, `weighted_embedding_kd_loss` and `gate_loss`.
        """
        losses: dict[str, Tensor] = {}
        if self.ft is not None:
            losses["ft_loss"] = self.ft.total * ft_share
        if self.kd is not None:
            losses["kd_loss"] = self.kd.total * kd_share
            losses["weighted_kd_loss"] = kd_weight * losses["kd_loss"]
        if self.front_end is not None:
            losses["front_end_kd_loss"] = self.front_end.total * kd_share
        if self.embedding is not None:
            losses["embedding_kd_loss"] = self.embedding.total * kd_share
            losses["weighted_embedding_kd_loss"] = embedding_kd_weight * losses["embedding_kd_loss"]
        if self.gates is not None:
            losses["gate_loss"] = self.gates * gate_share
        terms = [losses[name] for name in ("ft_loss", *WEIGHTED, "gate_loss") if name in losses]
        return {"loss": torch.stack(terms).sum(), **losses}


class SpecMask(nn.Module):
    """Masks a band of features and a span of frames of the head's input (SpecAugment, Park et al., 2019).

    Args:
        probability: share of items that are masked.
        features: widest band; the width is drawn from 0 up to it. The authors use 100.
        frames: longest span, drawn likewise. The authors use 10.
    """

    def __init__(self, probability: float, features: int = 100, frames: int = 10) -> None:
        super().__init__()
        self.probability, self.features, self.frames = probability, features, frames

    def forward(self, hidden_states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Mask all states alike, because the head mixes them.

        Args:
            hidden_states: each (batch, frames, hidden).
        """
        batch, frames, width = hidden_states[0].shape
        device = hidden_states[0].device
        masked = torch.rand(batch, 1, device=device) < self.probability
        span = masked & _random_span(batch, frames, self.frames, device)
        band = masked & _random_span(batch, width, self.features, device)
        mask = span[:, :, None] | band[:, None, :]
        return tuple(state.masked_fill(mask, 0.0) for state in hidden_states)


def _random_span(batch: int, length: int, widest: int, device: torch.device) -> Tensor:
    """Draw a span of 0 to `widest` for each row; returns (batch, length), True inside."""
    size = torch.randint(0, min(widest, length) + 1, (batch, 1), device=device)
    start = (torch.rand(batch, 1, device=device) * (length - size + 1)).long()
    position = torch.arange(length, device=device)
    return (position >= start) & (position < start + size)


class JointModel(nn.Module):
    """A student and its objectives.

    Args:
        student: the verifier that learns.
        objectives: both losses.
        freeze: "feature_encoder" keeps the convolutions as they are, "trunk" everything but adapters and head, and
            "encoder" everything but the head.
        spec_mask: masks the head's input in training; None for no mask.

    Raises:
        ValueError: for a `freeze` with which a loss could not be learned.
    """

    def __init__(
        self,
        student: Student,
        objectives: Objectives,
        freeze: str = "none",
        spec_mask: SpecMask | None = None,
    ) -> None:
        super().__init__()
        check_choice("freeze", freeze, FREEZABLE)
        if freeze in ("trunk", "encoder") and objectives.path != "ft":
            raise ValueError(
                f"freeze is '{freeze}' with a distillation on the kd path: nothing would learn; set kd_weight to 0, "
                "and embedding_kd_path to ft."
            )
        if freeze == "feature_encoder" and objectives.front_end is not None:
            raise ValueError(
                "freeze is 'feature_encoder' with front-end distillation: no convolution would learn; set "
                "front_end_kd_lambda to 0, or freeze to none."
            )
        self.student = student
        self.objectives = objectives
        self.spec_mask = spec_mask
        self.freeze, self.frozen_trunk = freeze, freeze in ("trunk", "encoder")
        if self.frozen_trunk:
            student.oskdft.requires_grad_(False)
            for _, parameter in adapter_parameters(student) if freeze == "trunk" else ():
                parameter.requires_grad_(True)
        elif freeze == "feature_encoder":
            student.oskdft.freeze_feature_encoder()
        if not objectives.train_head:
            student.head.requires_grad_(False)
        if objectives.gates is not None:
            objectives.gates.attach(student.oskdft)
        if objectives.path == "kd":
            for _, parameter in adapter_parameters(student):
                parameter.requires_grad_(False)
        protect_narrow_convolutions(student)
        use_fourier_on_gpu(student)

    def train(self, mode: bool = True) -> "JointModel":
        """Set the mode; what is frozen stays in eval mode, because nothing adapts to its dropout."""
        super().train(mode)
        if self.frozen_trunk:
            self.student.oskdft.eval()
        if self.freeze == "trunk":
            for module in self.student.oskdft.modules():
                if isinstance(module, ParallelAdapter):
                    module.train(mode)
        return self

    def forward(
        self,
        input_values: Tensor,
        labels: Tensor,
        teacher_states: Sequence[Tensor] | None = None,
        conv_features: Tensor | None = None,
        conv_target: Tensor | None = None,
        teacher_embeddings: Sequence[Tensor] = (),
        attention_mask: Tensor | None = None,
    ) -> JointOutput:
        """Compute the losses.

        Args:
            input_values: (batch, samples), crops of one length; with `attention_mask`, padded recordings.
            labels: as the objective of the ft path takes them.
            teacher_states: target states, see `KDObjective`.
            conv_features: output of the convolutions for `input_values`, when the teacher has computed it.
            conv_target: output of the teacher's convolutions, for `FrontEndDistillation`.
            teacher_embeddings: target embeddings, for `EmbeddingDistillation`.
            attention_mask: (batch, samples), 1 where audio is real; None where nothing is padded.
        """
        encoder, objectives = self.student.oskdft, self.objectives
        penalty = None if objectives.gates is None else objectives.gates()
        features = encoder.convolve(input_values, attention_mask) if conv_features is None else conv_features
        frame_mask = encoder.frame_mask(attention_mask, features.shape[-1] // encoder.config.time_reduction)
        outputs = encoder.encode(features, frame_mask, path=objectives.path)
        masks = () if frame_mask is None else (frame_mask,)  # heads and losses of others may know of no padding
        kd_states = outputs.hidden_states if objectives.path == "kd" else outputs.kd_hidden_states
        embeddings = None if objectives.path == "kd" else self._embed(outputs.hidden_states or (), *masks)
        ft = None
        if objectives.speaker is not None and embeddings is not None:
            ft = objectives.speaker(self.student.task_output(embeddings), labels, *masks)
        kd, front_end = self._distil(features, kd_states, teacher_states, conv_target, *masks)
        embedding = None
        if objectives.embedding is not None:
            if objectives.embedding.path == "kd":
                embeddings = self._embed_kd_path(kd_states, has_ft_path=embeddings is not None)
            embedding = objectives.embedding(embeddings, teacher_embeddings)
        return JointOutput(ft, kd, front_end, embedding, penalty)

    def _embed(self, hidden_states: Sequence[Tensor], *masks: Tensor) -> Tensor:
        """Compute what the head makes of the ft path, masked in training."""
        if self.spec_mask is not None and self.training:
            hidden_states = self.spec_mask(hidden_states)
        return self.student.head(hidden_states, *masks)

    def _embed_kd_path(self, hidden_states: Sequence[Tensor] | None, has_ft_path: bool) -> Tensor:
        """Compute the embeddings of the kd path; running statistics of the head are the ft path's where it has one."""
        if not has_ft_path:
            return self.student.head(hidden_states)
        norms = [module for module in self.student.head.modules() if isinstance(module, nn.BatchNorm1d)]
        tracked = [norm.track_running_stats for norm in norms]
        for norm in norms:
            norm.track_running_stats = False
        try:
            return self.student.head(hidden_states)
        finally:
            for norm, value in zip(norms, tracked, strict=True):
                norm.track_running_stats = value

    def _distil(
        self,
        conv_features: Tensor,
        student_states: Sequence[Tensor] | None,
        teacher_states: Sequence[Tensor] | None,
        conv_target: Tensor | None,
        *masks: Tensor,
    ) -> tuple[WeightedLoss | None, WeightedLoss | None]:
        """Compute the whole distillation loss of hidden states, and its term on the convolutions."""
        objectives = self.objectives
        if objectives.kd is None:
            return None, None
        kd = objectives.kd(student_states, teacher_states, *masks)
        if objectives.front_end is None:
            return kd, None
        front_end = objectives.front_end(conv_features, conv_target)
        return WeightedLoss(kd.total + front_end.total, kd.weight), front_end

    def activation_checkpointing_enable(self, **kwargs: object) -> None:
        """Hand the Trainer's call on to the student, under the name that its version of transformers has."""
        student: Any = self.student
        old_name = student.gradient_checkpointing_enable
        getattr(student, "activation_checkpointing_enable", old_name)(**kwargs)

    gradient_checkpointing_enable = activation_checkpointing_enable

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return trainable parameters by schedule: adapters, the shared backbone, and the head with both objectives.

        The bias of the linear layer before the head's last batch norm is left out: its gradient is rounding alone.
        Adam would turn it into whole steps, and embeddings would depend on the number of processes.
        """
        no_gradient = id(getattr(getattr(self.student.head, "projection", None), "bias", None))
        adapters = {id(parameter) for _, parameter in adapter_parameters(self.student)}
        shared = {id(parameter) for parameter in self.student.oskdft.parameters()} - adapters
        groups: dict[str, list[nn.Parameter]] = {"head": [], "adapters": [], "backbone": []}
        for parameter in self.parameters():
            key = id(parameter)
            if parameter.requires_grad and key != no_gradient:
                groups["adapters" if key in adapters else "backbone" if key in shared else "head"].append(parameter)
        return groups
