"""Judge whether a service decides as it did before: exit code 0 it does, 1 not, 3 too few decisions."""

import argparse
import json
from pathlib import Path

from ..errors import DIFFERENT, NO_DECISION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--scores", required=True, metavar="LOG", help="file that `oskdft serve --scores` wrote")
    parser.add_argument("--model", required=True, help="folder or repository of the verifier")
    parser.add_argument("--last", type=int, default=1000, help="decisions that are judged (default: the last 1,000)")
    parser.add_argument(
        "--first",
        type=int,
        default=1000,
        help="decisions to compare with (default: the first 1,000; 0: the trials of the thresholds)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..embedding.locations import find, locate
    from ..scoring.calibration import CALIBRATION_NAME, Calibration
    from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds
    from ..service.score_log import calibration_id
    from ..service.watching import watcher_of
    from ..verification.monitoring import HOLDS, LEAST, TOO_FEW

    if options.last < LEAST or (options.first != 0 and options.first < LEAST):
        raise ValueError(f"last is {options.last} and first is {options.first}: {LEAST} or more decisions are needed.")
    path = find(locate(options.model, options.revision), THRESHOLDS_NAME)
    if path is None:
        raise ValueError(f"'{options.model}' has no {THRESHOLDS_NAME}: measure thresholds on trials first.")
    if not Path(options.scores).is_file():
        raise FileNotFoundError(f"There is no log '{options.scores}': give the file of `oskdft serve --scores`.")
    thresholds = Thresholds.load(path)
    calibration_file = find(locate(options.model, options.revision), CALIBRATION_NAME)
    calibration = calibration_id(None if calibration_file is None else Calibration.load(calibration_file))
    facts = (thresholds, thresholds.fingerprint, calibration)
    watcher = watcher_of(*facts, options.scores, options.first, options.last)
    verdict, beside = watcher.verdict()
    if verdict is None:
        raise ValueError("The thresholds have no quantiles of their trials: measure them anew.")
    if options.json:
        print(json.dumps(verdict.as_dict()))
    else:
        print(f"{verdict.verdict} ({verdict.decisions:,} decisions beside {beside})")
        for reason in verdict.reasons:
            print(f"  {reason}")
        if verdict.command:
            print(f"  next: {verdict.command}")
    return {HOLDS: 0, TOO_FEW: NO_DECISION}.get(verdict.verdict, DIFFERENT)
