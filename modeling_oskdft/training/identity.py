"""What makes a run what it is, as it is written into its checkpoints, and what a resumed run asks for instead."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..data.manifest import Manifest
from ..data.trials import Trials
from ..files import read_json

RUN_NAME = "run.json"


class SupportsToDict(Protocol):
    """A configuration of transformers, or a feature extractor."""

    def to_dict(self) -> dict[str, Any]:
        """Its fields."""
        ...


# A run may be made longer, and its schedules are then said to be others; nothing else may change on the way.
CHANGEABLE = ("num_train_epochs", "max_steps")
# What of the training arguments decides the weights.
ARGUMENTS = (
    *("seed", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "min_learning_rate", "adapter_lr_multiplier", "backbone_lr_multiplier"),
    *("backbone_warmup_epochs", "backbone_schedule", "backbone_decay", "schedule_unit", "freeze", "ema_decay"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "bf16", "fp16", "teacher_dtype"),
    *("dataloader_drop_last", "world_size", "eval_strategy", "metric_for_best_model", "greater_is_better"),
)


def digest(parts: Iterable[object]) -> str:
    """Of texts and numbers in their order, 16 hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(str(part).encode(errors="surrogateescape") + b"\0")
    return sha.hexdigest()[:16]


# What a configuration says of where it comes from, not of what it describes.
ORIGIN = ("transformers_version", "_name_or_path", "teacher_name_or_path", "architectures", "dtype")


def config_digest(config: SupportsToDict) -> str:
    """Of the fields of a configuration or a feature extractor, but for those that say where it comes from."""

    def described(value: object) -> object:
        if isinstance(value, Mapping):
            return {str(name): described(one) for name, one in value.items() if name not in ORIGIN}
        return value

    return digest([json.dumps(described(config.to_dict()), sort_keys=True, default=str)])


def manifest_digest(manifest: Manifest | None) -> str | None:
    """Of the utterances, their speakers and their lengths; not of where they lie."""
    if manifest is None:
        return None
    columns = [manifest.column(name) for name in ("utterance_id", "speaker_id", "num_samples")]
    return digest(value for row in zip(*columns, strict=True) for value in row)


def trials_digest(trials: Trials | None) -> str | None:
    """Of a trial list in its order."""
    return None if trials is None else digest(value for row in zip(*trials, strict=True) for value in row)


def refuse_another_run(checkpoint: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Compare what a checkpoint's run was started with to what is asked for.

    Returns what may change and has, as {name: [was, is]}, after a warning. A checkpoint of an earlier version, which
    does not say, is warned of. Raises `ValueError` for anything else that differs.
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
    changed = {
        name: [stored.get(name), asked.get(name)]
        for name in sorted({*stored, *asked})
        if stored.get(name) != asked.get(name)
    }
    refused = {name: pair for name, pair in changed.items() if name not in CHANGEABLE}
    if refused:
        what = ", ".join(f"{name} {was} and this one has {now}" for name, (was, now) in refused.items())
        raise ValueError(
            f"The run of '{checkpoint}' was started with {what}: resume with the recipe and the data that it was "
            "started with, or begin anew in another output_dir."
        )
    if changed:
        what = ", ".join(f"{name} from {was} to {now}" for name, (was, now) in changed.items())
        warnings.warn(
            f"The length of the run changes ({what}): learning rates and kd_weight follow the new length from "
            "here on, and jump.",
            stacklevel=3,
        )
    return changed
