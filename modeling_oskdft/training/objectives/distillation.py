"""Pull the student's kd path towards hidden states of the teacher."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .frames import FrameMatch, upsampling_for
from .weighted_loss import WeightedLoss, over_frames, over_items


class KDObjective(nn.Module):
    """Base of the distillation objectives.

    `forward(student_states, teacher_states, frame_mask)` takes all n + 1 hidden states of the kd path, the teacher's
    states at `target_layers`, each (batch, frames, hidden), and for padded recordings a mask of the student's frames.

    Args:
        target_layers: indices into the teacher's hidden states, 0 the input of its first layer. The teacher computes
            no layer after the largest of them.
        match: position of the student's frames over the teacher's; None for equal frames.
    """

    def __init__(self, target_layers: Sequence[int], match: FrameMatch | None = None) -> None:
        super().__init__()
        self.target_layers, self.match = list(target_layers), match or FrameMatch()


class LastLayerMSE(KDObjective):
    """`scale` times the mean squared error of the last hidden states: the paper's objective, scale 100.

    Args:
        teacher_depth: index of the teacher's last hidden state.
        scale: factor on the error.
    """

    def __init__(self, teacher_depth: int, scale: float = 100.0) -> None:
        super().__init__([teacher_depth])
        self.scale = scale

    def forward(
        self, student_states: Sequence[Tensor], teacher_states: Sequence[Tensor], frame_mask: Tensor | None = None
    ) -> WeightedLoss:
        """Compare the last states.

        Raises:
            ValueError: when student and teacher differ in width or frame rate.
        """
        student, (teacher,) = student_states[-1], teacher_states
        if student.shape != teacher.shape:
            raise ValueError(
                f"last_layer_mse was given {tuple(student.shape)} of the student and {tuple(teacher.shape)} of the "
                "teacher: use layerwise_heads or layerwise_projection between unequal widths or frame rates."
            )
        return over_items(self.scale * over_frames((student.float() - teacher.float()).square(), frame_mask))


class LayerwiseHeads(KDObjective):
    """A small prediction head on the student's last state for each target layer (DistilHuBERT, Chang et al., 2022).

    The loss of a target is the mean absolute difference minus `cos_lambda` times the log-sigmoid of the cosine.

    Args:
        student_width: width of the student's states.
        teacher_width: width of the teacher's states.
        target_layers: see `KDObjective`.
        cos_lambda: weight of the cosine term.
        reduction: of the cosine term over frames: "mean", or the authors' "sum", which makes this term hundreds of
            times the speaker loss.
        match: position of the student's frames over the teacher's.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        target_layers: Sequence[int],
        cos_lambda: float = 1.0,
        reduction: str = "mean",
        match: FrameMatch | None = None,
    ) -> None:
        super().__init__(target_layers, match)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction is '{reduction}': use mean or sum.")
        self.cos_lambda, self.reduction = cos_lambda, reduction
        self.upsampling = upsampling_for(student_width, self.match)
        self.predictors = nn.ModuleList(
            nn.Sequential(nn.Linear(student_width, teacher_width), nn.GELU(), nn.Linear(teacher_width, teacher_width))
            for _ in self.target_layers
        )

    def forward(
        self, student_states: Sequence[Tensor], teacher_states: Sequence[Tensor], frame_mask: Tensor | None = None
    ) -> WeightedLoss:
        """Compare the prediction of each head with its target layer."""
        student = student_states[-1]
        if self.upsampling is not None:
            student = self.upsampling(student, teacher_states[0].shape[1])
        mask = self.match.teacher_mask(frame_mask, teacher_states[0].shape[1])
        per_item = torch.zeros(len(student), device=student.device)
        for predict, teacher in zip(self.predictors, teacher_states, strict=True):
            prediction, target = predict(student).float(), teacher.float()
            similarity = F.logsigmoid(F.cosine_similarity(prediction, target, dim=-1))
            if self.reduction == "mean":
                similarity = over_frames(similarity, mask)
            else:
                similarity = (similarity if mask is None else similarity * mask).sum(1)
            per_item = per_item + over_frames((prediction - target).abs(), mask) - self.cos_lambda * similarity
        return over_items(per_item)


class LayerwiseProjection(KDObjective):
    """Each student layer against a teacher layer of its own, after a projection to its width and frame rate.

    Mean squared error; every layer but the last weighs `hint_lambda` (FitHuBERT, Lee et al., 2022).

    Args:
        student_width: width of the student's states.
        teacher_width: width of the teacher's states.
        target_layers: one teacher state for each student layer, see `KDObjective`.
        hint_lambda: weight of every layer but the last.
        match: position of the student's frames over the teacher's.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        target_layers: Sequence[int],
        hint_lambda: float = 0.1,
        match: FrameMatch | None = None,
    ) -> None:
        super().__init__(target_layers, match)
        self.hint_lambda = hint_lambda
        upsamplings = [upsampling_for(student_width, self.match) for _ in self.target_layers]
        self.upsampling = nn.ModuleList(upsampling for upsampling in upsamplings if upsampling is not None)
        self.projections = nn.ModuleList(nn.Linear(student_width, teacher_width) for _ in self.target_layers)

    def project(self, student_states: Sequence[Tensor], frames: int) -> list[Tensor]:
        """Project student layers 1 to n.

        Args:
            student_states: all n + 1 states of the kd path.
            frames: number of teacher frames.

        Returns:
            n tensors (batch, frames, teacher_width).

        Raises:
            ValueError: when there is not one target layer for each student layer.
        """
        states = list(student_states[1:])
        if len(states) != len(self.projections):
            raise ValueError(
                f"layerwise_projection has {len(self.projections)} target layers for {len(states)} student layers: "
                "name one teacher layer for each."
            )
        if len(self.upsampling):
            states = [upsample(state, frames) for upsample, state in zip(self.upsampling, states, strict=True)]
        return [project(state) for project, state in zip(self.projections, states, strict=True)]

    def forward(
        self, student_states: Sequence[Tensor], teacher_states: Sequence[Tensor], frame_mask: Tensor | None = None
    ) -> WeightedLoss:
        """Project the student's layers and compare each with its target layer."""
        frames = teacher_states[0].shape[1]
        mask = self.match.teacher_mask(frame_mask, frames)
        return self.compare(self.project(student_states, frames), teacher_states, mask)

    def compare(
        self, projected: Sequence[Tensor], teacher_states: Sequence[Tensor], mask: Tensor | None = None
    ) -> WeightedLoss:
        """Compare projected layers with target layers, each (batch, frames, teacher_width), where the mask is true."""
        per_item = torch.zeros(len(projected[0]), device=projected[0].device)
        last = len(projected) - 1
        for index, (state, target) in enumerate(zip(projected, teacher_states, strict=True)):
            factor = 1.0 if index == last else self.hint_lambda
            per_item = per_item + factor * over_frames((state.float() - target.float()).square(), mask)
        return over_items(per_item)


class FrontEndDistillation(nn.Module):
    """Pulls the student's convolutions towards the teacher's, after a projection to their width and frame rate.

    Both sides are compared after a LayerNorm without affine parameters, as the next layer of both encoders reads them;
    so the mean squared error has the same scale for every teacher: 1 for a projection that predicts nothing.

    Args:
        student_width: channels of the student's last convolution.
        teacher_width: channels of the teacher's last convolution.
        weight: factor on this term inside kd_loss.
        match: position of the student's frames over the teacher's.
    """

    def __init__(
        self, student_width: int, teacher_width: int, weight: float = 1.0, match: FrameMatch | None = None
    ) -> None:
        super().__init__()
        self.weight = weight
        self.upsampling = upsampling_for(student_width, match or FrameMatch())
        self.projection = nn.Linear(student_width, teacher_width)

    def forward(self, conv_features: Tensor, conv_target: Tensor) -> WeightedLoss:
        """Compare two outputs of convolutions.

        Args:
            conv_features: (batch, student_width, student frames).
            conv_target: (batch, teacher_width, teacher frames).
        """
        student = F.layer_norm(conv_features.transpose(1, 2), conv_features.shape[1:2])
        if self.upsampling is not None:
            student = self.upsampling(student, conv_target.shape[2])
        target = F.layer_norm(conv_target.transpose(1, 2).float(), conv_target.shape[1:2])
        return over_items(self.weight * (self.projection(student).float() - target).square().mean((1, 2)))
