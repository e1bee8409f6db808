"""Assemble a trainer from a student, crops, a teacher and the fields of both losses."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, SequenceFeatureExtractor, TrainerCallback

from ..data.crops import CropCollator, CropDataset
from ..model.modeling_oskdft import OSKDFTForXVector
from .identity import config_digest
from .joint_model import JointModel, SpecMask
from .objectives.building import ObjectiveArguments, build_objectives
from .refusals import refuse_run
from .teacher import Teacher, same_convolutions
from .trainer import OSKDFTTrainer
from .training_arguments import OSKDFTTrainingArguments
from .validation import TrialDataset
from .verifiers import VerifierTeacher


def assemble_trainer(
    student: OSKDFTForXVector,
    args: OSKDFTTrainingArguments,
    crops: CropDataset,
    feature_extractor: SequenceFeatureExtractor,
    objective_arguments: ObjectiveArguments,
    teacher: PreTrainedModel | None = None,
    validation: TrialDataset | None = None,
    spec_mask: SpecMask | None = None,
    teacher_hears: str = "clean",
    callbacks: Sequence[TrainerCallback] | None = None,
    verifiers: Sequence[tuple[PreTrainedModel, SequenceFeatureExtractor]] = (),
) -> OSKDFTTrainer:
    """Build objectives, joint model, collator and teachers, and the trainer of them.

    Args:
        student: as `init_student_from_teacher` returns it.
        args: settings of the training.
        crops: training crops; their speakers are the classes.
        feature_extractor: of the teacher, and of the student from now on.
        objective_arguments: fields of both losses.
        teacher: the encoder; None without distillation of hidden states. It is frozen and cut in place.
        validation: trials that select the best checkpoint; None for a run without evaluation.
        spec_mask: masks the head's input.
        teacher_hears: "clean" crops (the paper), or "augmented" ones, which are the student's.
        callbacks: further callbacks.
        verifiers: models whose embeddings the student learns, each with its feature extractor. They are frozen.

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
    same_input = crops.augmentation is None or teacher_hears == "augmented"
    return OSKDFTTrainer(
        joint,
        args,
        CropCollator(feature_extractor, teacher_hears, views.others),
        crops,
        validation,
        feature_extractor,
        teacher=None if teacher is None else freeze_teacher(teacher, joint, args, same_input),
        callbacks=callbacks,
        verifiers=frozen,
    )


class Views:
    """The feature extractors of a run, each once, so that a crop is prepared once for all teachers that agree.

    Args:
        feature_extractor: of the student.
    """

    def __init__(self, feature_extractor: SequenceFeatureExtractor) -> None:
        self.own = config_digest(feature_extractor)
        self.digests: list[str] = []
        self.others: list[SequenceFeatureExtractor] = []

    def index_of(self, feature_extractor: SequenceFeatureExtractor) -> int | None:
        """Return the place of an extractor among the others; None for one that does as the student's does."""
        digest = config_digest(feature_extractor)
        if digest == self.own:
            return None
        if digest not in self.digests:
            self.digests.append(digest)
            self.others.append(feature_extractor)
        return self.digests.index(digest)


def freeze_teacher(
    model: PreTrainedModel, joint: JointModel, args: OSKDFTTrainingArguments, same_input: bool
) -> Teacher | None:
    """Freeze and cut a teacher for the distillation objective of a joint model; None without one.

    Args:
        model: the teacher's encoder, changed in place.
        joint: the joint model.
        args: settings of the training.
        same_input: whether teacher and student have the same input. A student with the same frozen convolutions then
            reads the teacher's output of them.
    """
    objectives = joint.objectives
    if objectives.kd is None:
        return None
    shared = (
        args.freeze == "feature_encoder" and same_input and same_convolutions(joint.student, model.feature_extractor)
    )
    student_dtype = torch.bfloat16 if args.bf16 else torch.float32
    dtype = torch.bfloat16 if args.teacher_in_bfloat16 else torch.float32
    conv_target = objectives.front_end is not None
    return Teacher(model, objectives.kd.target_layers, dtype, student_dtype if shared else None, conv_target)
