r"""Does one step beat two? Every system of this folder, trained alike, measured on speakers that nobody trained on.

A system is a folder with a recipe over base.yaml; its first line says what it is. What has no stored result yet is
trained by train_oskdft.py and scored; then the page, the plots and the table are rendered from what is stored.

    python -m examples.one_step_or_two.study --jobs 2
    python -m examples.one_step_or_two.study --epochs 20 --data voxceleb.parquet --trials voxceleb1_o.txt \
        --test_data voxceleb1.parquet --results docs/results/voxceleb --teacher facebook/hubert-base-ls960

What follows the options of the study goes to the training script, for every system. Without arguments it wants the
folder of real speech and the small teacher beside the project, and about three hours of two CPU cores.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging

from examples.one_step_or_two.page import render
from examples.one_step_or_two.unpacking import unpacked
from modeling_oskdft.benchmark.measure import count_parameters, machine, versions, write_json
from modeling_oskdft.cli import one_sentence_errors
from modeling_oskdft.data.manifest import load_manifest
from modeling_oskdft.evaluation.metrics import equal_error_rate
from modeling_oskdft.evaluation.report import speakers_of, trial_scores
from modeling_oskdft.evaluation.scoring import read_trials

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared"
BASE = "base.yaml"
CURVES = ("kd_loss", "ft_loss", "eval_eer")


@dataclass
class Study:
    """Where everything lies, and what all systems get.

    data: manifest of the training speakers; test_data, test_split, trials: what the table is made of; words: options
    for the training script; epochs: those of base.yaml, other numbers in recipes change in proportion.
    """

    results: Path
    runs: Path
    data: str
    test_data: str
    test_split: str | None
    trials: str
    epochs: float
    words: list[str]
    systems: Path = HERE
    locks: dict[tuple[str, int], threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def recipe(self, system: str) -> dict[str, str]:
        """What a system's own recipe says, as text."""
        text = (self.systems / system / "recipe.yaml").read_text(encoding="utf-8")
        return yaml.load(text, Loader=yaml.BaseLoader)

    def label(self, system: str) -> str:
        """The first line of its recipe."""
        return (self.systems / system / "recipe.yaml").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")

    def run_of(self, system: str, seed: int) -> Path:
        """The folder of a run."""
        return self.runs / f"seed-{seed}" / system

    def result_of(self, system: str, seed: int) -> Path:
        """The stored result of a run."""
        return self.results / f"{system}-{seed}.json"

    def epochs_of(self, system: str) -> float:
        """In proportion to base.yaml's."""
        base = yaml.load((self.systems / BASE).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)["num_train_epochs"]
        return self.epochs * float(self.recipe(system).get("num_train_epochs", base)) / float(base)

    def chain(self, system: str) -> Iterator[str]:
        """The system itself and, before it, those that it starts from."""
        earlier = self.recipe(system).get("start_from")
        if earlier:
            yield from self.chain(earlier)
        yield system

    def has_a_row(self, system: str) -> bool:
        """Whether it verifies; a first step has learnt no speakers yet."""
        return self.recipe(system).get("speaker_objective") != "none"


def systems_in(folder: Path) -> list[str]:
    """The folders with a recipe, in order."""
    return sorted(recipe.parent.name for recipe in folder.glob("*/recipe.yaml"))


def finish(study: Study, system: str, seed: int) -> None:
    """Train what is missing of one system and store its result."""
    if study.result_of(system, seed).is_file():
        return
    for part in study.chain(system):
        with study.locks[part, seed]:
            if not (study.run_of(part, seed) / "results.json").is_file():
                train(study, part, seed)
    write_json(measure(study, system, seed), study.result_of(system, seed))
    print(f"{system}, seed {seed}: done", file=sys.stderr, flush=True)


def train(study: Study, system: str, seed: int) -> None:
    """One run of the training script, from its last checkpoint where it was interrupted."""
    run = study.run_of(system, seed)
    run.mkdir(parents=True, exist_ok=True)
    words = ["--output_dir", run, "--seed", seed, "--train_data", study.data, "--resume_from_checkpoint", "last"]
    words += ["--num_train_epochs", study.epochs_of(system), "--report_to", "none", *study.words]
    earlier = study.recipe(system).get("start_from")
    if earlier:
        words += ["--start_from", study.run_of(earlier, seed)]
    command = [sys.executable, ROOT / "train_oskdft.py", study.systems / system / "recipe.yaml", *words]
    with (run / "log.txt").open("a", encoding="utf-8") as log:
        ended = subprocess.run([str(word) for word in command], cwd=ROOT, stdout=log, stderr=log, check=False)
    if ended.returncode:
        last = (run / "log.txt").read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise ValueError(f"The run of {system}, seed {seed}, ended with: {''.join(last)} See '{run / 'log.txt'}'.")


def measure(study: Study, system: str, seed: int) -> dict[str, Any]:
    """What is stored of a run: its scores on the trials, read here and nowhere else, and how it came about."""
    run = study.run_of(system, seed)
    verifier = AutoModel.from_pretrained(run).eval()
    trials = read_trials(study.trials)
    manifest = load_manifest(study.test_data, study.test_split)
    scores = trial_scores(verifier, AutoFeatureExtractor.from_pretrained(run), manifest, trials)
    told = [json.loads((study.run_of(part, seed) / "results.json").read_text()) for part in study.chain(system)]
    config = verifier.config.to_dict()
    return {
        "system": system,
        "label": study.label(system),
        "seed": seed,
        "eer": equal_error_rate(scores, trials.labels).value,
        "steps": sum(one["steps"] for one in told),
        "seconds": sum(one["seconds"] for one in told),
        "selected_step": told[-1]["selected_step"],
        "selection_eer": told[-1]["selection_eer"],
        "parameters": count_parameters(verifier),
        "encoder_parameters": count_parameters(verifier.oskdft),
        "config": {name: value for name, value in config.items() if not name.startswith(("_", "auto_map"))},
        "curves": curves(told[-1]["history"]),
        "train": told[-1]["data"],
        "machine": machine(),
        "versions": versions(),
        "scores": [round(float(score), 4) for score in scores],
    }


def curves(history: list[dict[str, float]]) -> dict[str, list[list[float]]]:
    """Name to (epoch, value) points, of the Trainer's log."""
    return {
        name: [[round(one["epoch"], 3), round(one[name], 4)] for one in history if name in one]
        for name in CURVES
        if any(name in one for one in history)
    }


def trial_speakers(study: Study) -> tuple[list[int], list[tuple[str, str]]]:
    """Labels of the trials, and the speakers of both recordings of each."""
    trials = read_trials(study.trials)
    speaker_of = speakers_of(load_manifest(study.test_data, study.test_split))
    pairs = [(speaker_of[a], speaker_of[b]) for a, b in zip(trials.enrolments, trials.tests, strict=True)]
    return trials.labels.tolist(), pairs


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The study's own options, and the rest, for the training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only render")
    parser.add_argument("--systems", nargs="*", help="folders to run; all by default")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the systems lie")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results" / "one_step_or_two")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "one_step_or_two")
    parser.add_argument("--data", help="as train_data of a recipe")
    parser.add_argument("--test_data", help="data of the trials; the training data's by default")
    parser.add_argument("--test_split", help="rows of it whose split is this one")
    parser.add_argument("--trials", type=Path, help="trial list of speakers that nobody trains on")
    parser.add_argument("--epochs", type=float, default=2.0, help="of a system that does not say another number")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    return parser.parse_known_args(arguments)


def study_of(chosen: argparse.Namespace, words: list[str]) -> Study:
    """With the data of the command line, or the small real speech, unpacked once because decoding it is slow."""
    if chosen.data is None:
        if not SHARED.is_dir():
            raise FileNotFoundError("The folder of real speech is not beside the project: give --data and --trials.")
        audio = chosen.runs / "audio"
        speech, noise = (unpacked(SHARED / "data" / name, audio / name) for name in ("speech", "noise"))
        chosen.data = chosen.test_data = str(speech / "manifest.csv")
        chosen.trials, chosen.test_split = speech / "trials_validation.txt", "validation"
        own = {"teacher": SHARED / "models" / "hubert-mini", "train_split": "train", "noise_root": noise.resolve()}
        own["rir_root"] = SHARED / "data" / "rir"
        words = [*(str(word) for name, value in own.items() for word in (f"--{name}", value)), *words]
    elif chosen.trials is None:
        raise ValueError("--data was given without --trials: give the trial list of the table as well.")
    return Study(
        results=chosen.results,
        runs=chosen.runs.resolve(),
        data=str(Path(chosen.data).resolve()),
        test_data=str(Path(chosen.test_data or chosen.data).resolve()),
        test_split=chosen.test_split,
        trials=str(chosen.trials),
        epochs=chosen.epochs,
        words=words,
        systems=chosen.folder.resolve(),
    )


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then render."""
    logging.disable_progress_bar()
    chosen, words = parse(arguments)
    study = study_of(chosen, words)
    known = systems_in(study.systems)
    wanted = [one for one in chosen.systems or known if study.has_a_row(one)]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        runs = [pool.submit(finish, study, system, seed) for seed in chosen.seeds for system in wanted]
        try:
            for run in runs:
                run.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    render(study.results, *trial_speakers(study))
    return 0


if __name__ == "__main__":
    sys.exit(main())
