"""Write error rates as the Hub reads them from a model's repository: one file in `.eval_results/` for each task.

The Hub shows them on the model's page, and in the table of the benchmark's dataset, whose `eval.yaml` names the tasks:
https://huggingface.co/docs/hub/eval-results.
"""

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries

from ..files import whole_file

if TYPE_CHECKING:
    from ..evaluation.report import TrialReport

FOLDER_NAME = ".eval_results"
TASK = re.compile(r"(?P<dataset>[\w.-]+/[\w.-]+):(?P<task>[\w.-]+)")


def parse_task(text: str) -> tuple[str, str]:
    """Split the name of a task of a benchmark.

    Args:
        text: such as "org/voxceleb1-trials:vox1_o".

    Returns:
        The dataset, and the task in it.

    Raises:
        ValueError: for a text of another form.
    """
    match = TASK.fullmatch(text)
    if match is None:
        raise ValueError(f"The task is '{text}': a dataset and its task are needed, as org/voxceleb1-trials:vox1_o.")
    return match["dataset"], match["task"]


def write_eval_results(folder: str | Path, task: str, report: "TrialReport", how: str = "full recordings") -> Path:
    """Write the EER of a verifier on a task of a benchmark into its folder; an earlier one of the task is replaced.

    Args:
        folder: folder of the verifier.
        task: as in `parse_task`.
        report: what was measured.
        how: how the trials were scored, for people.

    Returns:
        The file. Its value is the EER in per cent.

    Raises:
        ValueError: for a task of another form.
        FileNotFoundError: when there is no saved model in the folder.
    """
    import yaml

    dataset, name = parse_task(task)
    check_folder(folder)
    eer, low, high = (round(100 * value, 4) for value in (report.eer, report.eer_low, report.eer_high))
    notes = (
        f"EER in %, 95 % interval {low:g} to {high:g} by bootstrap over speakers; minDCF {report.min_dcf:.4f}; "
        f"{report.trials:,} trials of {report.speakers:,} speakers; {how}. By `oskdft evaluate`."
    )
    entry = EvalResultEntry(dataset, name, eer, date=date.today().isoformat(), notes=notes)
    stored = eval_result_entries_to_yaml([entry])
    assert parse_eval_result_entries(stored) == [entry]
    path = Path(folder, FOLDER_NAME, f"{dataset.replace('/', '--')}--{name}.yaml")  # names on the Hub have no --
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as file:
        file.write_text(yaml.safe_dump(stored, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def check_folder(folder: str | Path) -> None:
    """Refuse a place that is not the folder of a saved model.

    Args:
        folder: the place.

    Raises:
        FileNotFoundError: naming it.
    """
    if not Path(folder, "config.json").is_file():
        raise FileNotFoundError(f"There is no saved model in '{folder}': results are written into a model's folder.")
