"""From what a recipe says to the objectives of its run."""

import math
from collections.abc import Sequence

from transformers import PreTrainedConfig

from ..model.configuration_oskdft import frame_ratio
from ..model.modeling_oskdft import OSKDFTForXVector, receptive_field
from ..student.initialization import thirds
from .arguments import ObjectiveArguments
from .objectives.objectives import (
    AAMSoftmax,
    FrameMatch,
    FrontEndDistillation,
    KDObjective,
    LastLayerMSE,
    LayerwiseHeads,
    LayerwiseProjection,
    LinearSoftmax,
    Objectives,
    SpeakerObjective,
    class_weights,
)


def build_objectives(
    arguments: ObjectiveArguments,
    student: OSKDFTForXVector,
    utterance_counts: Sequence[int],
    teacher_config: PreTrainedConfig | None,
) -> Objectives:
    """The objectives that a recipe asks for.

    utterance_counts: utterances of each class. teacher_config: of the encoder, or None when `kd_weight` is 0.
    """
    speaker = _speaker_objective(arguments, student.config.embedding_size, utterance_counts)
    if not arguments.kd_weight:
        if arguments.front_end_kd_lambda:
            raise ValueError(
                f"front_end_kd_lambda is {arguments.front_end_kd_lambda} with kd_weight 0: it is a part of kd_loss; "
                "set kd_weight as well."
            )
        return Objectives(speaker)
    if teacher_config is None:
        raise ValueError(f"kd_weight is {arguments.kd_weight} without a teacher: name one, or set kd_weight to 0.")
    kd = _kd_objective(arguments, student, teacher_config)
    return Objectives(speaker, kd, _front_end_distillation(arguments, student, teacher_config))


def frame_match(student: PreTrainedConfig, teacher: PreTrainedConfig, time_reduction: int = 1) -> FrameMatch:
    """How the frames of two encoders lie over each other, from their kernels and strides.

    Raises `ValueError` where a student's frame is no whole number of the teacher's.
    """
    ratio = frame_ratio(student, teacher, time_reduction)
    longer = receptive_field(student, time_reduction) - receptive_field(teacher)
    return FrameMatch(ratio, longer / math.prod(teacher.conv_stride))


def _speaker_objective(
    arguments: ObjectiveArguments, embedding_size: int, counts: Sequence[int]
) -> SpeakerObjective | None:
    if arguments.speaker_objective == "none":
        return None
    weights = class_weights(counts, arguments.class_weight_cap) if arguments.class_weight_cap else None
    if arguments.speaker_objective == "linear_softmax":
        return LinearSoftmax(embedding_size, len(counts), weights)
    if arguments.speaker_objective != "aam_softmax":
        raise ValueError(
            f"speaker_objective is '{arguments.speaker_objective}': use aam_softmax, linear_softmax or none."
        )
    return AAMSoftmax(
        embedding_size,
        len(counts),
        arguments.margin,
        arguments.scale,
        weights,
        arguments.penalty_top_k,
        arguments.penalty_margin,
        arguments.sub_centres,
    )


def _kd_objective(
    arguments: ObjectiveArguments, student: OSKDFTForXVector, teacher_config: PreTrainedConfig
) -> KDObjective:
    config = student.config.encoder_config
    depth, widths = teacher_config.num_hidden_layers, (config.hidden_size, teacher_config.hidden_size)
    match = frame_match(config, teacher_config, student.config.time_reduction)
    targets = arguments.kd_target_layers or thirds(depth)
    if arguments.kd_objective == "last_layer_mse":
        if arguments.kd_target_layers not in (None, [depth]):
            raise ValueError(
                f"kd_target_layers is {arguments.kd_target_layers} with last_layer_mse, whose target is the last "
                f"state, {depth}: leave it out, or use layerwise_heads."
            )
        if widths[0] != widths[1] or not match.equal:
            raise ValueError(
                f"kd_objective is last_layer_mse for a student of width {widths[0]}, {match.ratio} teacher frames a "
                f"frame, and a teacher of width {widths[1]}: use layerwise_heads or layerwise_projection between "
                "unequal widths or frame rates."
            )
        return LastLayerMSE(depth, arguments.mse_scale)
    if arguments.kd_objective == "layerwise_heads":
        return LayerwiseHeads(*widths, targets, arguments.cos_lambda, arguments.kd_reduction, *match)
    if arguments.kd_objective == "layerwise_projection":
        targets = arguments.kd_target_layers or list(range(1, config.num_hidden_layers + 1))
        return LayerwiseProjection(*widths, targets, arguments.hint_lambda, *match)
    raise ValueError(
        f"kd_objective is '{arguments.kd_objective}': use last_layer_mse, layerwise_heads or layerwise_projection."
    )


def _front_end_distillation(
    arguments: ObjectiveArguments, student: OSKDFTForXVector, teacher_config: PreTrainedConfig
) -> FrontEndDistillation | None:
    """The student's convolutions are compared before time reduction: it is they that are to learn."""
    if not arguments.front_end_kd_lambda:
        return None
    own = student.config.encoder_config
    match = frame_match(own, teacher_config)
    return FrontEndDistillation(own.conv_dim[-1], teacher_config.conv_dim[-1], arguments.front_end_kd_lambda, match)
