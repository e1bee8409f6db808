"""Search the fields of a recipe, one process a trial: resumable, and shared by several machines."""

import argparse
import json
import signal
import time
from typing import NoReturn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("recipe", help="recipe, of which the first trial is taken as it is")
    parser.add_argument("--trials", type=int, required=True, help="trials of the study, with those of earlier calls")
    parser.add_argument("--minutes", type=float, help="time of this call; what is under way then goes on in the next")
    parser.add_argument("--space", help="YAML of fields and ranges (default: a small space around the recipe)")
    parser.add_argument("--out", help="folder of the search (default: runs/tuning/RECIPE)")
    parser.add_argument("--finalists", type=int, default=3, help="best trials that run with other seeds; 0: none")
    parser.add_argument("--seeds", type=int, default=3, help="number of these seeds")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pathlib import Path

    from ..training.recipe import read_recipe
    from ..training.speech_encoders import load_origin_config
    from ..tuning.results import BEST_NAME, PAGE_NAME, write_results
    from ..tuning.search import Search
    from ..tuning.space import default_space, read_space

    if options.trials < 1 or options.seeds < 1 or options.finalists < 0:
        raise ValueError("--trials and --seeds are at least 1, and --finalists at least 0.")
    if options.minutes is not None and not options.minutes > 0:
        raise ValueError(f"--minutes is {options.minutes:g}: a time above 0 is needed.")
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    file = Path(options.recipe)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _end)
    if options.space:
        space = read_space(options.space)
    else:
        recipe = read_recipe([options.recipe])
        origin = load_origin_config(recipe.student.student_from or recipe.student.teacher)
        space = default_space(recipe, origin.num_hidden_layers)
    search = Search(file, space, options.out or Path("runs", "tuning", file.stem))
    try:
        search.run(options.trials, deadline)
    finally:
        results = write_results(search)
    if options.finalists and len(search.trials("COMPLETE", "PRUNED")) >= options.trials:
        first = search.recipe.training.seed + 1
        finals = search.finals(range(first, first + options.seeds), options.finalists, deadline)
        results = write_results(search, finals)
    if options.json:
        print(json.dumps(results))
    else:
        best = f", the best recipe in '{search.folder / BEST_NAME}'" if (search.folder / BEST_NAME).is_file() else ""
        print(f"The search is in '{search.folder / PAGE_NAME}'{best}.")
    return 0


def _end(number: int, _: object) -> NoReturn:
    """End the search by an exception, so that the trial that is under way saves and ends as well."""
    raise SystemExit(128 + number)
