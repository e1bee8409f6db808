"""Write checkpoints whole or not at all, check them, and read them back exactly.

A checkpoint holds the student as `save_pretrained` writes it, its feature extractor, the objectives, the moving
average, the settings of the run and the sums of its log (`run.json`), the optimiser, the schedules and the random
states; never the teacher.
"""

import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import SequenceFeatureExtractor
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints

from ..errors import first_line
from ..files import read_json, read_text, whole_folder
from ..model.modeling_tasks_oskdft import Student
from .identity import RUN_NAME
from .joint_model import JointModel

OBJECTIVES_NAME = "objectives.safetensors"
EMA_NAME = "ema.safetensors"
INCOMPLETE = ".incomplete"


def is_checkpoint(folder: str | Path) -> bool:
    """Return whether a folder has the name of a checkpoint: checkpoint-STEP."""
    prefix, _, step = Path(folder).name.rpartition("-")
    return prefix == PREFIX_CHECKPOINT_DIR and step.isdigit()


def write_student(folder: str | Path, student: Student, feature_extractor: SequenceFeatureExtractor) -> None:
    """Write a student and its feature extractor, whole or not at all."""
    with whole_folder(folder) as aside:
        student.save_pretrained(aside)
        feature_extractor.save_pretrained(aside)


def write_checkpoint(
    folder: str | Path,
    joint: JointModel,
    averaged: Student | None,
    feature_extractor: SequenceFeatureExtractor,
    run: Mapping[str, Any],
    facts: Mapping[str, str],
) -> None:
    """Write the weights of a checkpoint and the settings of its run, whole or not at all.

    Args:
        folder: of the checkpoint.
        joint: the joint model.
        averaged: the moving average of the student, where there is one.
        feature_extractor: of the student.
        run: content of `run.json`.
        facts: stored with the objectives, read back by `stored_fact`.
    """
    with whole_folder(folder) as aside:
        joint.student.save_pretrained(aside)
        feature_extractor.save_pretrained(aside)
        _save_weights(joint.objectives, aside / OBJECTIVES_NAME, facts)
        (aside / RUN_NAME).write_text(json.dumps(run, indent=1), encoding="utf-8")
        if averaged is not None:
            _save_weights(averaged, aside / EMA_NAME)


def load_weights(checkpoint: Path, joint: JointModel, averaged: Student | None) -> None:
    """Load student, objectives and moving average of a checkpoint.

    The student is read by `from_pretrained`, because key names on disk depend on where a model was first loaded from.

    Raises:
        ValueError: for a checkpoint of another recipe, and for one that cannot be read.
    """
    student = read_student(checkpoint, type(joint.student))
    try:
        joint.student.load_state_dict(student.state_dict())
        joint.objectives.load_state_dict(load_file(checkpoint / OBJECTIVES_NAME))
        if averaged is not None:
            averaged.load_state_dict(load_file(checkpoint / EMA_NAME))
    except (RuntimeError, FileNotFoundError):
        raise other_objectives(checkpoint) from None


def start_weights(run: str | Path, joint: JointModel, averaged: Student | None, speakers: str) -> None:
    """Load the weights of another run's best checkpoint, averaged if it has an average, to begin a new run with.

    Class vectors are loaded for the same speakers; otherwise they start anew, with a warning.

    Args:
        run: folder of a run, or a checkpoint.
        joint: the joint model of the new run.
        averaged: its moving average, where there is one.
        speakers: digest of its speakers.

    Raises:
        FileNotFoundError: for a folder without a checkpoint.
        ValueError: for a student of another shape.
    """
    checkpoint = best_checkpoint(run)
    student = read_student(checkpoint, type(joint.student))
    if (checkpoint / EMA_NAME).is_file():
        student.load_state_dict(load_file(checkpoint / EMA_NAME))
    try:
        joint.student.load_state_dict(student.state_dict())
    except RuntimeError:
        raise ValueError(
            f"The student in '{checkpoint}' has another shape than this recipe's: start from a run whose student "
            "fields are the same."
        ) from None
    if averaged is not None:
        averaged.load_state_dict(joint.student.state_dict())
    stored = load_file(checkpoint / OBJECTIVES_NAME)
    if any(name.startswith("gates.") for name in stored):
        raise ValueError(
            f"'{checkpoint}' is of a run with gate_target, and holds the student with the units that were shut: name "
            "the folder of the run as student_from instead."
        )
    speaker = joint.objectives.speaker
    wanted = {} if speaker is None else speaker.state_dict(prefix="speaker.")
    if stored_fact(checkpoint, "speakers") == speakers and all(
        name in stored and stored[name].shape == value.shape for name, value in wanted.items()
    ):
        joint.objectives.load_state_dict({name: stored[name] for name in wanted}, strict=False)
    elif any(name.startswith("speaker.") for name in stored):
        warnings.warn(f"The class vectors start anew: '{checkpoint}' has other speakers.", stacklevel=3)


def chosen_of(last: Path, state: TrainerState, load_best: bool) -> Path:
    """Return the checkpoint that a finished run ends with: its best one where that is wanted and there, else its last.

    Args:
        last: the last checkpoint.
        state: of the trainer, as that checkpoint has it.
        load_best: whether the run ends with the best one.
    """
    best = state.best_model_checkpoint
    chosen = last.parent / Path(best).name if best and load_best else last
    return chosen if chosen.is_dir() else last


def read_student(checkpoint: Path, kind: type[Student]) -> Student:
    """Read the student of a checkpoint in float32, as the class that it was saved as.

    Raises:
        ValueError: when it cannot be read.
    """
    try:
        return kind.from_pretrained(checkpoint, dtype=torch.float32)
    except Exception as error:  # a damaged folder can make anything fail
        raise ValueError(
            f"The student in '{checkpoint}' cannot be read ({first_line(error)}): use another checkpoint."
        ) from error


def stored_fact(checkpoint: Path, name: str) -> str:
    """Read a fact that `write_checkpoint` stored with the objectives; empty where it is not there."""
    with safe_open(checkpoint / OBJECTIVES_NAME, "pt") as file:
        return (file.metadata() or {}).get(name, "")


def check_facts(checkpoint: Path, facts: Mapping[str, str]) -> None:
    """Refuse a checkpoint with another order of crops or other speakers than this run.

    Raises:
        ValueError: naming the difference.
    """
    if (order := stored_fact(checkpoint, "order")) != facts["order"]:
        raise ValueError(
            f"'{checkpoint}' was made with {order} and this run has {facts['order']}: crops would be seen twice or "
            "not at all; resume with as many."
        )
    if stored_fact(checkpoint, "speakers") != facts["speakers"]:  # class vectors of as many other people
        raise other_objectives(checkpoint)


def other_objectives(checkpoint: Path) -> ValueError:
    """Build the error about a checkpoint of another recipe or other data."""
    return ValueError(
        f"The objectives in '{checkpoint}' are not those of this recipe: resume with the recipe and the data that the "
        "run was started with."
    )


def _save_weights(module: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(state, path, dict(metadata or {}) or None)


class StagedCheckpoint:
    """Writes a checkpoint beside its place and renames it: a checkpoint under its own name is whole.

    Args:
        run: folder of the run.
        state: of the trainer.
        accelerator: of the trainer; every process takes part.
        should_save: whether this process writes.
        save_total_limit: checkpoints that stay.
    """

    def __init__(
        self,
        run: Path,
        state: TrainerState,
        accelerator: Accelerator,
        should_save: bool,
        save_total_limit: int | None,
    ) -> None:
        self.run, self.state, self.accelerator = run, state, accelerator
        self.should_save, self.save_total_limit = should_save, save_total_limit
        self.staging = run / INCOMPLETE
        self.name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"

    def write(self, save: Callable[[], object]) -> None:
        """Call `save`, which writes the checkpoint into `staging`, and publish the result.

        Raises:
            OSError: when it cannot be written; earlier checkpoints stay as they are.
        """
        if self.should_save:
            shutil.rmtree(self.staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            save()
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(self.staging, ignore_errors=True)  # half a checkpoint would keep a full disk full
            raise OSError(
                f"The checkpoint of step {self.state.global_step} could not be written to '{self.run}' "
                f"({first_line(error)}): make room, and {self._how_to_go_on()}."
            ) from error
        self.accelerator.wait_for_everyone()  # every process has written its random state
        self._name_the_best()
        if self.should_save:
            self._publish()
        self.accelerator.wait_for_everyone()

    def _name_the_best(self) -> None:
        best = f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        # The best checkpoint of a resumed run may lie in another folder.
        if best == self.name or (self.run / best).is_dir():
            self.state.best_model_checkpoint = str(self.run / best)

    def _publish(self) -> None:
        self.state.save_to_json(str(self.staging / self.name / TRAINER_STATE_NAME))
        if (self.run / self.name).exists():  # of the same step, saved again with the result of the evaluation
            os.replace(self.run / self.name, self.staging / "earlier")
        os.replace(self.staging / self.name, self.run / self.name)
        shutil.rmtree(self.staging)
        rotate_checkpoints(
            output_dir=str(self.run),
            save_total_limit=self.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
        )

    def _how_to_go_on(self) -> str:
        last = get_last_checkpoint(str(self.run))
        if last is None:
            return "start again: there is no checkpoint yet"
        return f"go on from '{Path(last).name}', which is whole, with --resume_from_checkpoint last"


def check_checkpoint(checkpoint: Path, processes: int = 1, averaged: bool = False) -> None:
    """Check every file of a checkpoint before a run resumes from it.

    Args:
        checkpoint: its folder.
        processes: processes of the run; each has its random state.
        averaged: whether the run keeps a moving average.

    Raises:
        ValueError: naming the first file that is missing, cut or damaged.
    """
    random_states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    names = [TRAINER_STATE_NAME, "config.json", "model.safetensors", OBJECTIVES_NAME]
    names += [EMA_NAME] if averaged else []
    for name in [*names, "optimizer.pt", "scheduler.pt", *random_states]:
        file = checkpoint / name
        if not file.is_file():
            raise ValueError(
                f"'{checkpoint}' lacks {name}: without it another run would go on; resume from another checkpoint, "
                "with as many processes as the run was started with."
            )
        try:
            _check_file(file)
        except (SafetensorError, zipfile.BadZipFile, OSError, ValueError) as error:
            raise ValueError(f"'{file}' is damaged ({first_line(error)}): resume from another checkpoint.") from None


def _check_file(file: Path) -> None:
    if file.name == TRAINER_STATE_NAME:  # its log holds NaN after a skipped step
        json.loads(read_text(file))
    elif file.suffix == ".json":
        read_json(file)
    elif file.suffix == ".safetensors":
        with safe_open(file, "pt") as stored:
            for key in stored.keys():
                stored.get_slice(key)
    else:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")


def find_checkpoint(output_dir: str, wanted: str | bool | None) -> Path | None:
    """Find the checkpoint to resume from.

    Args:
        output_dir: folder of the run.
        wanted: the folder of a checkpoint; True for the last one of the run; None or False for none.

    Raises:
        ValueError: when it is not there.
    """
    if wanted is None or wanted is False:
        return None
    found = get_last_checkpoint(output_dir) if wanted is True else str(wanted)
    if found is None or not Path(found).is_dir():
        place = f"in '{output_dir}': check output_dir" if wanted is True else f"at '{wanted}': check the path"
        raise ValueError(f"There is no checkpoint to resume from {place}.")
    return Path(found)


def best_checkpoint(run: str | Path) -> Path:
    """Find the checkpoint that a run selected, or its last one; a checkpoint is its own.

    Raises:
        FileNotFoundError: when there is none.
    """
    folder = Path(run)
    if (folder / OBJECTIVES_NAME).is_file():
        return folder
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last is None:
        raise FileNotFoundError(f"There is no checkpoint in '{run}': give the output_dir of a run, or a checkpoint.")
    best = TrainerState.load_from_json(str(Path(last, TRAINER_STATE_NAME))).best_model_checkpoint
    chosen = folder / Path(best).name if best else Path(last)  # the run may have moved since
    return chosen if chosen.is_dir() else Path(last)
