"""Assemble a trainer from a student, crops, a teacher and the fields of both losses."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, SequenceFeatureExtractor, TrainerCallback

from ..data.crops import CropCollator, CropDataset, features_of
from ..data.texts import TextCollator, TextDataset
from ..model.modeling_tasks_oskdft import Student
from .columns import ColumnDataset
from .identity import config_digest
from .joint_model import JointModel, SpecMask
from .objectives.building import ObjectiveArguments, build_objectives
from .refusals import refuse_run
from .speech_encoders import fit_to_crops
from .teacher import Teacher, same_convolutions
from .trainer import OSKDFTTrainer
from .training_arguments import OSKDFTTrainingArguments
from .validation import TrialDataset
from .verifiers import VerifierTeacher

# Fields of a feature extractor that change nothing in features of crops of one length.
WITHOUT_EFFECT = ("return_attention_mask", "processor_class", "padding_side")


def assemble_trainer(
    student: Student,
    args: OSKDFTTrainingArguments,
    crops: CropDataset,
    feature_extractor: SequenceFeatureExtractor,
    objective_arguments: ObjectiveArguments,
    teacher: PreTrainedModel | None = None,
    validation: TrialDataset | ColumnDataset | None = None,
    spec_mask: SpecMask | None = None,
    teacher_hears: str = "clean",
    callbacks: Sequence[TrainerCallback] | None = None,
    verifiers: Sequence[tuple[PreTrainedModel, SequenceFeatureExtractor]] = (),
    teacher_extractor: SequenceFeatureExtractor | None = None,
) -> OSKDFTTrainer:
    """Build objectives, joint model, collator and teachers, and the trainer of them.

    Args:
        student: as `init_student_from_teacher` returns it.
        args: settings of the training.
        crops: training crops; their speakers are the classes.
        feature_extractor: of the student.
        objective_arguments: fields of both losses.
        teacher: the encoder; None without distillation of hidden states. It is frozen and cut in place.
        validation: trials or recordings that select the best checkpoint; None for a run without evaluation.
        spec_mask: masks the head's input.
        teacher_hears: "clean" crops (the paper), or "augmented" ones, which are the student's.
        callbacks: further callbacks.
        verifiers: models whose embeddings the student learns, each with its feature extractor. They are frozen.
        teacher_extractor: feature extractor of the teacher; None for the student's.

    Raises:
        ValueError: for settings with which a run cannot work.
    """
    dtype = torch.bfloat16 if args.teacher_in_bfloat16 else torch.float32
    views = Views(feature_extractor)
    frozen = [VerifierTeacher(model, dtype, views.index_of(extractor)) for model, extractor in verifiers]
    config = None if teacher is None else teacher.config
    sizes = [verifier.embedding_size for verifier in frozen]
    objectives = build_objectives(objective_arguments, student, crops.utterances_of_classes(), config, sizes)
    joint = JointModel(student, objectives, args.freeze, spec_mask)
    refuse_run(args, joint, crops, teacher is not None, len(frozen))  # before the teacher is cut
    noise = [np.random.default_rng(0).normal(0, 0.1, crops.num_samples).astype(np.float32)]
    for verifier, (_, extractor) in zip(frozen, verifiers, strict=True):
        verifier.check(features_of(extractor, noise))
    reads_texts = isinstance(crops, TextDataset)
    frozen_teacher = None
    if teacher is not None and objectives.kd is not None:
        view = None if teacher_extractor is None else views.index_of(teacher_extractor)
        if reads_texts and view is not None:
            raise ValueError(
                f"The feature extractor of the teacher, a {teacher.config.model_type}, gives other features than the "
                "student's: with text_column both must read the same; use a teacher that normalises samples as the "
                "student does."
            )
        same_input = view is None and not reads_texts and (crops.augmentation is None or teacher_hears == "augmented")
        fit_to_crops(teacher, crops.num_samples)
        frozen_teacher = freeze_teacher(teacher, joint, args, same_input, view)
        frozen_teacher.check(features_of(teacher_extractor or feature_extractor, noise), crops.num_samples)
    return OSKDFTTrainer(
        joint,
        args,
        (TextCollator if reads_texts else CropCollator)(feature_extractor, teacher_hears, views.others),
        crops,
        validation,
        feature_extractor,
        teacher=frozen_teacher,
        callbacks=callbacks,
        verifiers=frozen,
    )


class Views:
    """The feature extractors of a run, each once, so that a crop is prepared once for all teachers that agree.

    Args:
        feature_extractor: of the student.
    """

    def __init__(self, feature_extractor: SequenceFeatureExtractor) -> None:
        self.own = config_digest(feature_extractor, WITHOUT_EFFECT)
        self.digests: list[str] = []
        self.others: list[SequenceFeatureExtractor] = []

    def index_of(self, feature_extractor: SequenceFeatureExtractor) -> int | None:
        """Return the place of an extractor among the others; None for one that does as the student's does."""
        digest = config_digest(feature_extractor, WITHOUT_EFFECT)
        if digest == self.own:
            return None
        if digest not in self.digests:
            self.digests.append(digest)
            self.others.append(feature_extractor)
        return self.digests.index(digest)


def freeze_teacher(
    model: PreTrainedModel,
    joint: JointModel,
    args: OSKDFTTrainingArguments,
    same_input: bool,
    view: int | None = None,
) -> Teacher:
    """Freeze and cut a teacher for the distillation objective of a joint model.

    Args:
        model: the teacher's encoder, changed in place.
        joint: the joint model, with distillation of hidden states.
        args: settings of the training.
        same_input: whether teacher and student have the same input. A student with the same frozen convolutions then
            reads the teacher's output of them.
        view: see `Teacher`.
    """
    objectives = joint.objectives
    assert objectives.kd is not None
    convolutions = getattr(model, "feature_extractor", None)
    shared = (
        args.freeze == "feature_encoder"
        and same_input
        and isinstance(convolutions, nn.Module)
        and same_convolutions(joint.student, convolutions)
    )
    student_dtype = torch.bfloat16 if args.bf16 else torch.float32
    dtype = torch.bfloat16 if args.teacher_in_bfloat16 else torch.float32
    conv_target = objectives.front_end is not None
    return Teacher(model, objectives.kd.target_layers, dtype, student_dtype if shared else None, conv_target, view)
