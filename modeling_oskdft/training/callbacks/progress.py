"""What a person sees of a run: a progress bar on a terminal, and one line a log entry, on stderr."""

import shlex
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from transformers import ProgressCallback, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ...data.manifest import Manifest
from ...scoring.metrics import eer_in_percent
from ...scoring.thresholds import ENOUGH_SPEAKERS, Thresholds

if TYPE_CHECKING:
    from ..trainer import OSKDFTTrainer


def log_line(logs: dict[str, float], step: int = 0, steps: int = 0) -> str:
    """One log entry of the Trainer, at a step of so many, as a line; empty for an entry that says nothing new."""
    start = f"epoch {logs.get('epoch', 0.0):7.2f}" + (f"  step {step}/{steps}" if steps else "")
    if "loss" in logs:
        terms = [f"ft {logs['ft_loss']:.3f}"] if "ft_loss" in logs else []
        if "kd_loss" in logs:
            part = f" (front end {logs['front_end_kd_loss']:.3f})" if "front_end_kd_loss" in logs else ""
            terms.append(f"{logs['kd_weight']:.2f} x kd {logs['kd_loss']:.3f}{part}")
        parts = f"  loss {logs['loss']:8.3f}" + (f" = {' + '.join(terms)}" if terms else "")
        rates = [name for name in logs if name.startswith("learning_rate_")]
        return start + parts + "".join(f"  {name.removeprefix('learning_rate_')} {logs[name]:.1e}" for name in rates)
    for name in logs:
        if name.endswith("_eer"):
            prefix = name.removesuffix("_eer")
            return f"{start}  {prefix}: EER {100 * logs[name]:.2f} %  minDCF {logs[f'{prefix}_min_dcf']:.3f}"
    if "train_runtime" in logs:
        return f"{start}  trained for {logs['train_runtime']:.0f} s, {logs['train_steps_per_second']:.2f} steps/s"
    return ""


class LogLines(TrainerCallback):
    """Log entries as lines, where stderr is not a terminal."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one line on the main process."""
        if state.is_world_process_zero and logs and (line := log_line(logs, state.global_step, state.max_steps)):
            print(line, file=sys.stderr, flush=True)


class ProgressBarWithLogLines(ProgressCallback):
    """transformers' progress bar, with log entries as lines above it."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one line above the bar."""
        if state.is_world_process_zero and self.training_bar is not None and logs and (line := log_line(logs)):
            self.training_bar.write(line, file=sys.stderr)


def say(lines: Iterable[str]) -> None:
    """Print lines to the person who started the run."""
    for line in lines:
        print(f"oskdft: {line}", file=sys.stderr, flush=True)


def first_lines(trainer: "OSKDFTTrainer", train: Manifest, validation: Manifest, checkpoint: str | None) -> list[str]:
    """What a run is about to do: its data, what chooses the checkpoint, its length, and where it writes."""
    args = trainer.args
    known = train.describe()
    steps, epochs = trainer.planned_steps(), trainer.planned_steps() / trainer.steps_per_epoch()
    batch = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
    lines = [
        f"training on {known['utterances']:,} utterances of {known['speakers']:,} speakers, {known['hours']:,} hours",
        f"{len(validation.speakers):,} other speakers choose the checkpoint"
        + ("" if trainer.trials is None else f", by {len(trainer.trials.labels):,} trials"),
        f"{steps:,} steps of {batch} crops, {epochs:g} epochs, on {args.world_size} process(es), {args.device}",
        f"everything is written to '{args.output_dir}'"
        + (
            f", logs for TensorBoard too: tensorboard --logdir {shlex.quote(args.output_dir)}"
            if args.report_to
            else ""
        ),
    ]
    if checkpoint is not None:
        lines.append(f"going on from '{checkpoint}'")
    if len(validation.speakers) < ENOUGH_SPEAKERS:
        lines.append(
            f"warning: {len(validation.speakers)} speakers choose the checkpoint and the thresholds: fewer than "
            f"{ENOUGH_SPEAKERS} say little of others; raise validation_fraction, or record more speakers."
        )
    if args.backbone_warmup_epochs >= epochs and args.freeze != "encoder":
        lines.append(
            f"warning: the warm-up of the shared layers, {args.backbone_warmup_epochs:g} epochs, is not shorter "
            f"than the run, {epochs:g}: they hardly learn; set backbone_warmup_epochs to a tenth of it."
        )
    if args.logging_steps >= 1 and args.logging_steps > steps:
        lines.append(f"warning: logging_steps is {args.logging_steps:g} in a run of {steps} steps: nothing is logged.")
    return lines


def last_lines(results: dict[str, Any], thresholds: Thresholds | None, output_dir: str, pushed: bool) -> list[str]:
    """What came of a run, in per cent, and what to do next."""
    lines = []
    if results["selection_eer"] is not None:
        lines.append(
            f"best checkpoint: step {results['selected_step']} of {results['steps']}, EER "
            f"{100 * results['selection_eer']:.2f} % on the speakers set aside"
        )
    if "test" in results:
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
