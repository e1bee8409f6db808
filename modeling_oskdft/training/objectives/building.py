"""Build the objectives of a run from the fields of a recipe."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from transformers import PreTrainedConfig

from ...errors import choose
from ...model.modeling_tasks_oskdft import Student
from ...student.initialization import thirds
from ..gates import Gates
from ..ranges import ABOVE_0, AT_LEAST_0, AT_LEAST_1, Range, check_choices, check_ranges
from ..schedules import KD_SCHEDULES
from .distillation import FrontEndDistillation, KDObjective, LastLayerMSE, LayerwiseHeads, LayerwiseProjection
from .embeddings import EMBEDDING_PATHS, EmbeddingDistillation
from .frames import frame_match
from .letters import LetterCTC
from .objectives import Objectives
from .speaker import AAMSoftmax, ClassSoftmax, LinearSoftmax, TaskObjective, class_weights


def _no_speaker_objective(arguments: "ObjectiveArguments", embedding_size: int, counts: Sequence[int]) -> None:
    return None


def _linear_softmax(arguments: "ObjectiveArguments", embedding_size: int, counts: Sequence[int]) -> LinearSoftmax:
    weights = class_weights(counts, arguments.class_weight_cap) if arguments.class_weight_cap else None
    return LinearSoftmax(embedding_size, len(counts), weights)


def _class_softmax(arguments: "ObjectiveArguments", embedding_size: int, counts: Sequence[int]) -> ClassSoftmax:
    weights = class_weights(counts, arguments.class_weight_cap) if arguments.class_weight_cap else None
    return ClassSoftmax(len(counts), weights)


def _letter_ctc(arguments: "ObjectiveArguments", embedding_size: int, counts: Sequence[int]) -> LetterCTC:
    return LetterCTC(len(counts))


def _aam_softmax(arguments: "ObjectiveArguments", embedding_size: int, counts: Sequence[int]) -> AAMSoftmax:
    return AAMSoftmax(
        embedding_size,
        len(counts),
        arguments.margin,
        arguments.scale,
        class_weights(counts, arguments.class_weight_cap) if arguments.class_weight_cap else None,
        arguments.penalty_top_k,
        arguments.penalty_margin,
        arguments.sub_centres,
    )


def _last_layer_mse(
    arguments: "ObjectiveArguments", student: Student, teacher_config: PreTrainedConfig
) -> LastLayerMSE:
    encoder, depth = student.config.encoder_config, teacher_config.num_hidden_layers
    match = frame_match(encoder, teacher_config, student.config.time_reduction)
    if arguments.kd_target_layers not in (None, [depth]):
        raise ValueError(
            f"kd_target_layers is {arguments.kd_target_layers} with last_layer_mse, whose target is the last state, "
            f"{depth}: leave it out, or use layerwise_heads."
        )
    if encoder.hidden_size != teacher_config.hidden_size or not match.equal:
        raise ValueError(
            f"kd_objective is last_layer_mse for a student of width {encoder.hidden_size}, {match.ratio} teacher "
            f"frames a frame, and a teacher of width {teacher_config.hidden_size}: use layerwise_heads or "
            "layerwise_projection between unequal widths or frame rates."
        )
    return LastLayerMSE(depth, arguments.mse_scale)


def _layerwise_heads(
    arguments: "ObjectiveArguments", student: Student, teacher_config: PreTrainedConfig
) -> LayerwiseHeads:
    encoder = student.config.encoder_config
    match = frame_match(encoder, teacher_config, student.config.time_reduction)
    targets = arguments.kd_target_layers or thirds(teacher_config.num_hidden_layers)
    widths = (encoder.hidden_size, teacher_config.hidden_size)
    return LayerwiseHeads(*widths, targets, arguments.cos_lambda, arguments.kd_reduction, match)


def _layerwise_projection(
    arguments: "ObjectiveArguments", student: Student, teacher_config: PreTrainedConfig
) -> LayerwiseProjection:
    encoder = student.config.encoder_config
    match = frame_match(encoder, teacher_config, student.config.time_reduction)
    targets = arguments.kd_target_layers or list(range(1, encoder.num_hidden_layers + 1))
    return LayerwiseProjection(encoder.hidden_size, teacher_config.hidden_size, targets, arguments.hint_lambda, match)


def _front_end_distillation(
    arguments: "ObjectiveArguments", student: Student, teacher_config: PreTrainedConfig
) -> FrontEndDistillation | None:
    """Build the term on the convolutions. It reads the frames before time reduction, which the convolutions make."""
    if not arguments.front_end_kd_lambda:
        return None
    encoder = student.config.encoder_config
    if not getattr(teacher_config, "conv_dim", None):
        raise ValueError(
            f"front_end_kd_lambda is {arguments.front_end_kd_lambda} with a {teacher_config.model_type} as teacher, "
            "which has no convolutions over samples: set front_end_kd_lambda to 0."
        )
    match = frame_match(encoder, teacher_config)
    return FrontEndDistillation(
        encoder.conv_dim[-1], teacher_config.conv_dim[-1], arguments.front_end_kd_lambda, match
    )


SPEAKER_BUILDERS: dict[str, Callable[["ObjectiveArguments", int, Sequence[int]], TaskObjective | None]] = {
    "aam_softmax": _aam_softmax,
    "linear_softmax": _linear_softmax,
    "class_softmax": _class_softmax,
    "ctc": _letter_ctc,
    "none": _no_speaker_objective,
}
KD_BUILDERS: dict[str, Callable[["ObjectiveArguments", Student, PreTrainedConfig], KDObjective]] = {
    "last_layer_mse": _last_layer_mse,
    "layerwise_heads": _layerwise_heads,
    "layerwise_projection": _layerwise_projection,
}
EMBEDDING = "embedding"  # the kd_objective that reads no hidden states
KD_OBJECTIVES = (*KD_BUILDERS, EMBEDDING)


@dataclass
class ObjectiveArguments:
    """Fields of both losses of the one step."""

    kd_objective: str = field(
        default="last_layer_mse", metadata={"help": "distillation loss, one of: " + ", ".join(KD_OBJECTIVES)}
    )
    kd_target_layers: list[int] | None = field(
        default=None,
        metadata={
            "help": "target hidden states of the teacher, 0 the input of layer 0 (default: by kd_objective the last, "
            "thirds, or all)"
        },
    )
    kd_weight: float = field(default=1.0, metadata={"help": "factor on kd_loss before its schedule; 0: no kd_loss"})
    kd_schedule: str = field(
        default="linear", metadata={"help": "change of kd_weight over the run, one of: " + ", ".join(KD_SCHEDULES)}
    )
    mse_scale: float = field(default=100.0, metadata={"help": "factor inside last_layer_mse (the paper's 100)"})
    cos_lambda: float = field(default=1.0, metadata={"help": "weight of the cosine term of layerwise_heads"})
    kd_reduction: str = field(default="mean", metadata={"help": "cosine term over frames: mean, or the authors' sum"})
    hint_lambda: float = field(
        default=0.1, metadata={"help": "layerwise_projection: weight of all layers but the last"}
    )
    front_end_kd_lambda: float = field(
        default=0.0, metadata={"help": "weight, in kd_loss, of the convolutions' own distillation; 0: none"}
    )
    embedding_kd_weight: float = field(
        default=0.0,
        metadata={"help": "factor on embedding_kd_loss, beside another kd_objective, before its schedule; 0: none"},
    )
    embedding_kd_schedule: str = field(
        default="constant",
        metadata={"help": "change of embedding_kd_weight over the run, one of: " + ", ".join(KD_SCHEDULES)},
    )
    embedding_kd_path: str = field(
        default="ft",
        metadata={"help": "path whose embedding is compared: ft, or kd through the same head"},
    )
    embedding_cosine: float = field(
        default=1.0, metadata={"help": "embedding_kd_loss: weight of the cosine to the verifiers' embedding"}
    )
    embedding_relations: float = field(
        default=1.0, metadata={"help": "embedding_kd_loss: weight of the cosines between the crops of a batch"}
    )
    speaker_objective: str = field(
        default="aam_softmax",
        metadata={
            "help": "loss of the labels, one of: "
            + ", ".join(SPEAKER_BUILDERS)
            + "; none for distillation alone, class_softmax with label_column, ctc with text_column"
        },
    )
    margin: float = field(default=0.2, metadata={"help": "angular margin of aam_softmax (the paper's 0.2)"})
    scale: float = field(default=30.0, metadata={"help": "scale of aam_softmax (the paper's 30)"})
    gate_target: float = field(
        default=0.0,
        metadata={"help": "share of the student's multiply-adds that gates, learned in the run, leave; 0: no gates"},
    )
    class_weight_cap: float = field(default=10.0, metadata={"help": "largest weight of a rare speaker; 0: no weights"})
    penalty_top_k: int = field(
        default=0, metadata={"help": "impostors that aam_softmax penalises, the nearest ones; 0: none"}
    )
    penalty_margin: float = field(default=0.1, metadata={"help": "angle of the penalty on impostors"})
    sub_centres: int = field(default=1, metadata={"help": "class vectors of a speaker in aam_softmax; 3 is usual"})

    RANGES: ClassVar[dict[str, Range]] = {
        **dict.fromkeys(
            ("kd_weight", "cos_lambda", "hint_lambda", "front_end_kd_lambda", "class_weight_cap"), AT_LEAST_0
        ),
        **dict.fromkeys(("embedding_kd_weight", "embedding_cosine", "embedding_relations"), AT_LEAST_0),
        **dict.fromkeys(("mse_scale", "scale"), ABOVE_0),
        **dict.fromkeys(("margin", "penalty_margin"), Range(0, math.pi / 2, high_open=True)),
        "gate_target": Range(0, 1, high_open=True),
        "penalty_top_k": AT_LEAST_0,
        "sub_centres": AT_LEAST_1,
    }
    CHOICES: ClassVar[dict[str, Collection[str]]] = {
        "kd_schedule": tuple(KD_SCHEDULES),
        "embedding_kd_schedule": tuple(KD_SCHEDULES),
        "embedding_kd_path": EMBEDDING_PATHS,
        "kd_objective": KD_OBJECTIVES,
        "speaker_objective": tuple(SPEAKER_BUILDERS),
    }

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        check_choices(self, self.CHOICES)

    @property
    def distil_states(self) -> bool:
        """Whether a loss reads hidden states of the teacher."""
        return self.kd_weight > 0 and self.kd_objective != EMBEDDING

    @property
    def distil_embeddings(self) -> bool:
        """Whether a loss reads embeddings of verifiers."""
        return self.embedding_kd_weight > 0 or (self.kd_weight > 0 and self.kd_objective == EMBEDDING)


def build_objectives(
    arguments: ObjectiveArguments,
    student: Student,
    utterance_counts: Sequence[int],
    teacher_config: PreTrainedConfig | None,
    verifier_sizes: Sequence[int] = (),
) -> Objectives:
    """Build the losses.

    Args:
        arguments: the fields of the recipe.
        student: the verifier that learns.
        utterance_counts: utterances of each class.
        teacher_config: configuration of the teacher's encoder; None without distillation of hidden states.
        verifier_sizes: embedding size of each verifier to learn from.

    Raises:
        ValueError: for fields that contradict each other, the student or the teacher.
    """
    speaker = choose("speaker_objective", arguments.speaker_objective, SPEAKER_BUILDERS)(
        arguments, student.config.embedding_size, utterance_counts
    )
    embedding = _embedding_distillation(arguments, student, verifier_sizes)
    kd, front_end = _distillation_of_states(arguments, student, teacher_config)
    if arguments.kd_objective == EMBEDDING:
        of_embedding = (arguments.kd_weight, arguments.kd_schedule)
    else:
        of_embedding = (arguments.embedding_kd_weight, arguments.embedding_kd_schedule)
    weight = arguments.kd_weight if kd is not None else 0.0
    gates = Gates(student, arguments.gate_target) if arguments.gate_target else None
    return Objectives(
        speaker, kd, front_end, weight, arguments.kd_schedule, asdict(arguments), embedding, *of_embedding, gates
    )


def _distillation_of_states(
    arguments: ObjectiveArguments, student: Student, teacher_config: PreTrainedConfig | None
) -> tuple[KDObjective | None, FrontEndDistillation | None]:
    if not arguments.distil_states:
        if arguments.front_end_kd_lambda:
            raise ValueError(
                f"front_end_kd_lambda is {arguments.front_end_kd_lambda} with kd_weight {arguments.kd_weight:g} and "
                f"kd_objective {arguments.kd_objective}: it is a part of the distillation of hidden states; set "
                "kd_weight and another kd_objective as well."
            )
        return None, None
    if teacher_config is None:
        raise ValueError(f"kd_weight is {arguments.kd_weight} without a teacher: name one, or set kd_weight to 0.")
    kd = KD_BUILDERS[arguments.kd_objective](arguments, student, teacher_config)
    return kd, _front_end_distillation(arguments, student, teacher_config)


def _embedding_distillation(
    arguments: ObjectiveArguments, student: Student, verifier_sizes: Sequence[int]
) -> EmbeddingDistillation | None:
    if arguments.kd_objective == EMBEDDING and arguments.embedding_kd_weight:
        raise ValueError(
            f"kd_objective is embedding and embedding_kd_weight {arguments.embedding_kd_weight:g}: its weight is "
            "kd_weight; leave embedding_kd_weight out."
        )
    if not arguments.distil_embeddings:
        if verifier_sizes:
            advice = "embedding_kd_weight, or kd_objective to embedding"
            wanted = "kd_weight above 0" if arguments.kd_objective == EMBEDDING else advice
            raise ValueError(f"embedding_teachers are named and no loss reads their embeddings: set {wanted}.")
        return None
    return EmbeddingDistillation(
        student.config.embedding_size,
        verifier_sizes,
        arguments.embedding_cosine,
        arguments.embedding_relations,
        arguments.embedding_kd_path,
    )
