"""Record the settings that decide a run in its checkpoints, and compare them when it resumes."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ..audio.augmentation import WaveformAugmentation
from ..audio.loading import SAMPLING_RATE
from ..data.crops import SPEAKERS, Augmentation, CropCollator, CropDataset
from ..data.manifest import Manifest
from ..data.trials import Trials
from ..files import read_json
from .columns import ColumnDataset
from .joint_model import JointModel, SpecMask
from .objectives.building import ObjectiveArguments
from .teacher import Teacher
from .training_arguments import OSKDFTTrainingArguments
from .validation import TrialDataset
from .verifiers import VerifierTeacher

RUN_NAME = "run.json"
# A resumed run may be longer or shorter, with a warning; nothing else may change.
CHANGEABLE = ("num_train_epochs", "max_steps")
# The training arguments that decide the weights.
ARGUMENTS = (
    *("seed", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "min_learning_rate", "adapter_lr_multiplier", "backbone_lr_multiplier"),
    *("backbone_warmup_epochs", "backbone_schedule", "backbone_decay", "schedule_unit", "freeze", "ema_decay"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "bf16", "fp16", "teacher_dtype"),
    *("dataloader_drop_last", "world_size", "eval_strategy", "metric_for_best_model", "greater_is_better"),
)
# Fields of a configuration about its origin; they change nothing.
ORIGIN = ("transformers_version", "_name_or_path", "teacher_name_or_path", "architectures", "dtype")


class SupportsToDict(Protocol):
    """A configuration of transformers, or a feature extractor."""

    def to_dict(self) -> dict[str, Any]:
        """Return its fields."""
        ...


def describe_run(
    args: OSKDFTTrainingArguments,
    joint: JointModel,
    teacher: Teacher | None,
    crops: CropDataset,
    collator: CropCollator,
    validation: TrialDataset | ColumnDataset | None,
    verifiers: Sequence[VerifierTeacher] = (),
) -> dict[str, Any]:
    """Collect the settings that decide a run, as they come back from JSON."""
    of_column = crops.label_column != SPEAKERS
    labelled = None if not of_column and crops.classes == crops.manifest.speakers else digest(crops.classes)
    if of_column:  # a label of a column may change while its recording stays
        labelled = digest([labelled, crops.labels.tobytes()])
    features = collator.feature_extractor
    facts = {
        **{name: getattr(args, name) for name in ARGUMENTS},
        "objectives": joint.objectives.settings,
        "student": config_digest(joint.student.config),
        "features": None if features is None else config_digest(features),
        "teacher": None if teacher is None else teacher.fingerprint,
        **({"verifiers": [verifier.fingerprint for verifier in verifiers]} if verifiers else {}),
        "utterances": manifest_digest(crops.manifest),
        "validation": _validation_facts(validation),
        **({} if crops.label_column == SPEAKERS else {"label_column": crops.label_column}),
        "labelled": labelled,
        "crop_seconds": crops.num_samples / SAMPLING_RATE,
        "speeds": list(crops.speeds[1:]),
        "teacher_hears": collator.teacher_hears,
        "augmentation": _augmentation_facts(crops.augmentation),
        "spec_mask": _mask_facts(joint.spec_mask),
    }
    return json.loads(json.dumps(facts))


def _augmentation_facts(augmentation: Augmentation | None) -> dict[str, Any] | str | None:
    """Return the settings of an augmentation; the name of a function that a program gave."""
    if isinstance(augmentation, WaveformAugmentation):
        return augmentation.facts()
    return None if augmentation is None else getattr(augmentation, "__qualname__", type(augmentation).__qualname__)


def _validation_facts(validation: TrialDataset | ColumnDataset | None) -> list[str | None]:
    if validation is None:
        return [None, None]
    if isinstance(validation, ColumnDataset):
        return [manifest_digest(validation.manifest), digest(validation.labels().values())]
    return [manifest_digest(validation.manifest), trials_digest(validation.trials)]


def _mask_facts(spec_mask: SpecMask | None) -> list[float] | None:
    return None if spec_mask is None else [spec_mask.probability, spec_mask.features, spec_mask.frames]


def order_and_speakers(args: OSKDFTTrainingArguments, crops: CropDataset) -> dict[str, str]:
    """Return the facts that a checkpoint stores with its objectives.

    Returns:
        `order`: what the order of the crops depends on beside seed and epoch; with shards, the readers. `speakers`: a
        digest of the classes in their order, because class vectors mean nothing for other speakers.
    """
    readers = f"{args.world_size} processes, {args.dataloader_num_workers} workers"
    classes = [f"{speed:g} {speaker}" for speed in crops.speeds for speaker in crops.classes]
    return {
        "order": "rows" if crops.manifest.row_groups() is None else readers,
        "speakers": hashlib.sha256("\n".join(classes).encode()).hexdigest(),
    }


def digest(parts: Iterable[object]) -> str:
    """Hash texts and numbers in their order; returns 16 hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(str(part).encode(errors="surrogateescape") + b"\0")
    return sha.hexdigest()[:16]


def config_digest(config: SupportsToDict, left_out: Iterable[str] = ()) -> str:
    """Hash the fields of a configuration or a feature extractor, without those about its origin.

    Args:
        config: the configuration.
        left_out: further fields that do not count.
    """
    ignored = {*ORIGIN, *left_out}

    def without_origin(value: object) -> object:
        if isinstance(value, Mapping):
            return {str(name): without_origin(item) for name, item in value.items() if name not in ignored}
        return value

    return digest([json.dumps(without_origin(config.to_dict()), sort_keys=True, default=str)])


def manifest_digest(manifest: Manifest) -> str:
    """Hash the utterances, their speakers and their lengths; their place on disk may change."""
    columns = [manifest.column(name) for name in ("utterance_id", "speaker_id", "num_samples")]
    return digest(value for row in zip(*columns, strict=True) for value in row)


def trials_digest(trials: Trials) -> str:
    """Hash a trial list in its order."""
    return digest(value for row in zip(*trials, strict=True) for value in row)


def refuse_another_run(checkpoint: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the settings of a checkpoint's run with those of this run.

    Args:
        checkpoint: its folder; one of an earlier version, without recorded settings, gives a warning.
        wanted: the settings of this run, as `describe_run` returns them.

    Returns:
        Settings that may change and have, as {name: [before, now]}, after a warning.

    Raises:
        ValueError: when any other setting differs.
    """
    file = checkpoint / RUN_NAME
    if not file.is_file():
        warnings.warn(
            f"'{checkpoint}' was made by an earlier version: what its run was started with is not recorded, so "
            "nothing is compared.",
            stacklevel=3,
        )
        return {}
    stored = read_json(file).get("run", {})
    if "crop_seconds" in stored:  # earlier versions recorded a length that is no whole number of samples
        stored["crop_seconds"] = round(stored["crop_seconds"] * SAMPLING_RATE) / SAMPLING_RATE
    if "objectives" in stored:  # fields of a later version had their defaults
        defaults = asdict(ObjectiveArguments())
        known = {name: defaults[name] for name in wanted.get("objectives", {}) if name in defaults}
        stored["objectives"] = known | stored["objectives"]
    changed = {
        name: [stored.get(name), wanted.get(name)]
        for name in sorted({*stored, *wanted})
        if stored.get(name) != wanted.get(name)
    }
    refused = {name: pair for name, pair in changed.items() if name not in CHANGEABLE}
    if refused:
        differences = ", ".join(f"{name} {before} and this one has {now}" for name, (before, now) in refused.items())
        raise ValueError(
            f"The run of '{checkpoint}' was started with {differences}: resume with the recipe and the data that it "
            "was started with, or begin anew in another output_dir."
        )
    if changed:
        differences = ", ".join(f"{name} from {before} to {now}" for name, (before, now) in changed.items())
        warnings.warn(
            f"The length of the run changes ({differences}): learning rates and kd_weight follow the new length from "
            "here on, and jump.",
            stacklevel=3,
        )
    return changed
