"""Run a recipe in a process of its own, and follow its validation curve."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import read_json, whole_file
from ..training.run import RESULTS_NAME
from .space import Value

STATE_NAME = "trainer_state.json"
LOG_NAME, RECIPE_NAME = "log.txt", "recipe.yaml"
TRAIN = (sys.executable, "-m", "modeling_oskdft.commands", "train")
POLL = 0.5  # seconds between two looks at a process
PATIENCE = 120.0  # seconds that a process has to save and end
Curve = list[tuple[float, float]]  # share of the run that is done, and EER on the speakers set aside


@dataclass(frozen=True)
class Outcome:
    """The end of a trial.

    Args:
        state: "finished"; "stopped", by its curve; "interrupted", when the time is over; or "failed".
        curve: as `read_curve` returns it.
        results: content of `results.json`, where it finished.
        reason: last line of a failed process.
    """

    state: str
    curve: Curve
    results: dict[str, Any] | None = None
    reason: str = ""


def write_recipe(folder: Path, base: Path, values: Mapping[str, Value | None]) -> Path:
    """Write the recipe of a trial: a base and the fields that differ from it.

    Args:
        folder: of the trial, which becomes `output_dir`.
        base: the recipe that is searched.
        values: fields by name; None takes back what the base has set.
    """
    import yaml

    recipe = {"base": relative_to(base, folder), "output_dir": str(folder), **values}
    with whole_file(folder / RECIPE_NAME) as file:
        file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return folder / RECIPE_NAME


def relative_to(file: Path, folder: Path) -> str:
    """Return the way from a folder to a file, past symbolic links on either side."""
    return os.path.relpath(file.resolve(), folder.resolve())


def read_curve(folder: Path) -> Curve:
    """Read the validation curve of a run from its newest checkpoint.

    Returns:
        (share of the run that is done, EER) of each evaluation; empty before the first checkpoint.
    """
    states = sorted(folder.glob(f"checkpoint-*/{STATE_NAME}"), key=lambda path: int(path.parent.name.split("-")[-1]))
    for path in reversed(states):
        with contextlib.suppress(OSError, ValueError):  # the process removes old checkpoints meanwhile
            state = read_json(path)
            entries = [entry for entry in state["log_history"] if "eval_eer" in entry]
            return [(entry["step"] / state["max_steps"], entry["eval_eer"]) for entry in entries]
    return []


def finished(folder: Path) -> dict[str, Any] | None:
    """Return the results of a run that has finished, None of another."""
    path = folder / RESULTS_NAME
    return read_json(path) if path.is_file() else None


def run_trial(recipe: Path, goes_on: Callable[[Curve], bool], deadline: float | None = None) -> Outcome:
    """Run a recipe until it ends, its curve is not good enough, or the time is over. It resumes where it once stopped.

    Args:
        recipe: file that `write_recipe` wrote.
        goes_on: whether a curve is good enough; asked after each evaluation.
        deadline: time on `time.monotonic`; None for no limit.

    Returns:
        The outcome. KeyboardInterrupt and SystemExit end the process, with a checkpoint, before they are raised again.
    """
    folder = recipe.parent
    seen = 0
    with (folder / LOG_NAME).open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*TRAIN, str(recipe), "--resume_from_checkpoint", "auto"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches this process, which then asks the trial to save
        )
        try:
            while process.poll() is None:
                time.sleep(POLL)
                curve = read_curve(folder)
                if len(curve) > seen and not goes_on(curve):
                    end(process)
                    return Outcome("stopped", curve)
                seen = len(curve)
                if deadline is not None and time.monotonic() > deadline:
                    end(process)
                    if process.returncode:
                        return Outcome("interrupted", read_curve(folder))
        except BaseException:
            end(process)
            raise
    results = finished(folder) if process.returncode == 0 else None
    if results is not None:
        return Outcome("finished", read_curve(folder), results)
    killed = f"signal {-process.returncode} ended it, as a system without memory does: "
    reason = (killed if process.returncode < 0 else "") + _last_line(folder / LOG_NAME)
    return Outcome("failed", read_curve(folder), reason=reason)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to save and end, and kill it when it does not."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("oskdft: ") if lines else "it ended without a word"
