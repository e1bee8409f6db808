"""Tell the user on stderr how a run begins and ends."""

import shlex
import sys
from collections.abc import Iterable
from typing import Any

from ..data.manifest import Manifest
from ..hub.task_card import SELECTION
from ..scoring.metrics import eer_in_percent
from ..scoring.thresholds import ENOUGH_SPEAKERS, Thresholds
from .columns import ColumnDataset
from .schedules import Clock
from .training_arguments import OSKDFTTrainingArguments
from .validation import TrialDataset


def say(lines: Iterable[str]) -> None:
    """Print lines for the user who started the run."""
    for line in lines:
        print(f"oskdft: {line}", file=sys.stderr, flush=True)


def first_lines(
    args: OSKDFTTrainingArguments,
    clock: Clock,
    train: Manifest,
    aside: Manifest,
    validation: TrialDataset | ColumnDataset | None,
    checkpoint: str | None,
) -> list[str]:
    """Describe a run that begins: data, selection, length, place, and warnings.

    Args:
        args: settings of the training.
        clock: its length.
        train: training data.
        aside: data of the speakers set aside.
        validation: their trials or recordings.
        checkpoint: the checkpoint to resume from.
    """
    counts = train.describe()
    batch = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
    trials = "" if validation is None else f", by {len(validation):,} {validation.unit}"
    logs = ""
    if args.report_to:
        logs = f", logs for TensorBoard too: tensorboard --logdir {shlex.quote(args.output_dir)}"
    lines = [
        f"training on {counts['utterances']:,} utterances of {counts['speakers']:,} speakers, "
        f"{counts['hours']:,} hours",
        f"{len(aside.speakers):,} other speakers choose the checkpoint{trials}",
        f"{clock.steps:,} steps of {batch} crops, {clock.num_epochs:g} epochs, on {args.world_size} process(es), "
        f"{args.device}",
        f"everything is written to '{args.output_dir}'{logs}",
    ]
    if checkpoint is not None:
        lines.append(f"going on from '{checkpoint}'")
    return lines + _warnings(args, clock, len(aside.speakers))


def _warnings(args: OSKDFTTrainingArguments, clock: Clock, speakers_aside: int) -> list[str]:
    lines = []
    if speakers_aside < ENOUGH_SPEAKERS:
        lines.append(
            f"warning: {speakers_aside} speakers choose the checkpoint and the thresholds: fewer than "
            f"{ENOUGH_SPEAKERS} say little of others; raise validation_fraction, or record more speakers."
        )
    if args.backbone_warmup_epochs >= clock.num_epochs and args.freeze not in ("trunk", "encoder"):
        lines.append(
            f"warning: the warm-up of the shared layers, {args.backbone_warmup_epochs:g} epochs, is not shorter "
            f"than the run, {clock.num_epochs:g}: they hardly learn; set backbone_warmup_epochs to a tenth of it."
        )
    if args.logging_steps >= 1 and args.logging_steps > clock.steps:
        lines.append(
            f"warning: logging_steps is {args.logging_steps:g} in a run of {clock.steps} steps: nothing is logged."
        )
    return lines


def last_lines(results: dict[str, Any], thresholds: Thresholds | None, output_dir: str, pushed: bool) -> list[str]:
    """Describe the result of a run, and the next command.

    Args:
        results: content of `results.json`.
        thresholds: of the student; None for a run that trains no head.
        output_dir: folder of the run.
        pushed: whether the run sends the student to the Hub.
    """
    lines = []
    if results["selection_eer"] is not None:
        lines.append(
            f"best checkpoint: step {results['selected_step']} of {results['steps']}, EER "
            f"{100 * results['selection_eer']:.2f} % on the speakers set aside"
        )
    for name, label in SELECTION.items():
        if results.get(name) is not None:
            lines.append(
                f"best checkpoint: step {results['selected_step']} of {results['steps']}, {label} "
                f"{100 * results[name]:.1f} % on the speakers set aside"
            )
    if "cer" in results.get("test", {}):
        test = results["test"]
        low, high = test["wer_interval"]
        lines.append(
            f"test: CER {100 * test['cer']:.1f} %, "
            f"WER {100 * test['wer']:.1f} % ({100 * low:.1f} to {100 * high:.1f}), "
            f"{test['recordings']:,} recordings of {test['speakers']} speakers"
        )
    elif "uar" in results.get("test", {}):
        test = results["test"]
        low, high = test["uar_interval"]
        lines.append(
            f"test: UAR {100 * test['uar']:.1f} % ({100 * low:.1f} to {100 * high:.1f}), accuracy "
            f"{100 * test['accuracy']:.1f} %, {test['recordings']:,} recordings of {test['speakers']} speakers"
        )
    elif "test" in results:
        test = results["test"]
        lines.append(
            f"test: EER {eer_in_percent(test, 2)} %, minDCF {test['min_dcf']:.3f}, {test['trials']:,} trials of "
            f"{test['speakers']} speakers"
        )
    lines.append(f"everything that was measured: '{output_dir}/results.json'")
    if thresholds is not None:
        quoted = shlex.quote(output_dir)
        lines.append(f"next: oskdft verify A.wav B.wav --model {quoted}")
        if not pushed:
            lines.append(f"      oskdft push {quoted} org/name")
    return lines
