"""Train classifiers by the one step, and compare them with fine-tuning alone and with a verifier's embeddings.

Three columns of the small real speech: gender; child or adult; language, which is nearly the corpus here, so that its
rates say more about microphones than about languages. For each, a recipe is run twice, with distillation and without;
and a logistic regression reads the embeddings of the small student, which was trained to tell speakers apart. All are
tested on recordings of speakers that nobody trained on. Rates have 95 % intervals by bootstrap over speakers.

    python train_oskdft.py examples/recipes/small_speech.yaml
    python examples/other_tasks.py
    python examples/other_tasks.py --tasks gender --epochs 2

It needs the folder of real speech beside the project. It writes docs/results/other_tasks.json and .md; about 20
minutes a task on two CPU cores. Tasks that are not named keep the results that are stored.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import AutoFeatureExtractor, AutoModel

from modeling_oskdft.data.crops import classes_of
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.embedding.corpus import extract_embeddings
from modeling_oskdft.evaluation.report import speakers_of
from modeling_oskdft.files import read_json, whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.classification import class_report
from modeling_oskdft.training.class_validation import LabelledDataset

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT.parent / "shared" / "data" / "speech" / "manifest.csv"
RUNS, RESULTS = ROOT / "runs" / "other_tasks", ROOT / "docs" / "results" / "other_tasks"
STUDENT = ROOT / "runs" / "small_speech" / "student"
RECIPE = ROOT / "examples" / "recipes" / "small_speech_gender.yaml"
TASKS = {"gender": "gender", "age_group": "child or adult", "language": "language (nearly the corpus)"}
WAYS = {
    "one_step": "one step: distilled and fine-tuned",
    "fine_tuned": "fine-tuned alone",
    "verifier": "the verifier's embeddings, logistic regression",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tasks, and write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="columns (default: all)")
    parser.add_argument("--epochs", type=float, default=4.0, help="epochs of each run")
    options = parser.parse_args(arguments)
    if not SPEECH.is_file():
        sys.exit("The folder of real speech is not beside the project.")
    data = prepare(RUNS / "data.parquet")
    stored = read_json(RESULTS.with_suffix(".json")) if RESULTS.with_suffix(".json").is_file() else {"tasks": {}}
    for task in options.tasks:
        stored["tasks"][task] = {"epochs": options.epochs, "seed": 0, **run_task(task, data, options.epochs)}
    results = {"name": "other_tasks", "tasks": stored["tasks"], "machine": machine(), "versions": versions()}
    write_json(results, RESULTS.with_suffix(".json"))
    with whole_file(RESULTS.with_suffix(".md")) as file:
        file.write_text(page(results), encoding="utf-8")


def prepare(path: Path) -> Path:
    """Write the manifest of the real speech, in which an unknown value is none."""
    manifest = load_manifest(SPEECH)
    table = manifest.table
    for name in TASKS:
        values = [None if value == "unknown" else value for value in table.column(name).to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    path.parent.mkdir(parents=True, exist_ok=True)
    Manifest(table, manifest.root).save(path)
    return path


def run_task(task: str, data: Path, epochs: float) -> dict[str, Any]:
    """Train and test a task in every way; returns the reports by way."""
    reports = {"verifier": by_embeddings(task, data)}
    for way, options in {"one_step": [], "fine_tuned": ["--kd_weight", "0"]}.items():
        folder = RUNS / task / way
        words = ["--label_column", task, "--output_dir", folder, "--train_data", data, "--num_train_epochs", epochs]
        words += [*options, "--resume_from_checkpoint", "auto"]
        train = [sys.executable, ROOT / "train_oskdft.py", RECIPE, *words]
        subprocess.run([str(word) for word in train], check=True, cwd=ROOT)
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        reports[way] = results["test"] | {"seconds": results["seconds"], "steps": results["steps"]}
    return reports


def by_embeddings(task: str, data: Path) -> dict[str, Any]:
    """Fit a logistic regression on the embeddings of the small student, and test it."""
    from sklearn.linear_model import LogisticRegression

    model, extractor = AutoModel.from_pretrained(STUDENT).eval(), AutoFeatureExtractor.from_pretrained(STUDENT)
    train, test = (load_manifest(data, split) for split in ("train", "validation"))
    classes = tuple(classes_of(train, task))
    features, labels = [], []
    for manifest in (train, test):
        dataset = LabelledDataset(manifest, task, classes)
        embeddings, known = extract_embeddings(model, extractor, dataset.recordings), dataset.labels()
        rows = np.stack(list(embeddings.values()))
        features.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        labels.append([known[name] for name in embeddings])
        speaker_of = speakers_of(dataset.recordings)
        speakers = [speaker_of[name] for name in embeddings]
    regression = LogisticRegression(class_weight="balanced", max_iter=1000).fit(features[0], labels[0])
    predicted = regression.predict(features[1])
    return class_report(predicted, labels[1], speakers, classes)


def page(results: dict[str, Any]) -> str:
    """Write the results as a page."""
    lines = [
        "| task | way | UAR, % | accuracy, % | macro F1, % | steps |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for task, ways in results["tasks"].items():
        for way, label in WAYS.items():
            report = ways[way]
            cells = [_percent(report, name) for name in ("uar", "accuracy", "macro_f1")]
            lines.append(f"| {TASKS[task]} | {label} | {' | '.join(cells)} | {report.get('steps', '–')} |")
    tests = "\n".join(
        f"- {TASKS[task]}: {ways['epochs']:g} epochs; {ways['one_step']['recordings']:,} recordings of "
        f"{ways['one_step']['speakers']} speakers, {', '.join(ways['one_step']['classes'])}"
        for task, ways in results["tasks"].items()
    )
    if "language" in results["tasks"]:
        tests += (
            "\n\nLanguages and corpora nearly coincide: that row says more about microphones than about languages."
        )
    return f"""# Other tasks

<!-- Written by examples/other_tasks.py from other_tasks.json: change that, not this. -->

    python examples/other_tasks.py

The one step for a classifier, beside fine-tuning the same cut student alone, and beside a logistic regression on the
embeddings of the small student, which was trained to tell speakers apart. Seed 0. Tested on speakers that nobody
trained on; 95 % intervals by bootstrap over speakers. {measured_on(results)}

{tests}

{chr(10).join(lines)}
"""


def _percent(report: dict[str, Any], name: str) -> str:
    low, high = report[f"{name}_interval"]
    return f"{100 * report[name]:.1f} ({100 * low:.1f}–{100 * high:.1f})"


if __name__ == "__main__":
    main()
