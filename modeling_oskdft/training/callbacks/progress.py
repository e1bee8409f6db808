"""Show a run on stderr: a progress bar on a terminal, and one line for each log entry."""

import sys
from typing import Any

from transformers import ProgressCallback, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments


def log_line(logs: dict[str, float], step: int = 0, steps: int = 0) -> str:
    """Format a log entry of the Trainer as a line.

    Args:
        logs: the entry.
        step: finished steps; 0 leaves them out.
        steps: steps of the run; 0 leaves them out.

    Returns:
        The line; empty for an entry that repeats others.
    """
    start = f"epoch {logs.get('epoch', 0.0):7.2f}" + (f"  step {step}/{steps}" if steps else "")
    if "loss" in logs:
        terms = [f"ft {logs['ft_loss']:.3f}"] if "ft_loss" in logs else []
        if "kd_loss" in logs:
            part = f" (front end {logs['front_end_kd_loss']:.3f})" if "front_end_kd_loss" in logs else ""
            terms.append(f"{logs['kd_weight']:.2f} x kd {logs['kd_loss']:.3f}{part}")
        if "embedding_kd_loss" in logs:
            terms.append(f"{logs['embedding_kd_weight']:.2f} x embedding kd {logs['embedding_kd_loss']:.3f}")
        if "gate_loss" in logs:
            terms.append(f"gates {logs['gate_loss']:.3f}")
        parts = f"  loss {logs['loss']:8.3f}" + (f" = {' + '.join(terms)}" if terms else "")
        rates = [name for name in logs if name.startswith("learning_rate_")]
        return start + parts + "".join(f"  {name.removeprefix('learning_rate_')} {logs[name]:.1e}" for name in rates)
    for name in logs:
        if name.endswith("_eer"):
            prefix = name.removesuffix("_eer")
            return f"{start}  {prefix}: EER {100 * logs[name]:.2f} %  minDCF {logs[f'{prefix}_min_dcf']:.3f}"
    for name in logs:
        if name.endswith("_uar"):
            prefix = name.removesuffix("_uar")
            return (
                f"{start}  {prefix}: UAR {100 * logs[name]:.1f} %  accuracy {100 * logs[f'{prefix}_accuracy']:.1f} %"
            )
        if name.endswith("_cer"):
            prefix = name.removesuffix("_cer")
            return f"{start}  {prefix}: CER {100 * logs[name]:.1f} %  WER {100 * logs[f'{prefix}_wer']:.1f} %"
    if "train_runtime" in logs:
        return f"{start}  trained for {logs['train_runtime']:.0f} s, {logs['train_steps_per_second']:.2f} steps/s"
    return ""


class LogLines(TrainerCallback):
    """Prints log entries as lines, for a stderr that is no terminal."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one line on the main process."""
        if state.is_world_process_zero and logs and (line := self.line_of(logs, state)):
            self.write(line)

    def line_of(self, logs: dict[str, float], state: TrainerState) -> str:
        """Format an entry with its step, which no bar shows."""
        return log_line(logs, state.global_step, state.max_steps)

    def write(self, line: str) -> None:
        """Print a line on stderr."""
        print(line, file=sys.stderr, flush=True)


class ProgressBarWithLogLines(LogLines, ProgressCallback):
    """transformers' progress bar, with log entries as lines above it."""

    def line_of(self, logs: dict[str, float], state: TrainerState) -> str:
        """Format an entry without its step, which the bar shows."""
        return log_line(logs)

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        if self.training_bar is not None:
            self.training_bar.write(line, file=sys.stderr)


def log_callback(args: TrainingArguments) -> TrainerCallback:
    """Choose between lines and a progress bar with lines, by `disable_tqdm`."""
    return LogLines() if args.disable_tqdm else ProgressBarWithLogLines()
