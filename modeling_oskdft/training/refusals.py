"""Refuse runs that cannot work, before they begin."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..data.crops import CropDataset
from ..data.texts import TextDataset
from ..model.modeling_oskdft import feature_lengths, shortest_input
from ..model.modeling_tasks_oskdft import Student
from .joint_model import JointModel
from .objectives.frames import FrameMatch
from .schedules import Clock
from .training_arguments import OSKDFTTrainingArguments

# Arguments of transformers' Trainer without effect on ours, and what has their effect.
WITHOUT_EFFECT = {
    "compute_metrics": "EER and minDCF are measured; call evaluate with a manifest of your own, or a callback",
    "compute_loss_func": "the losses are those of the joint model's objectives",
    "preprocess_logits_for_metrics": "nothing is gathered but embeddings",
    "optimizers": "the optimiser is Adam over three groups; set learning_rate, its multipliers and weight_decay",
    "optimizer_cls_and_kwargs": "the optimiser is Adam; set learning_rate, its multipliers and weight_decay",
}


def refuse_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of transformers' Trainer that would have no effect.

    Raises:
        ValueError: for such an argument that is set.
        TypeError: for an argument that does not exist.
    """
    for name, value in arguments.items():
        if name not in WITHOUT_EFFECT:
            raise TypeError(f"OSKDFTTrainer has no argument '{name}': see help(OSKDFTTrainer).")
        if value is not None and value != (None, None):
            raise ValueError(f"{name} was given to OSKDFTTrainer, which would not read it: {WITHOUT_EFFECT[name]}.")


def refuse_peft(student: Student) -> None:
    """Refuse a student with an adapter of PEFT, which a checkpoint could not hold.

    Raises:
        ValueError: for such a student.
    """
    if getattr(student, "_hf_peft_config_loaded", False) or hasattr(student, "peft_config"):
        raise ValueError(
            "The student carries an adapter of PEFT, which a checkpoint could not hold: merge it first, or train it "
            "with PEFT (examples/adapt_to_site.py)."
        )


def refuse_another_length(num_training_steps: int, clock: Clock) -> None:
    """Refuse a run whose steps transformers counts in another way than the schedules.

    Raises:
        ValueError: naming both numbers.
    """
    if num_training_steps != clock.steps:
        raise ValueError(
            f"The run has {num_training_steps} steps and its schedules {clock.steps}: leave accelerator_config as it "
            "is."
        )


def refuse_parts(
    args: OSKDFTTrainingArguments, joint: JointModel, crops: CropDataset, has_teacher: bool, verifiers: int = 0
) -> None:
    """Refuse a joint model, crops and settings that do not belong together.

    Raises:
        ValueError: naming the part.
    """
    objectives = joint.objectives
    if objectives.kd is not None and not has_teacher:
        raise ValueError("The joint model has a distillation objective and no teacher was given: give teacher=….")
    if (objectives.embedding is not None) != bool(verifiers):
        raise ValueError(
            f"{verifiers} verifiers were given to a joint model {'with' if objectives.embedding else 'without'} "
            "distillation of embeddings: give both, or neither."
        )
    if joint.freeze != args.freeze:
        raise ValueError(
            f"freeze is '{args.freeze}' and the joint model was built with '{joint.freeze}': give one value."
        )
    if crops.seed != args.seed:
        raise ValueError(f"seed is {args.seed} and the crops were built with {crops.seed}: give one seed.")
    classes = len(crops.utterances_of_classes())
    if objectives.speaker is not None and objectives.speaker.num_speakers != classes:
        raise ValueError(
            f"The speaker objective has {objectives.speaker.num_speakers} classes and the crops have {classes}: build "
            "it with crops.utterances_of_classes()."
        )


def refuse_other_targets(joint: JointModel, targets: list[int] | None) -> None:
    """Refuse a joint model whose objective reads other hidden states than the teacher gives.

    Raises:
        ValueError: naming both.
    """
    kd = joint.objectives.kd
    if kd is not None and targets is not None and kd.target_layers != targets:
        raise ValueError(
            f"The objective reads the teacher's hidden states {kd.target_layers} and the teacher gives {targets}: "
            "build both with the same target_layers."
        )


def refuse_texts(joint: JointModel, crops: TextDataset) -> None:
    """Refuse texts with more letters than their recordings have frames, and losses that read crops of one length.

    Raises:
        ValueError: naming the recording or the field.
    """
    objectives = joint.objectives
    for name, loss in (("front_end_kd_lambda", objectives.front_end), ("embedding_teachers", objectives.embedding)):
        if loss is not None:
            raise ValueError(f"{name} is set with text_column: it reads crops of one length; leave it out.")
    match = FrameMatch() if objectives.kd is None else objectives.kd.match
    if match.input_surplus != match.ratio - 1:
        raise ValueError(
            "front_end_stride is set with text_column and a distillation: frames of the padding could not be told "
            "from those of a recording; leave it out, or set time_reduction."
        )
    config = joint.student.config
    columns = (crops.manifest.column(name) for name in ("utterance_id", "num_samples"))
    for name, samples, needed in zip(*columns, crops.frames_needed, strict=True):
        if samples < shortest_input(config):
            raise ValueError(
                f"'{name}' has {samples} samples: one frame needs {shortest_input(config)}; leave the recording out."
            )
        frames = feature_lengths(config, int(samples))
        if frames < needed:
            raise ValueError(
                f"The text of '{name}' needs {needed} frames and its recording has {frames}: correct the text, leave "
                "the recording out, or give the student a lower time_reduction."
            )


def refuse_run(
    args: OSKDFTTrainingArguments, joint: JointModel, crops: CropDataset, has_teacher: bool, verifiers: int = 0
) -> None:
    """Refuse settings with which a run cannot work.

    Args:
        args: settings of the training.
        joint: student and objectives.
        crops: training crops.
        has_teacher: whether a teacher was given.
        verifiers: number of verifiers that were given.

    Raises:
        ValueError: naming the setting.
    """
    refuse_peft(joint.student)
    refuse_parts(args, joint, crops, has_teacher, verifiers)
    objectives = joint.objectives
    distils = objectives.kd is not None or objectives.embedding is not None
    if crops.has_unlabelled and not (distils and objectives.speaker):
        raise ValueError(
            "Some crops have no label, by labelled_fraction or by an empty label_column or text_column, and the run "
            "does not have both losses: crops without labels are for the distillation; set kd_weight, and a "
            "speaker_objective that reads the labels."
        )
    if not objectives.train_head and args.eval_strategy != "no":
        raise ValueError(
            f"speaker_objective is 'none' with eval_strategy '{args.eval_strategy}': a head that does not learn "
            "has no error rate; set eval_strategy to no."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"This process sees {args.n_gpu} GPUs: start one process for each with accelerate launch, or hide all "
            "but one with CUDA_VISIBLE_DEVICES=0."
        )
    has_batch_norm = any(isinstance(module, nn.BatchNorm1d) for module in joint.student.head.modules())
    if args.per_device_train_batch_size < 2 and has_batch_norm:
        raise ValueError("per_device_train_batch_size is 1: the head's batch norm needs at least 2 crops.")
    if crops.num_samples < shortest_input(joint.student.config):
        raise ValueError(
            f"A crop has {crops.num_samples} samples: one frame needs {shortest_input(joint.student.config)} samples "
            "at 16 kHz; raise crop_seconds."
        )
    if isinstance(crops, TextDataset):
        refuse_texts(joint, crops)
    if objectives.gates is not None:
        for name, value, wanted in (("freeze", args.freeze, "none"), ("ema_decay", args.ema_decay, 0.0)):
            if value != wanted:
                raise ValueError(f"{name} is {value} with gate_target: gates need {wanted}; leave {name} out.")
        if isinstance(crops, TextDataset):
            raise ValueError("gate_target is set with text_column: gates are learned on crops of one length.")
    batch = args.per_device_train_batch_size * args.world_size
    if len(crops) < batch:
        raise ValueError(
            f"The training set has {len(crops)} utterances and a batch takes {batch}: lower "
            "per_device_train_batch_size."
        )
