"""Run a recipe: teacher and student, data, one training, thresholds, one table."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, SequenceFeatureExtractor, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.manifest import Manifest
from ..data.parallel import end_with_parent
from ..data.splits import split_by_speaker, warn_about_single_utterances
from ..embedding.locations import name_of_model
from ..evaluation.cost import compare_encoders
from ..files import check_writable, write_json
from ..hub.task_card import write_task_card
from ..provenance import machine, versions
from ..scoring.thresholds import Thresholds
from .assembly import assemble_trainer
from .inputs import (
    checkpoint_to_resume,
    load_train,
    spec_mask_of,
    training_crops,
)
from .locking import locked_folder
from .processes import ended_process_group
from .publishing import Measurement, save_measurements, statements_of
from .recipe import Recipe
from .speech_encoders import load_origin, load_teacher, load_trunk
from .summary import first_lines, last_lines, say
from .tasks import task_of
from .trainer import OSKDFTTrainer
from .verifiers import load_verifier

RESULTS_NAME = "results.json"


@dataclass(frozen=True)
class RunResults:
    """Results of a run.

    Args:
        output_dir: folder with the student, its thresholds, its card and `results.json`.
        values: content of `results.json`.
        thresholds: of the student; None for a run that trains no head.
    """

    output_dir: str
    values: dict[str, Any] = field(repr=False)
    thresholds: Thresholds | None = field(repr=False)

    @property
    def selection_eer(self) -> float | None:
        """EER of the selected checkpoint on the speakers set aside, a fraction; None where none was selected."""
        return self.values["selection_eer"]


def run(recipe: Recipe) -> RunResults:
    """Run a recipe in this process; an `output_dir` takes one run at a time.

    Args:
        recipe: as `read_recipe` returns it.

    Raises:
        FileNotFoundError: for a teacher, data or a checkpoint that is not there.
        ValueError: for settings with which a run cannot work.
        SystemExit: after SIGTERM or Ctrl-C, with 128 plus the number of the signal; a checkpoint is saved when a step
            has ended.
    """
    args = recipe.training
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a launcher that is killed leaves its processes running
        end_with_parent(signal.SIGTERM)
    with ended_process_group():
        if not args.should_save:
            return _run(recipe)
        check_writable(Path(args.output_dir, RESULTS_NAME))
        with locked_folder(args.output_dir):
            return _run(recipe)


def _run(recipe: Recipe) -> RunResults:
    args, data = recipe.training, recipe.data
    checkpoint = checkpoint_to_resume(args.output_dir, args.resume_from_checkpoint)
    if args.push_to_hub and not recipe.learns_speakers:
        raise ValueError(
            "push_to_hub with speaker_objective none: its head has learnt nothing; publish the second step."
        )
    set_seed(args.seed)

    # The student, cut out of the teacher or of another encoder, and its frozen teachers.
    origin, feature_extractor = _load_origin(recipe)
    task = task_of(recipe, load_train(recipe))
    student = task.new_student(origin)
    teacher, teacher_extractor = origin, feature_extractor
    if recipe.student.student_from and recipe.objectives.distil_states:
        teacher, teacher_extractor = load_teacher(recipe.student.teacher)
    verifiers = [load_verifier(name) for name in recipe.student.embedding_teachers or ()]

    # Speakers to learn from, and speakers set aside to select the best checkpoint.
    seed = args.seed if args.data_seed is None else args.data_seed
    train, aside = split_by_speaker(task.manifest, data.validation_fraction, seed)
    validation = task.validation(train, aside)
    warn_about_single_utterances(train)
    test = task.load_test()
    encoders = compare_encoders(teacher, student, teacher_extractor, origin) if args.should_save else {}

    # One run: kd_weight(t) * kd_loss on one path, ft_loss on the other, and embeddings of verifiers for either.
    trainer = assemble_trainer(
        student,
        args,
        training_crops(recipe, train, task.label_column, task.classes),
        feature_extractor,
        recipe.objectives,
        teacher if recipe.objectives.distil_states else None,
        validation,
        spec_mask_of(recipe),
        data.teacher_hears,
        verifiers=verifiers,
        teacher_extractor=teacher_extractor,
    )
    seconds = _train(trainer, train, aside, checkpoint)
    if trainer.joint.objectives.gates is not None and args.should_save:  # whose student had no shape before
        whole, extractor = _load_origin(recipe)
        timed = compare_encoders(whole, trainer.published, extractor, whole)
        ours = {"student": timed["student"], "origin" if "origin" in encoders else "teacher": timed["teacher"]}
        encoders = encoders | ours | {"whole_student": encoders["student"]}
    results = _results(recipe, trainer, train, encoders, seconds, checkpoint is not None)
    results |= task.selection(trainer.state)
    if task.classes:
        results["classes"] = list(task.classes)
    thresholds = task.measure(trainer, train)
    _save(trainer, results, *(trainer.scorer.measurements(trainer.published) if thresholds else ()))

    # The test: trials that selected nothing, read once.
    if test is not None:
        results["test"] = task.test(trainer, test)
    if args.should_save:
        write_json(results, Path(args.output_dir, RESULTS_NAME))
        say(last_lines(results, thresholds, args.output_dir, args.push_to_hub))
    if thresholds is not None:
        trainer.push_to_hub() if args.push_to_hub else trainer.create_model_card()
    elif not recipe.verifies and args.should_save:
        sentence, pipeline_tag = student.card_of_task
        write_task_card(args.output_dir, (sentence, pipeline_tag or "other"), statements_of(args))
    return RunResults(args.output_dir, results, thresholds)


def _load_origin(recipe: Recipe) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load the encoder that the student is cut from."""
    other = recipe.student.student_from
    return load_trunk(other) if other else load_origin(recipe.student.teacher)


def _train(trainer: OSKDFTTrainer, train: Manifest, aside: Manifest, checkpoint: str | None) -> float:
    """Train, and return the seconds; end the process after a signal."""
    args = trainer.args
    if args.start_from and checkpoint is None:
        trainer.start_from(args.start_from)
    if args.should_save:
        say(first_lines(args, trainer.clock, train, aside, trainer.eval_dataset, checkpoint))
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.stopper.received:
        if args.should_save:
            saved = Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}").is_dir()
            rest = "a checkpoint was saved; go on with --resume_from_checkpoint last" if saved else "nothing was saved"
            say([f"stopped at step {trainer.state.global_step} of {trainer.clock.steps}: {rest}."])
        raise SystemExit(128 + trainer.stopper.signal)
    return time.perf_counter() - start


def _results(
    recipe: Recipe,
    trainer: OSKDFTTrainer,
    train: Manifest,
    encoders: dict[str, dict[str, float]],
    seconds: float,
    resumed: bool,
) -> dict[str, Any]:
    """Collect the content of `results.json` without the test."""
    args, state = recipe.training, trainer.state
    return {
        "seed": args.seed,
        "processes": args.world_size,
        "steps": state.global_step,
        "seconds": round(seconds, 1),
        "resumed": resumed,  # then `seconds` are those of the last process
        "changed_when_resumed": trainer.changed,
        "selected_step": state.best_global_step,
        "fingerprint": trainer.published.fingerprint(),
        "recipe": recipe.describe(),
        "teachers": _teachers(recipe),
        "data": {"name": _public_name(recipe.data.train_data), **train.describe()},
        "encoders": encoders,
        "history": state.log_history,
        "machine": machine(),
        "versions": versions(),
    }


def _save(trainer: OSKDFTTrainer, results: dict[str, Any], *measured: Measurement | None) -> None:
    """Write student, results and what was measured before the test, so that no error of the test loses them."""
    args = trainer.args
    if args.should_save:
        trainer.save_model(_internal_call=True)
        save_measurements(args.output_dir, *measured)
        write_json(results, Path(args.output_dir, RESULTS_NAME))


def _teachers(recipe: Recipe) -> dict[str, Any]:
    """Name the encoder that the student was cut from, and the teachers of each distillation."""
    student = recipe.student
    names: dict[str, Any] = {"student_from": name_of_model(student.student_from or student.teacher)}
    if recipe.objectives.distil_states:
        names["hidden_states"] = name_of_model(student.teacher)
    if student.embedding_teachers:
        names["embeddings"] = [name_of_model(name) for name in student.embedding_teachers]
    return names


def _public_name(source: str) -> str:
    """Return the name of data for a card: the last part of a path, or a repository as it is."""
    return source if "://" in source else Path(source).resolve().name
