"""Distil and fine-tune a speech encoder into a speaker verifier, in one run.

    accelerate launch train_oskdft.py RECIPE.yaml [--field value ...]

The recipe names a teacher, its layers that the student keeps, both losses, the data and the schedules; see
examples/recipes. The run ends with the best checkpoint in `output_dir`, loadable by `AutoModel.from_pretrained`, and
`results.json` beside it. `--resume_from_checkpoint last` goes on after an interruption, with the same bits; `auto`
does so where there is a checkpoint, and begins where there is none. On one process, `oskdft train RECIPE.yaml` is the
same.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, PreTrainedConfig, PreTrainedModel, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from modeling_oskdft import OSKDFTConfig, OSKDFTTrainer, init_student_from_teacher
from modeling_oskdft.audio.augmentation import WaveformAugmentation
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.parallel import end_with_parent
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.splits import refuse_common_speakers, split_by_speaker, warn_about_single_utterances
from modeling_oskdft.data.trials import check_labels, make_trials, read_trials
from modeling_oskdft.embedding.locations import check_name
from modeling_oskdft.embedding.opening import INSTALLED_CODE
from modeling_oskdft.errors import first_line, one_sentence_errors
from modeling_oskdft.evaluation.cost import compare_encoders
from modeling_oskdft.evaluation.report import report_scores, reports_by, speakers_of, trial_scores
from modeling_oskdft.files import check_writable, write_json
from modeling_oskdft.provenance import machine, versions
from modeling_oskdft.student.initialization import evenly_spaced_layers
from modeling_oskdft.training.arguments import Recipe, read_recipe, recipe_parser
from modeling_oskdft.training.callbacks.progress import first_lines, last_lines, say
from modeling_oskdft.training.joint_model import SpecMask
from modeling_oskdft.training.locking import locked_folder
from modeling_oskdft.training.processes import ended_process_group


def train(recipe: Recipe) -> dict[str, Any]:
    """Run a recipe; returns what `results.json` says. One run at a time can have an `output_dir`."""
    args = recipe.training
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a launcher that was killed leaves its processes running
        end_with_parent(signal.SIGTERM)
    with ended_process_group():
        if not args.should_save:
            return _train(recipe)
        check_writable(Path(args.output_dir, "results.json"))
        with locked_folder(args.output_dir):
            return _train(recipe)


def _train(recipe: Recipe) -> dict[str, Any]:
    args, data = recipe.training, recipe.data
    checkpoint = checkpoint_to_resume(args.output_dir, args.resume_from_checkpoint)
    if args.push_to_hub and not learns_speakers(recipe):
        raise ValueError(
            "push_to_hub with speaker_objective none: its head has learnt nothing; publish the second step."
        )
    set_seed(args.seed)

    # The teacher, and the student cut out of it.
    teacher, feature_extractor = load_teacher(recipe.student.teacher)
    student = init_student_from_teacher(teacher, student_config(recipe, teacher.config), recipe.student.student_start)

    # Speakers to learn from, and speakers set aside to choose the best checkpoint with.
    manifest = load_manifest(data.train_data, data.train_split, data.data_root, data.max_damaged_files, data.layout)
    train_manifest, validation = split_by_speaker(
        manifest, data.validation_fraction, args.seed if args.data_seed is None else args.data_seed
    )
    warn_about_single_utterances(train_manifest)
    test = load_test(recipe, manifest) if data.test_trials and learns_speakers(recipe) else None
    encoders = compare_encoders(teacher, student) if args.should_save else {}

    # One run: kd_weight(t) * kd_loss on one path, ft_loss on the other.
    trainer = OSKDFTTrainer(
        student=student,
        args=args,
        train=train_manifest,
        feature_extractor=feature_extractor,
        objective_arguments=recipe.objectives,
        teacher=teacher if recipe.objectives.kd_weight else None,
        validation=validation,
        trials=make_trials(validation.by_speaker(), most=data.validation_trials),
        augmentation=augmentation(recipe),
        spec_mask=spec_mask(recipe),
        crop_seconds=data.crop_seconds,
        max_damaged=data.max_damaged_files,
        speeds=data.speed_perturbation or (),
        labelled=labelled_speakers(recipe, train_manifest),
        teacher_hears=data.teacher_hears,
    )
    if args.start_from and checkpoint is None:
        trainer.start_from(args.start_from)
    if args.should_save:
        say(first_lines(trainer, train_manifest, validation, checkpoint))
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.perf_counter() - start
    if trainer.stopper.received:
        if args.should_save:
            saved = Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}").is_dir()
            what = "a checkpoint was saved; go on with --resume_from_checkpoint last" if saved else "nothing was saved"
            say([f"stopped at step {trainer.state.global_step} of {trainer.planned_steps()}: {what}."])
        raise SystemExit(128 + trainer.stopper.signal)

    # The table: trials that chose nothing, read once.
    results: dict[str, Any] = {
        "seed": args.seed,
        "processes": args.world_size,
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "resumed": checkpoint is not None,  # then the seconds are those of the last process
        "changed_when_resumed": trainer.changed,
        "selected_step": trainer.state.best_global_step,
        "selection_eer": trainer.selection_eer(),
        "fingerprint": trainer.published.fingerprint(),
        "recipe": recipe.describe(),
        "data": {"name": _public_name(data.train_data), **train_manifest.describe()},
        "encoders": encoders,
        "history": trainer.state.log_history,
        "machine": machine(),
        "versions": versions(),
    }
    thresholds = trainer.measure_thresholds() if learns_speakers(recipe) else None
    if args.should_save:
        trainer.save_model(_internal_call=True)
        if thresholds is not None:
            thresholds.save(args.output_dir)
        write_json(results, Path(args.output_dir, "results.json"))  # whatever becomes of the test
    if test is not None:
        trials = read_trials(data.test_trials or "")
        workers = args.dataloader_num_workers
        scores = trial_scores(
            trainer.published, feature_extractor, test, trials, data.test_scoring, num_workers=workers
        )
        results["test"] = {
            "name": Path(data.test_trials or "").stem,
            **report_scores(scores, trials, speakers_of(test)).as_dict(),
            **{f"by_{column}": reports_by(column, scores, trials, test) for column in ("gender", "language")},
        }
    if args.should_save:
        write_json(results, Path(args.output_dir, "results.json"))
        say(last_lines(results, thresholds, args.output_dir, args.push_to_hub))
    if thresholds is not None:
        trainer.push_to_hub() if args.push_to_hub else trainer.create_model_card()
    return results


def _public_name(source: str) -> str:
    """Of data: the file or the folder that holds them, without the path of this machine; a repository as it is."""
    return source if "://" in source else Path(source).resolve().name


def load_teacher(name: str) -> tuple[PreTrainedModel, Any]:
    """The teacher's encoder in float32 and its feature extractor, which must hand on a mask."""
    load_teacher_config(name)
    with no_teacher_said(name):
        model = AutoModel.from_pretrained(name, dtype="float32", **INSTALLED_CODE)
        feature_extractor = AutoFeatureExtractor.from_pretrained(name, **INSTALLED_CODE)
    feature_extractor.return_attention_mask = True
    return model, feature_extractor


def load_teacher_config(name: str) -> PreTrainedConfig:
    """The teacher's configuration. Raises `ValueError` for no name or a family that is not supported."""
    if not name:
        raise ValueError(
            "The recipe names no teacher: set teacher to a folder or a repository, e.g. facebook/hubert-base-ls960."
        )
    with no_teacher_said(name):
        check_name(name)
        config = AutoConfig.from_pretrained(name, **INSTALLED_CODE)
    OSKDFTConfig.from_teacher(config, [0])  # an unsupported family ends here
    return config


@contextmanager
def no_teacher_said(name: str) -> Iterator[None]:
    """Turn the loading errors of transformers into one sentence that names the teacher."""
    try:
        yield
    except Exception as error:  # a folder from elsewhere can make anything fail
        reason = first_line(error)
        if isinstance(error, OSError):
            raise FileNotFoundError(f"There is no teacher at '{name}' ({reason}): check the name.") from None
        raise ValueError(f"The teacher at '{name}' cannot be opened ({reason}): check the folder.") from error


def student_config(recipe: Recipe, teacher: PreTrainedConfig) -> OSKDFTConfig:
    """The student's configuration, from the teacher's and the recipe's fields."""
    layers = recipe.student.layers or [0, 1]
    if recipe.student.evenly_spaced_layers is not None:
        if recipe.student.layers:
            raise ValueError("The recipe gives layers and evenly_spaced_layers: give one of them.")
        depth = teacher.num_hidden_layers
        layers = evenly_spaced_layers(depth, recipe.student.evenly_spaced_layers or depth)
    fields = recipe.student.shape_fields() | recipe.student_config_fields()
    return OSKDFTConfig.from_teacher(teacher, layers, **fields)


def load_test(recipe: Recipe, train_manifest: Manifest) -> Manifest:
    """The data of the final table; refused when it shares a speaker with the training data."""
    data = recipe.data
    source, root = (data.test_data, data.test_root) if data.test_data else (data.train_data, data.data_root)
    layout = "auto" if data.test_data else data.layout
    test = load_manifest(source, data.test_split, root, data.max_damaged_files, layout)
    listed = read_trials(data.test_trials or "")
    trials = set(listed.utterances())
    test = test.where("utterance_id", [one for one in test.column("utterance_id") if one in trials])
    missing = sorted(trials - set(test.column("utterance_id")))
    if missing:
        raise ValueError(
            f"'{data.test_trials}' names {len(missing)} recordings that '{source}' lacks or that cannot be read, "
            f"'{missing[0]}' first: restore them, or name the data that belong to the list."
        )
    check_labels(listed, speakers_of(test), data.test_trials or "")
    refuse_common_speakers(train_manifest, test)
    return test


def learns_speakers(recipe: Recipe) -> bool:
    """Whether the run trains a head; distillation alone leaves one whose error rates mean nothing."""
    return recipe.objectives.speaker_objective != "none"


def labelled_speakers(recipe: Recipe, train_manifest: Manifest) -> list[str] | None:
    """The speakers that are classes, drawn by the seed; None for all."""
    fraction = recipe.data.labelled_fraction
    return None if fraction == 1 else split_by_speaker(train_manifest, fraction, recipe.training.seed)[1].speakers


def augmentation(recipe: Recipe) -> WaveformAugmentation | None:
    """What the student's input goes through, where the recipe asks for anything."""
    data = recipe.data
    roots = (data.noise_root, data.rir_root)
    extras = (data.clipping_probability, data.envelope_probability, data.gain_probability, data.codec_probability)
    if not any((*roots, *extras)):
        return None
    return WaveformAugmentation(*roots, data.augment_probability, *extras)


def spec_mask(recipe: Recipe) -> SpecMask | None:
    """What hides parts of the head's input, where the recipe asks for it."""
    data = recipe.data
    if not data.spec_mask_probability:
        return None
    return SpecMask(data.spec_mask_probability, data.spec_mask_features, data.spec_mask_frames)


def checkpoint_to_resume(output_dir: str, asked: str | None) -> str | None:
    """The checkpoint to go on from. Refuses to start anew in a folder that already holds a run, and the other way."""
    last = get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None
    if asked is None and last is not None:
        raise ValueError(
            f"'{output_dir}' already holds '{Path(last).name}': go on with --resume_from_checkpoint last, or give "
            "another output_dir."
        )
    if asked == "last" and last is None:
        raise FileNotFoundError(
            f"There is no checkpoint in '{output_dir}' to go on from: check output_dir, or begin with "
            "--resume_from_checkpoint auto, which goes on where there is one."
        )
    if asked not in ("last", "auto", None) and not Path(asked).is_dir():
        raise FileNotFoundError(f"There is no checkpoint at '{asked}': give its folder, last, or auto.")
    return last if asked in ("last", "auto") else asked


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Read the recipe, run it, say what came of it."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        recipe_parser().print_help()
        return 0
    recipe = read_recipe(words)
    train(recipe)
    if recipe.training.should_save:
        print(f"The student is in '{recipe.training.output_dir}'.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
