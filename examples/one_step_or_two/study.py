r"""Compare one training step with two: train every system of this folder alike, and measure it on other speakers.

A system is a folder with a recipe over base.yaml; the recipe's first line is the system's name in the table. A system
without a stored result is trained by train_oskdft.py and scored. Then summary, page and plots are rendered from the
stored results.

    python -m examples.one_step_or_two.study --jobs 2
    python -m examples.one_step_or_two.study --results docs/results/voxceleb_study --epochs 40 \
        --data data/voxceleb/voxceleb2_dev.parquet --test_data data/voxceleb/voxceleb1_test.parquet \
        --trials data/voxceleb/voxceleb1_o_cleaned.txt --common examples/one_step_or_two/voxceleb.yaml

Further options are fields of a recipe, for all systems: they replace the fields of base.yaml and of --common, and a
system's own recipe replaces them. Without --data the study needs the folder of real speech and the small teacher
beside the project, and about three hours of two CPU cores.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging

from examples.one_step_or_two.page import TRIALS_NAME, render
from examples.one_step_or_two.systems import RECIPE, Study, as_fields, read_yaml
from examples.one_step_or_two.unpacking import unpacked
from modeling_oskdft.benchmark.plotting import curves_of
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.splits import refuse_common_speakers
from modeling_oskdft.data.trials import read_trials
from modeling_oskdft.errors import one_sentence_errors
from modeling_oskdft.evaluation.cost import count_parameters
from modeling_oskdft.evaluation.report import speakers_of, trial_scores
from modeling_oskdft.files import whole_file
from modeling_oskdft.provenance import machine, versions
from modeling_oskdft.scoring.metrics import equal_error_rate
from modeling_oskdft.training.inputs import student_config
from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.training.speech_encoders import load_origin_config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared"
CURVES = ("kd_loss", "ft_loss", "eval_eer")
ENVIRONMENT = dict(os.environ)  # of the runs
RUNNING: set[subprocess.Popen[bytes]] = set()


def finish(study: Study, system: str, seed: int) -> None:
    """Train the missing steps of a system, and store its result.

    Args:
        study: places and settings.
        system: name of the system.
        seed: of the run.

    Raises:
        ValueError: a stored result or a run was made with other settings.
    """
    result = study.result_of(system, seed)
    if result.is_file():
        _check_digest(json.loads(result.read_text(encoding="utf-8")).get("digest"), study.digest(system), result)
        return
    for step in study.chain(system):
        for run in (*study.teachers_of(step, seed), (step, seed)):
            with study.locks[run]:
                train(study, *run)
    measured = measure(study, system, seed)
    with whole_file(result) as file:
        file.write_text(json.dumps(measured) + "\n", encoding="utf-8")
    print(f"{system}, seed {seed}: EER {100 * measured['eer']:.1f} %", file=sys.stderr, flush=True)


def train(study: Study, system: str, seed: int) -> None:
    """Run the training script once; a run that was interrupted goes on, and a run that has ended is left.

    Args:
        study: places and settings.
        system: name of the system, or of a first step.
        seed: of the run.

    Raises:
        ValueError: the run was made with other settings, another process is training there, or the script failed.
    """
    run, digest = study.run_of(system, seed), study.digest(system)
    run.mkdir(parents=True, exist_ok=True)
    with _alone_in(run) as lock:
        made_with = run / "digest.txt"
        if made_with.is_file():
            _check_digest(made_with.read_text(encoding="utf-8"), digest, run)
        with whole_file(made_with) as file:
            file.write_text(digest, encoding="utf-8")
        if (run / "results.json").is_file():
            return
        options = ["--output_dir", run, "--seed", seed, "--train_data", study.data, "--resume_from_checkpoint", "auto"]
        options += ["--num_train_epochs", study.epochs_of(system), "--report_to", "none", *study.options_of(system)]
        earlier = study.recipe_of(system).get("start_from")
        options += ["--start_from", study.run_of(earlier, seed)] if earlier else []
        teachers = [study.run_of(*taught) for taught in study.teachers_of(system, seed)]
        options += ["--embedding_teachers", *teachers] if teachers else []
        command = [sys.executable, ROOT / "train_oskdft.py", study.folder / system / RECIPE, *options]
        _run([str(argument) for argument in command], run / "log.txt", lock)


def _check_digest(stored: str | None, wanted: str, place: Path) -> None:
    if stored != wanted:
        raise ValueError(
            f"'{place}' was made with another recipe, other options, data or trials: remove it, or give other "
            "--results."
        )


@contextmanager
def _alone_in(run: Path) -> Iterator[IO[str]]:
    """Hold the run's lock; a training process that outlives the study keeps it."""
    with (run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"Another process is training in '{run}': wait for it, or end it.") from None
        yield lock


def _run(command: list[str], log: Path, lock: IO[str]) -> None:
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, pass_fds=(lock.fileno(),), env=ENVIRONMENT)
        RUNNING.add(process)
        try:
            ended = process.wait()
        finally:
            RUNNING.discard(process)
    if ended:
        last = "".join(log.read_text(encoding="utf-8").strip().splitlines()[-1:])
        raise ValueError(f"The run in '{log.parent}' ended with: {last} See '{log}'.")


def measure(study: Study, system: str, seed: int) -> dict[str, Any]:
    """Score a run on the trials, which are read here and nowhere else.

    Args:
        study: places and settings.
        system: name of the system.
        seed: of the run.

    Returns:
        The result to store: scores, EER, sizes, curves and settings.
    """
    run = study.run_of(system, seed)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    verifier = AutoModel.from_pretrained(run).eval().to(device)
    trials = read_trials(study.trials)
    manifest = load_manifest(study.test_data, study.test_split)
    scores = trial_scores(verifier, AutoFeatureExtractor.from_pretrained(run), manifest, trials)
    steps = [json.loads((study.run_of(step, seed) / "results.json").read_text()) for step in study.chain(system)]
    config = verifier.config.to_dict()
    return {
        "system": system,
        "label": study.label(system),
        "seed": seed,
        "digest": study.digest(system),
        "eer": equal_error_rate(scores, trials.labels).value,
        "steps": sum(step["steps"] for step in steps),
        "seconds": None if any(step["resumed"] for step in steps) else sum(step["seconds"] for step in steps),
        "selected_step": steps[-1]["selected_step"],
        "selection_eer": steps[-1]["selection_eer"],
        "parameters": count_parameters(verifier),
        "encoder_parameters": count_parameters(verifier.oskdft),
        "config": {name: value for name, value in config.items() if not name.startswith(("_", "auto_map"))},
        "curves": {name: points for name, points in curves_of(steps[-1]["history"]).items() if name in CURVES},
        "train": steps[-1]["data"],
        "machine": machine(),
        "versions": versions(),
        "scores": [round(float(score), 4) for score in scores],
    }


def prepare(study: Study, systems: list[str]) -> None:
    """Check before the first run that every student can be built and that no speaker is in both sets of data.

    It also stores labels and speakers of the trials beside the results, because rendering needs them.

    Args:
        study: places and settings.
        systems: names of the systems to run.

    Raises:
        ValueError: a student cannot be built, or a speaker of the trials is in the training data.
    """
    for system in {step for name in systems for step in study.chain(name)}:
        options = ["--output_dir", str(study.runs), *map(str, study.options_of(system))]
        recipe = read_recipe([str(study.folder / system / RECIPE), *options])
        teacher = load_origin_config(recipe.student.teacher)
        try:
            student_config(recipe, teacher)
        except ValueError as error:
            raise ValueError(f"The system {system} cannot be built: {error}") from None
    trials = read_trials(study.trials)
    test = load_manifest(study.test_data, study.test_split).where("utterance_id", trials.utterances())
    refuse_common_speakers(load_manifest(study.data, recipe.data.train_split, recipe.data.data_root), test)
    pairs = trials.speakers(speakers_of(test))
    with whole_file(study.results / TRIALS_NAME) as file:
        file.write_text(json.dumps({"labels": trials.labels.tolist(), "speakers": pairs}) + "\n", encoding="utf-8")


def run_all(study: Study, systems: list[str], seeds: list[int], jobs: int) -> list[str]:
    """Run every system that has no result; a signal that ends the study ends the runs as well.

    Args:
        study: places and settings.
        systems: names of the systems.
        seeds: of the runs.
        jobs: runs at the same time.

    Returns:
        A sentence for each run that failed.
    """
    failures = []
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(finish, study, system, seed) for seed in seeds for system in systems]
        try:
            for run in runs:
                try:
                    run.result()
                except (ValueError, OSError) as error:
                    failures.append(str(error))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                process.send_signal(signal.SIGTERM)  # each saves a checkpoint
            raise
    return failures


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; returns the study's own options, and the others for the training script."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        prog="python -m examples.one_step_or_two.study",
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only render")
    parser.add_argument("--systems", nargs="*", help="folders to run; all by default")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the systems lie")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results" / "one_step_or_two")
    parser.add_argument("--runs", type=Path, help="runs/NAME OF THE RESULTS by default")
    parser.add_argument("--data", help="as train_data of a recipe")
    parser.add_argument("--test_data", help="data of the trials; the training data's by default")
    parser.add_argument("--test_split", help="rows of it whose split is this one")
    parser.add_argument("--trials", type=Path, help="trial list of speakers that nobody trains on")
    parser.add_argument("--common", type=Path, help="YAML file of fields for all systems: teacher, noise_root, rates")
    parser.add_argument("--epochs", type=float, default=2.0, help="of a system whose recipe has no other number")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    return parser.parse_known_args(arguments)


def study_of(chosen: argparse.Namespace, fields: list[str]) -> Study:
    """Make the study of a command line; without data, that of the small real speech, which is unpacked first.

    Args:
        chosen: the study's own options.
        fields: options for all systems.

    Raises:
        FileNotFoundError: there is no data given and no small real speech.
        ValueError: data was given without trials, or a field that the study sets itself.
    """
    runs = (chosen.runs or ROOT / "runs" / chosen.results.name).resolve()
    common = (read_yaml(chosen.common) if chosen.common else {}) | as_fields(fields)
    if chosen.data is None:
        if not SHARED.is_dir():
            raise FileNotFoundError("The folder of real speech is not beside the project: give --data and --trials.")
        speech, noise = (unpacked(SHARED / "data" / name, runs / "audio" / name) for name in ("speech", "noise"))
        chosen.data = chosen.test_data = str(speech / "manifest.csv")
        chosen.trials, chosen.test_split = speech / "trials_validation.txt", "validation"
        places = {
            "teacher": SHARED / "models" / "hubert-mini",
            "noise_root": noise,
            "rir_root": SHARED / "data" / "rir",
        }
        common = {name: str(place) for name, place in places.items()} | {"train_split": "train"} | common
    elif chosen.trials is None:
        raise ValueError("--data was given without --trials: give the trial list of the table as well.")
    return Study(
        folder=chosen.folder.resolve(),
        results=chosen.results,
        runs=runs,
        data=chosen.data,
        test_data=chosen.test_data or chosen.data,
        test_split=chosen.test_split,
        trials=chosen.trials,
        epochs=chosen.epochs,
        common=common,
    )


def end_by_signal(number: int, _: object) -> None:
    """Turn SIGTERM into an exception, so that the study can end its runs."""
    raise SystemExit(128 + number)


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the systems that have no result, then render; returns 2 where a run failed."""
    logging.disable_progress_bar()
    chosen, fields = parse(arguments)
    failures = []
    # Runs beside each other share the cores: with a thread a core for each of them, all wait for each other.
    threads = max((os.cpu_count() or 1) // chosen.jobs, 1)
    ENVIRONMENT.setdefault("OMP_NUM_THREADS", str(threads))
    if chosen.seeds:
        study = study_of(chosen, fields)
        systems = study.with_a_row(chosen.systems)
        prepare(study, systems)
        failures = run_all(study, systems, chosen.seeds, chosen.jobs)
    for failure in failures:
        print(f"oskdft: {failure}", file=sys.stderr)
    if not failures or any(chosen.results.glob("*-*.json")):
        render(chosen.results)
    return 2 if failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end_by_signal)
    sys.exit(main())
