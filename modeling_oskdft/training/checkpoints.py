"""Checkpoints of a run: whole or not there, of one set of speakers and one order of crops, and read back exactly."""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints

from ..errors import first_line
from ..files import read_json, read_text, whole_folder
from ..model.modeling_oskdft import OSKDFTForXVector
from .averaging import WeightAverage
from .identity import RUN_NAME
from .joint_model import JointModel, Teacher, same_front_end

OBJECTIVES_NAME = "objectives.safetensors"
EMA_NAME = "ema.safetensors"
INCOMPLETE = ".incomplete"


class CheckpointingTrainer(Trainer):
    """transformers' Trainer, whose checkpoints hold the student, the objectives and the moving average."""

    teacher: Teacher | None
    average: WeightAverage | None
    facts: dict[str, Any]  # what makes the run what it is
    _sums: dict[str, Tensor]  # of the losses since the last log line
    _summed_from: int  # the step of that line

    @property
    def joint(self) -> JointModel:
        """The joint model, out of any wrapper."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    @property
    def student(self) -> OSKDFTForXVector:
        """The student that the optimiser moves, out of any wrapper."""
        return self.joint.student

    @property
    def published(self) -> OSKDFTForXVector:
        """The student that is evaluated and published: the moving average where there is one."""
        return self.student if self.average is None else self.average.student

    def _log_window(self) -> dict[str, Any]:
        """What has been summed since the last log line, for a checkpoint."""
        return {"from": self._summed_from, "sums": {name: value.item() for name, value in self._sums.items()}}

    def _restore_log_window(self, checkpoint: Path) -> None:
        file = checkpoint / RUN_NAME
        window = read_json(file).get("window", {}) if file.is_file() and self.args.world_size == 1 else {}
        self._summed_from = int(window.get("from", 0))
        device = self.args.device
        self._sums = {name: torch.tensor(value, device=device) for name, value in window.get("sums", {}).items()}

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = output_dir or self.args.output_dir
        is_checkpoint = Path(folder).name.startswith(PREFIX_CHECKPOINT_DIR)
        with whole_folder(folder) as aside:
            (self.student if is_checkpoint else self.published).save_pretrained(aside)
            self.processing_class.save_pretrained(aside)
            if is_checkpoint:
                metadata = {"speakers": self._speakers_digest(), "order": self._order()}
                _save_state(self.joint.objectives, aside / OBJECTIVES_NAME, **metadata)
                facts = {"run": self.facts, "window": self._log_window()}
                (aside / RUN_NAME).write_text(json.dumps(facts, indent=1), encoding="utf-8")
            if is_checkpoint and self.average is not None:
                _save_state(self.average.student, aside / EMA_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Read through `from_pretrained`, because key names on disk depend on where a model was first loaded from."""
        checkpoint = Path(resume_from_checkpoint)
        student = _read_student(checkpoint)
        try:
            self.student.load_state_dict(student.state_dict())
            self.joint.objectives.load_state_dict(load_file(checkpoint / OBJECTIVES_NAME))
            if self.average is not None:
                self.average.student.load_state_dict(load_file(checkpoint / EMA_NAME))
        except (RuntimeError, FileNotFoundError):
            raise _other_objectives(checkpoint) from None

        self._share_only_what_is_the_same()

    def _check_order_and_speakers(self, checkpoint: Path) -> None:
        order = self._stored(checkpoint, "order")
        if order != self._order():
            raise ValueError(
                f"'{checkpoint}' was made with {order} and this run has {self._order()}: crops would be seen twice or "
                "not at all; resume with as many."
            )
        if self._stored(checkpoint, "speakers") != self._speakers_digest():  # vectors of as many other people
            raise _other_objectives(checkpoint)

    def _share_only_what_is_the_same(self) -> None:
        """Other weights were loaded: the student's convolutions may no longer be the teacher's."""
        shared = None if self.teacher is None else self.teacher.front_end
        if self.teacher is not None and shared is not None and not same_front_end(self.student, shared.front_end):
            self.teacher.stop_sharing()

    def start_from(self, run: str | Path) -> None:
        """Begin with the weights of another run instead of the teacher's: of its best checkpoint, averaged if it is.

        Its class vectors are taken as well where the speakers are the same, else they start anew. Raises
        `FileNotFoundError` for a folder without a checkpoint, `ValueError` for a student of another shape.
        """
        checkpoint = best_checkpoint(run)
        student = _read_student(checkpoint)
        if (checkpoint / EMA_NAME).is_file():
            student.load_state_dict(load_file(checkpoint / EMA_NAME))
        try:
            self.student.load_state_dict(student.state_dict())
        except RuntimeError:
            raise ValueError(
                f"The student in '{checkpoint}' has another shape than this recipe's: start from a run whose student "
                "fields are the same."
            ) from None
        if self.average is not None:
            self.average.student.load_state_dict(self.student.state_dict())
        self._share_only_what_is_the_same()
        stored = load_file(checkpoint / OBJECTIVES_NAME)
        speaker = self.joint.objectives.speaker
        own = {} if speaker is None else speaker.state_dict(prefix="speaker.")
        if self._stored(checkpoint, "speakers") == self._speakers_digest() and all(
            name in stored and stored[name].shape == value.shape for name, value in own.items()
        ):
            self.joint.objectives.load_state_dict({name: stored[name] for name in own}, strict=False)
        elif any(name.startswith("speaker.") for name in stored):
            warnings.warn(f"The class vectors start anew: '{checkpoint}' has other speakers.", stacklevel=2)

    @staticmethod
    def _stored(checkpoint: Path, what: str) -> str:
        with safe_open(checkpoint / OBJECTIVES_NAME, "pt") as file:
            return (file.metadata() or {}).get(what, "")

    def _order(self) -> str:
        """What the order of the crops depends on beside seed and epoch: with shards, who reads them."""
        if self.train_dataset.manifest.row_groups() is None:
            return "rows"
        return f"{self.args.world_size} processes, {self.args.dataloader_num_workers} workers"

    def _speakers_digest(self) -> str:
        """Of the classes in their order: class vectors mean nothing to other speakers."""
        classes = [f"{speed:g} {one}" for speed in self.train_dataset.speeds for one in self.train_dataset.speakers]
        return hashlib.sha256("\n".join(classes).encode()).hexdigest()

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _get_output_dir(self, trial: object) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, INCOMPLETE) if getattr(self, "_is_saving", False) else folder

    @contextlib.contextmanager
    def _saving_aside(self) -> Iterator[None]:
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving = False

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """Write beside, then rename: a checkpoint under its own name is whole, however the run dies."""
        with self._saving_aside():
            staging = Path(self._get_output_dir(trial))
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            try:
                super()._save_checkpoint(model, trial)
            except (OSError, RuntimeError, SafetensorError) as error:
                shutil.rmtree(staging, ignore_errors=True)  # half a checkpoint would keep a full disk full
                raise OSError(
                    f"The checkpoint of step {self.state.global_step} could not be written to '{staging.parent}' "
                    f"({first_line(error)}): make room, and {_how_to_go_on(staging.parent)}."
                ) from error
            self.accelerator.wait_for_everyone()  # every process has written its random state
        run, name = staging.parent, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        best = f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        if best == name or (run / best).is_dir():  # else it is one of the run that was resumed, in another folder
            self.state.best_model_checkpoint = str(run / best)
        if self.args.should_save:
            self.state.save_to_json(str(staging / name / "trainer_state.json"))
            if (run / name).exists():  # of the same step, saved once more with what evaluation has found
                os.replace(run / name, staging / "earlier")
            os.replace(staging / name, run / name)
            shutil.rmtree(staging)
            rotate_checkpoints(
                output_dir=str(run),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )
        self.accelerator.wait_for_everyone()


def _read_student(checkpoint: Path) -> OSKDFTForXVector:
    try:
        return OSKDFTForXVector.from_pretrained(checkpoint, dtype=torch.float32)
    except Exception as error:  # a damaged folder can make anything fail
        raise ValueError(
            f"The student in '{checkpoint}' cannot be read ({first_line(error)}): use another checkpoint."
        ) from error


def _other_objectives(checkpoint: Path) -> ValueError:
    return ValueError(
        f"The objectives in '{checkpoint}' are not those of this recipe: resume with the recipe and the data that the "
        "run was started with."
    )


def _save_state(module: nn.Module, path: Path, **metadata: str) -> None:
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path, metadata or None)


def _how_to_go_on(run: Path) -> str:
    last = get_last_checkpoint(str(run))
    if last is None:
        return "start again: there is no checkpoint yet"
    return f"go on from '{Path(last).name}', which is whole, with --resume_from_checkpoint last"


def check_checkpoint(checkpoint: Path, processes: int = 1, averaged: bool = False) -> None:
    """Raise `ValueError` naming the first file of a checkpoint that is missing, cut or damaged."""
    random_states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    files = [TRAINER_STATE_NAME, "config.json", "model.safetensors", OBJECTIVES_NAME]
    files += [EMA_NAME] if averaged else []
    files += ["optimizer.pt", "scheduler.pt", *random_states]
    for name in files:
        file = checkpoint / name
        if not file.is_file():
            raise ValueError(
                f"'{checkpoint}' lacks {name}: without it another run would go on; resume from another checkpoint, "
                "with as many processes as the run was started with."
            )
        try:
            if name == TRAINER_STATE_NAME:  # the log of a step that was skipped holds NaN
                json.loads(read_text(file))
            elif name.endswith(".json"):
                read_json(file)
            elif name.endswith(".safetensors"):
                with safe_open(file, "pt") as stored:
                    for key in stored.keys():
                        stored.get_slice(key)
            else:
                with zipfile.ZipFile(file) as archive:
                    if archive.testzip() is not None:
                        raise zipfile.BadZipFile("a checksum is wrong")
        except (SafetensorError, zipfile.BadZipFile, OSError, ValueError) as error:
            raise ValueError(f"'{file}' is damaged ({first_line(error)}): resume from another checkpoint.") from None


def best_checkpoint(run: str | Path) -> Path:
    """The checkpoint that a run selected, or its last one; a checkpoint itself is its own.

    Raises `FileNotFoundError` when there is none.
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
