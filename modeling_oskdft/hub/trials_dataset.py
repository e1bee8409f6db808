"""Prepare trial lists as a dataset of the Hub: the lists and their hashes, without any audio.

`eval.yaml` names a task for each list, so that models state their results on it: see `eval_results`. A list is written
as Parquet, which the Hub shows, and as the text that was given, whose hash is that of the published file.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.prepare_voxceleb import TRIAL_LISTS
from ..data.trials import Trials, read_trials
from ..files import sha256_of, whole_file, write_json

HASHES_NAME, EVAL_NAME, PAGE_NAME = "hashes.json", "eval.yaml", "README.md"
TITLES = {Path(published.name).stem: published.title for published in TRIAL_LISTS}
# Of the page of the data set: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/
SOURCE = (
    "The lists of VoxCeleb1 are by Nagrani, Chung, Xie and Zisserman (CC BY 4.0): "
    "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"
)


def write_trials_dataset(lists: Sequence[str | Path], folder: str | Path, name: str) -> dict[str, dict[str, Any]]:
    """Write trial lists as the files of a dataset.

    Args:
        lists: files of `label enrol test` lines; a task has the name of its file.
        folder: folder to write to.
        name: name of the dataset on its page.

    Returns:
        By task: trials, target_trials, utterances, and the SHA-256 of the file.

    Raises:
        ValueError: for no lists, two of one name, a folder with files of others, and as `read_trials` does.
        FileNotFoundError: for a list that does not exist.
    """
    files = {Path(file).stem: Path(file) for file in lists}
    if not files or len(files) < len(lists):
        raise ValueError(f"{len(lists)} trial lists were given: one or more are needed, each with a name of its own.")
    read = {task: read_trials(file) for task, file in files.items()}
    place = Path(folder)
    _check_place(place)
    for kind, suffix in (("data", "parquet"), ("lists", "txt")):  # of an earlier call with other lists
        for stale in (place / kind).glob(f"*.{suffix}"):
            if stale.stem not in files:
                stale.unlink()
    facts: dict[str, dict[str, Any]] = {}
    for task, trials in read.items():
        for target in (place / "data" / f"{task}.parquet", place / "lists" / f"{task}.txt"):
            target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place / "data" / f"{task}.parquet") as table:
            pq.write_table(_table(trials), table)
        with whole_file(place / "lists" / f"{task}.txt") as text:
            text.write_bytes(files[task].read_bytes())
        facts[task] = {
            "trials": len(trials.labels),
            "target_trials": int(trials.labels.sum()),
            "utterances": len(trials.utterances()),
            "sha256": sha256_of(files[task]),
        }
    write_json(facts, place / HASHES_NAME)
    for file, page in ((EVAL_NAME, _eval_page(name, facts)), (PAGE_NAME, _page(name, facts))):
        with whole_file(place / file) as target:
            target.write_text(page, encoding="utf-8")
    return facts


def files_of_trials(tasks: Iterable[str]) -> list[str]:
    """List the files of a dataset of trials.

    Args:
        tasks: its tasks.
    """
    names = [PAGE_NAME, EVAL_NAME, HASHES_NAME]
    return [*names, *(name for task in tasks for name in (f"data/{task}.parquet", f"lists/{task}.txt"))]


def _check_place(place: Path) -> None:
    """Refuse a folder that has files, unless this module wrote them."""
    if place.is_dir() and any(place.iterdir()) and not (place / HASHES_NAME).is_file():
        raise ValueError(f"'{place}' has files of something else: name a folder that is new or empty.")


def _table(trials: Trials) -> pa.Table:
    return pa.table({"label": trials.labels.tolist(), "enrol": trials.enrolments, "test": trials.tests})


def _eval_page(name: str, facts: dict[str, dict[str, Any]]) -> str:
    """Write `eval.yaml`. JSON strings are YAML strings, whatever is in them."""
    lines = [
        f"name: {json.dumps(name)}",
        "description: Equal error rate of speaker verification, in %, on fixed trial lists; lower is better.",
        "evaluation_framework: oskdft",
        "tasks:",
    ]
    for task in facts:
        lines += [f"  - id: {json.dumps(task)}", f"    config: {json.dumps(task)}", "    split: test"]
    return "\n".join([*lines, ""])


def _page(name: str, facts: dict[str, dict[str, Any]]) -> str:
    """Write the page of the dataset, whose head tells the Hub which file belongs to which task."""
    head = ["---", f"pretty_name: {json.dumps(name)}", "tags:", "- speaker-verification", "- trials", "configs:"]
    for task in facts:
        head += [f"- config_name: {json.dumps(task)}", "  data_files:", "  - split: test"]
        head += [f"    path: {json.dumps(f'data/{task}.parquet')}"]
    of_voxceleb = [task for task in facts if task in TITLES]
    if len(of_voxceleb) == len(facts):
        head.insert(1, "license: cc-by-4.0")
    lines = [*head, "---", "", f"# {name}", ""]
    lines += [
        "Trial lists of speaker verification: pairs of recordings, and 1 where both have one speaker. There is no "
        "audio here; whoever has the recordings measures a model with",
        "",
        "```bash",
        "oskdft evaluate MODEL --data RECORDINGS --trials lists/TASK.txt --write-eval-results ORG/NAME:TASK",
        "```",
        "",
        "| task | list | trials | of one speaker | recordings | SHA-256 |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for task, fact in facts.items():
        counts = " | ".join(f"{fact[field]:,}" for field in ("trials", "target_trials", "utterances"))
        lines.append(f"| `{task}` | {TITLES.get(task, task)} | {counts} | `{fact['sha256']}` |")
    if of_voxceleb:
        lines += ["", SOURCE]
    return "\n".join([*lines, ""])
