"""From what a recipe says to the objectives of its run."""

from collections.abc import Sequence

from transformers import PreTrainedConfig

from ..modeling_oskdft import OSKDFTForXVector
from .arguments import ObjectiveArguments
from .initialization import thirds
from .objectives import (
    AAMSoftmax,
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
    kd = _kd_objective(arguments, student, teacher_config) if arguments.kd_weight else None
    return Objectives(_speaker_objective(arguments, student.config.embedding_size, utterance_counts), kd)


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
    arguments: ObjectiveArguments, student: OSKDFTForXVector, teacher_config: PreTrainedConfig | None
) -> KDObjective:
    if teacher_config is None:
        raise ValueError(f"kd_weight is {arguments.kd_weight} without a teacher: name one, or set kd_weight to 0.")
    config = student.config.encoder_config
    depth, widths = teacher_config.num_hidden_layers, (config.hidden_size, teacher_config.hidden_size)
    reduction = student.config.time_reduction
    targets = arguments.kd_target_layers or thirds(depth)
    if arguments.kd_objective == "last_layer_mse":
        if arguments.kd_target_layers not in (None, [depth]):
            raise ValueError(
                f"kd_target_layers is {arguments.kd_target_layers} with last_layer_mse, whose target is the last "
                f"state, {depth}: leave it out, or use layerwise_heads."
            )
        return LastLayerMSE(depth, arguments.mse_scale)
    if arguments.kd_objective == "layerwise_heads":
        return LayerwiseHeads(*widths, targets, arguments.cos_lambda, arguments.kd_reduction, reduction)
    if arguments.kd_objective == "layerwise_projection":
        targets = arguments.kd_target_layers or list(range(1, config.num_hidden_layers + 1))
        return LayerwiseProjection(*widths, targets, arguments.hint_lambda, reduction)
    raise ValueError(
        f"kd_objective is '{arguments.kd_objective}': use last_layer_mse, layerwise_heads or layerwise_projection."
    )
