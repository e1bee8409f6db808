"""The two objectives of the one step: distillation on the kd path, speaker classification on the ft path.

Every objective returns a sum and the weight to divide it by, so that the step can divide by the weight of the whole
batch, over accumulation steps and processes. What exists only for a loss (class vectors, prediction heads) lives here
and never in the published model.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.crops import UNLABELLED


class WeightedLoss(NamedTuple):
    """A loss as its weighted sum over items and the sum of their weights, both scalars."""

    total: Tensor
    weight: Tensor

    def mean(self) -> Tensor:
        """The loss of these items alone."""
        return self.total / self.weight


def class_weights(utterance_counts: Sequence[int], cap: float = 10.0) -> Tensor:
    """Weights (num_speakers,) inverse to the number of utterances: a speaker with the mean number weighs 1.

    The authors use utterances / utterances of the class without a bound; `cap` keeps a speaker with two utterances
    from weighing five hundred. Raises `ValueError` for a speaker without utterances.
    """
    counts = torch.as_tensor(utterance_counts, dtype=torch.float32)
    if bool((counts < 1).any()):
        raise ValueError("A speaker has no utterances: every class of the training set needs at least one.")
    return (counts.mean() / counts).clamp(max=cap)


class SpeakerObjective(nn.Module):
    """What both classifiers share: labels are checked, items are weighted by their class.

    A label of `UNLABELLED` weighs nothing: such a crop is there for the distillation.
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

    def weigh(self, logits: Tensor, labels: Tensor) -> WeightedLoss:
        """logits: (batch, num_speakers); labels: (batch,). Cross entropy, each item weighted by its class."""
        losses = F.cross_entropy(logits, labels, reduction="none")
        weights = self.item_weights(labels)
        return WeightedLoss((losses * weights).sum(), weights.sum())

    def item_weights(self, labels: Tensor) -> Tensor:
        """What each item counts: the weight of its class. labels: (batch,) on any device; returns (batch,) there."""
        labelled = labels != UNLABELLED
        if self.class_weights is None:
            return labelled.float()
        return self.class_weights.to(labels.device)[labels * labelled] * labelled

    def check(self, labels: Tensor) -> None:
        """Raise `ValueError` for a label that is no speaker; on a GPU the look would stall it, and CUDA asserts."""
        if labels.is_cuda or torch.compiler.is_compiling():
            return
        strange = (labels < 0) | (labels >= self.num_speakers)
        if bool((strange & (labels != UNLABELLED)).any()):
            raise ValueError(
                f"Labels run from {int(labels.min())} to {int(labels.max())}: the objective knows speakers 0 to "
                f"{self.num_speakers - 1}; build it with the training set's number of speakers."
            )


class AAMSoftmax(SpeakerObjective):
    """Additive angular margin softmax (ArcFace, Deng et al., 2019), optionally with a penalty on the top k impostors.

    The target's logit is `scale * cos(theta + margin)`, and beyond theta + margin = pi its linear continuation, so
    that it keeps falling (the authors' newer code lost this). The `penalty_top_k` largest other cosines are read as
    `cos(theta - penalty_margin)`. Margin 0.2 and scale 30 are the paper's. With `sub_centres` a speaker has so many
    vectors and each crop is held against the nearest (sub-center ArcFace, Deng et al., 2020).

    embeddings (batch, embedding_size) and labels (batch,) in; `WeightedLoss` out. State: `weight`, the class vectors,
    which are centroids of the training speakers: kept for resuming, never published.
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

    def forward(self, embeddings: Tensor, labels: Tensor) -> WeightedLoss:
        """Weighted cross entropy of the margin logits."""
        self.check(labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
            cosine = cosine.unflatten(1, (self.num_speakers, self.sub_centres)).amax(2)
            return self.weigh(self.scale * self._with_margins(cosine, labels), labels)

    def _with_margins(self, cosine: Tensor, labels: Tensor) -> Tensor:
        # The floor keeps the gradient of the root finite at cosine 1.
        sine = (1.0 - cosine.square()).clamp(min=1e-7).sqrt()
        is_target = F.one_hot(labels * (labels != UNLABELLED), self.num_speakers).bool()
        result = cosine
        if self.penalty_top_k:
            others = cosine.masked_fill(is_target, float("-inf"))
            top = others.topk(self.penalty_top_k, dim=1).indices
            nearer = cosine * math.cos(self.penalty_margin) + sine * math.sin(self.penalty_margin)
            result = result.scatter(1, top, nearer.gather(1, top))
        margined = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(math.pi - self.margin)
        margined = torch.where(cosine > math.cos(math.pi - self.margin), margined, beyond)
        return torch.where(is_target, margined, result)


class LinearSoftmax(SpeakerObjective):
    """A linear classifier on the embedding with plain cross entropy: the recipes of the authors' repository."""

    def __init__(self, embedding_size: int, num_speakers: int, weights: Tensor | None = None) -> None:
        super().__init__(num_speakers, weights)
        self.classifier = nn.Linear(embedding_size, num_speakers)

    def forward(self, embeddings: Tensor, labels: Tensor) -> WeightedLoss:
        """embeddings: (batch, embedding_size); labels: (batch,)."""
        self.check(labels)
        return self.weigh(self.classifier(embeddings).float(), labels)


class KDObjective(nn.Module):
    """Pulls the student's kd path towards chosen hidden states of the teacher.

    `target_layers`: indices into the teacher's hidden states, 0 the input of its first layer; the teacher is computed
    no deeper than the last of them. `forward(student_states, teacher_states)` takes all n + 1 student states and the
    teacher's at `target_layers`, each (batch, frames, hidden).
    """

    def __init__(self, target_layers: Sequence[int]) -> None:
        super().__init__()
        self.target_layers = list(target_layers)

    @staticmethod
    def over_items(per_item: Tensor) -> WeightedLoss:
        """per_item: (batch,)."""
        # Filled on the device: a number that is copied there would make the step wait for the host.
        return WeightedLoss(per_item.sum(), per_item.new_full((), float(len(per_item))))


class LastLayerMSE(KDObjective):
    """`scale` times the mean squared error of the last hidden states: the paper's objective, scale 100."""

    def __init__(self, teacher_depth: int, scale: float = 100.0) -> None:
        super().__init__([teacher_depth])
        self.scale = scale

    def forward(self, student_states: Sequence[Tensor], teacher_states: Sequence[Tensor]) -> WeightedLoss:
        """Raises `ValueError` when student and teacher differ in width or frame rate."""
        student, (teacher,) = student_states[-1], teacher_states
        if student.shape != teacher.shape:
            raise ValueError(
                f"last_layer_mse was given {tuple(student.shape)} of the student and {tuple(teacher.shape)} of the "
                "teacher: use layerwise_heads or layerwise_projection between unequal widths or frame rates."
            )
        return self.over_items(self.scale * (student.float() - teacher.float()).square().mean((1, 2)))


class FrameMatch(NamedTuple):
    """How a student's frames lie over its teacher's.

    ratio: teacher frames that a student frame stands for. surplus: by how many teacher frames the stretch of audio
    that a student frame hears is longer than a teacher frame's; None: by what the ratio brings, as after a
    convolution of time reduction.
    """

    ratio: int = 1
    surplus: float | None = None

    @property
    def beyond(self) -> float:
        """The surplus as a number."""
        return self.ratio - 1 if self.surplus is None else self.surplus

    @property
    def equal(self) -> bool:
        """Whether frame for frame stands for the same stretch of audio."""
        return self.ratio == 1 and self.beyond == 0


class FrameUpsampling(nn.Module):
    """From a student's frame rate back to the teacher's (FitHuBERT, Lee et al., 2022).

    Where other strides make frames hear longer stretches, there are fewer of them: frames are held against those with
    the same middle, and the first and the last stand in for those that are missing.
    """

    def __init__(self, width: int, stride: int, surplus: float | None = None) -> None:
        super().__init__()
        self.match = FrameMatch(stride, surplus)
        self.stride = stride
        self.convolution = nn.ConvTranspose1d(width, width, kernel_size=stride, stride=stride) if stride > 1 else None

    def forward(self, hidden_states: Tensor, frames: int) -> Tensor:
        """hidden_states: (batch, fewer frames, width). Returns (batch, frames, width).

        Raises `ValueError` when student and teacher cannot have heard the same audio.
        """
        beyond, missing = self.match.beyond, frames - hidden_states.shape[1] * self.stride
        if not beyond - self.stride < missing < beyond + 1:
            raise ValueError(
                f"{hidden_states.shape[1]} student frames times {self.stride} do not reach the teacher's {frames}: "
                "give the student a time_reduction that divides the teacher's frame rate."
            )
        lead = round((beyond - (self.stride - 1)) / 2)
        upsampled = hidden_states
        if self.convolution is not None:
            size = hidden_states.shape[1] * self.stride + min(max(missing - lead, 0), self.stride - 1)
            upsampled = self.convolution(hidden_states.transpose(1, 2), output_size=[size]).transpose(1, 2)
        if lead == 0 and upsampled.shape[1] == frames:
            return upsampled
        places = torch.arange(frames, device=upsampled.device) - lead
        return upsampled[:, places.clamp(0, upsampled.shape[1] - 1)]


def _upsampling(width: int, match: FrameMatch) -> FrameUpsampling | None:
    """None where frames lie on frames."""
    return None if match.equal else FrameUpsampling(width, *match)


class LayerwiseHeads(KDObjective):
    """A small prediction head on the student's last state for each target layer (DistilHuBERT, Chang et al., 2022).

    Per target: the mean absolute difference minus `cos_lambda` times the log-sigmoid of the cosine, over frames by
    `reduction`: "mean", or the authors' "sum", which makes this term hundreds of times the speaker loss.
    time_reduction, surplus: ratio and surplus of `FrameMatch`.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        target_layers: Sequence[int],
        cos_lambda: float = 1.0,
        reduction: str = "mean",
        time_reduction: int = 1,
        surplus: float | None = None,
    ) -> None:
        super().__init__(target_layers)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction is '{reduction}': use mean or sum.")
        self.cos_lambda, self.reduction = cos_lambda, reduction
        self.upsampling = _upsampling(student_width, FrameMatch(time_reduction, surplus))
        self.predictors = nn.ModuleList(
            nn.Sequential(nn.Linear(student_width, teacher_width), nn.GELU(), nn.Linear(teacher_width, teacher_width))
            for _ in self.target_layers
        )

    def forward(self, student_states: Sequence[Tensor], teacher_states: Sequence[Tensor]) -> WeightedLoss:
        """student_states: all of the kd path; teacher_states: those at `target_layers`."""
        student = student_states[-1]
        if self.upsampling is not None:
            student = self.upsampling(student, teacher_states[0].shape[1])
        per_item = torch.zeros(len(student), device=student.device)
        for predict, target in zip(self.predictors, teacher_states, strict=True):
            prediction, target = predict(student).float(), target.float()
            similarity = F.logsigmoid(F.cosine_similarity(prediction, target, dim=-1))
            similarity = similarity.mean(1) if self.reduction == "mean" else similarity.sum(1)
            per_item = per_item + (prediction - target).abs().mean((1, 2)) - self.cos_lambda * similarity
        return self.over_items(per_item)


class LayerwiseProjection(KDObjective):
    """Each student layer, projected to the teacher's width and frame rate, against a teacher layer of its own.

    Mean squared error; all but the last layer times `hint_lambda` (FitHuBERT, Lee et al., 2022).
    time_reduction, surplus: ratio and surplus of `FrameMatch`.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        target_layers: Sequence[int],
        hint_lambda: float = 0.1,
        time_reduction: int = 1,
        surplus: float | None = None,
    ) -> None:
        super().__init__(target_layers)
        self.hint_lambda = hint_lambda
        match = FrameMatch(time_reduction, surplus)
        self.upsampling = nn.ModuleList(
            FrameUpsampling(student_width, *match) for _ in self.target_layers if not match.equal
        )
        self.projections = nn.ModuleList(nn.Linear(student_width, teacher_width) for _ in self.target_layers)

    def project(self, student_states: Sequence[Tensor], frames: int) -> list[Tensor]:
        """Student layers 1 to n as (batch, frames, teacher_width)."""
        states = list(student_states[1:])
        if len(states) != len(self.projections):
            raise ValueError(
                f"layerwise_projection has {len(self.projections)} target layers for {len(states)} student layers: "
                "name one teacher layer for each."
            )
        if len(self.upsampling):
            states = [up(state, frames) for up, state in zip(self.upsampling, states, strict=True)]
        return [project(state) for project, state in zip(self.projections, states, strict=True)]

    def forward(self, student_states: Sequence[Tensor], teacher_states: Sequence[Tensor]) -> WeightedLoss:
        """student_states: all of the kd path; teacher_states: those at `target_layers`."""
        return self.compare(self.project(student_states, teacher_states[0].shape[1]), teacher_states)

    def compare(self, projected: Sequence[Tensor], teacher_states: Sequence[Tensor]) -> WeightedLoss:
        """Both: one (batch, frames, teacher_width) a student layer."""
        per_item = torch.zeros(len(projected[0]), device=projected[0].device)
        last = len(projected) - 1
        for index, (own, target) in enumerate(zip(projected, teacher_states, strict=True)):
            factor = 1.0 if index == last else self.hint_lambda
            per_item = per_item + factor * (own.float() - target.float()).square().mean((1, 2))
        return self.over_items(per_item)


class FrontEndDistillation(nn.Module):
    """Pulls the student's convolutions towards the teacher's, through a projection to their width and frame rate.

    Both read their convolutions through a LayerNorm, so what that makes of them is compared, without its gain: the
    mean squared error then has one scale whatever the teacher, 1 for a projection that says nothing. `weight` is the
    factor on it inside kd_loss.
    """

    def __init__(
        self, student_width: int, teacher_width: int, weight: float = 1.0, match: FrameMatch | None = None
    ) -> None:
        super().__init__()
        self.weight = weight
        self.upsampling = _upsampling(student_width, match or FrameMatch())
        self.projection = nn.Linear(student_width, teacher_width)

    def forward(self, features: Tensor, target: Tensor) -> WeightedLoss:
        """features: (batch, student_width, frames); target: (batch, teacher_width, frames of the teacher)."""
        own = F.layer_norm(features.transpose(1, 2), features.shape[1:2])
        if self.upsampling is not None:
            own = self.upsampling(own, target.shape[2])
        wanted = F.layer_norm(target.transpose(1, 2).float(), target.shape[1:2])
        return KDObjective.over_items(self.weight * (self.projection(own).float() - wanted).square().mean((1, 2)))


class Objectives(nn.Module):
    """Both objectives of a run: what `objectives.safetensors` of a checkpoint holds.

    `kd` is None in fine-tuning alone, `speaker` in distillation alone, the first of two steps; `front_end` is a
    further part of kd_loss, None without one. Raises `ValueError` without a loss.
    """

    def __init__(
        self,
        speaker: SpeakerObjective | None,
        kd: KDObjective | None = None,
        front_end: FrontEndDistillation | None = None,
    ) -> None:
        super().__init__()
        if speaker is None and kd is None:
            raise ValueError("speaker_objective is 'none' and kd_weight 0: nothing would learn; set one of them.")
        self.speaker = speaker
        self.kd = kd
        self.front_end = front_end
