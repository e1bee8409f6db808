"""Calibrate a verifier on pairs of your own recordings; the weights stay as they are."""

import argparse
import json
import sys
from pathlib import Path

from .options import add_backend


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="folder or repository of a verifier")
    parser.add_argument("pairs", nargs="?", help="CSV file with label (1 or 0), enrol, test: 20 to 20,000 pairs")
    parser.add_argument("--out", metavar="DIR", help="folder for calibration.json (default: the model's folder)")
    parser.add_argument("--restore", action="store_true", help="put the calibration before the last one back")
    parser.add_argument(
        "--operating_point", default="eer", help="the one that the pairs must support: eer (default), far_1_percent …"
    )
    parser.add_argument("--channel", type=int, help="of recordings with several, from 0 (default: they are mixed)")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..files import check_writable
    from ..scoring.calibration import CALIBRATION_NAME, PREVIOUS_NAME, restore_calibration
    from ..verification.own_pairs import read_own_pairs
    from ..verification.verifier import SpeakerVerifier

    if options.out is None and not Path(options.model).is_dir():
        raise ValueError(f"'{options.model}' is a repository: name a folder for the calibration with --out DIR.")
    place = Path(options.out or options.model)
    if options.restore:
        if options.pairs is not None:
            raise ValueError("Pairs were given beside --restore: give one or the other.")
        restored = restore_calibration(place)
        print(f"The calibration of {restored.date} on {restored.trials:,} trials ({restored.data}) is back.")
        return 0

    if options.pairs is None:
        raise ValueError("There are no pairs: give a CSV file with label, enrol, test, or --restore.")
    check_writable(place / CALIBRATION_NAME)
    pairs = read_own_pairs(options.pairs)
    _put_damaged_aside(Path(options.model, CALIBRATION_NAME))
    verifier = SpeakerVerifier.from_pretrained(options.model, options.revision, backend=options.backend)
    change = verifier.calibrate(
        pairs, options.operating_point, options.channel, f"pairs of {Path(options.pairs).name}"
    )
    for sentence in change.warnings:
        print(f"oskdft: warning: {sentence}", file=sys.stderr)
    change.calibration.save(place)
    if options.json:
        print(json.dumps(change.as_dict()))
    else:
        print(change)
        print(f"Written to {place / CALIBRATION_NAME}.")
        if (place / PREVIOUS_NAME).is_file():
            print(f"`oskdft calibrate {place} --restore` puts the one before back.")
    return 0


def _put_damaged_aside(path: Path) -> None:
    """Rename a calibration that cannot be read, so that it does not stand in the way of the next one."""
    from ..scoring.calibration import Calibration

    if not path.is_file():
        return
    try:
        Calibration.load(path)
    except ValueError as error:
        path.rename(path.with_name("calibration.damaged.json"))
        print(f"oskdft: warning: {error} It is now calibration.damaged.json.", file=sys.stderr)
