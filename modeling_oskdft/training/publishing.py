"""Publish the student of a run on the Hub, with the card of the run's measurements."""

import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi

from ..hub.model_card import Statements, write_card, written_by_hand
from ..hub.upload import push_model
from ..scoring.calibration import Calibration
from ..scoring.normalization import Cohort
from ..scoring.thresholds import Thresholds
from .training_arguments import OSKDFTTrainingArguments

Measurement = Thresholds | Calibration | Cohort


def statements_of(args: OSKDFTTrainingArguments) -> Statements:
    """Return the licences that the user stated for the card."""
    return Statements(args.hub_license or "", args.hub_teacher_license or "", args.hub_data_license or "")


def write_card_of_run(args: OSKDFTTrainingArguments, repo_id: str | None) -> None:
    """Write the card of the student in `output_dir`; a page that was written by hand stays."""
    if not written_by_hand(args.output_dir):
        write_card(args.output_dir, repo_id, statements_of(args))


def save_measurements(folder: str | Path, *measured: Measurement | None) -> None:
    """Write what was measured with the student's weights beside them; None is left out."""
    for measurement in measured:
        if measurement is not None:
            measurement.save(folder)


def push_run(
    args: OSKDFTTrainingArguments,
    repo_id: str,
    message: str | None,
    token: str | None,
    revision: str | None,
    blocking: bool,
) -> str | Future[str]:
    """Send the student in `output_dir` with its thresholds and its card, and nothing else of the run.

    Returns:
        The address of the commit; a future of it when `blocking` is False.
    """
    push = partial(
        push_model,
        args.output_dir,
        repo_id,
        revision=revision or args.hub_revision,
        token=token or args.hub_token,
        message=message or "End of training",
    )
    return push() if blocking else HfApi().run_as_future(push)


def push_checkpoint(args: OSKDFTTrainingArguments, repo_id: str, step: int, save: Callable[[str], None]) -> None:
    """Send the student of a running training; a Hub that cannot be reached gives a warning and stops nothing.

    Args:
        args: of the training.
        repo_id: repository of the student.
        step: finished optimiser steps.
        save: writes the student into a folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        write_card(folder, repo_id, statements_of(args))
        try:
            push_model(folder, repo_id, token=args.hub_token, message=f"Training in progress, step {step}")
        except OSError as error:
            warnings.warn(f"Step {step} did not reach the Hub: {error}", stacklevel=3)
