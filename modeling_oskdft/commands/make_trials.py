"""Make a balanced trial list of the speakers of some data."""

import argparse

from .options import add_data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_data_options(parser)
    parser.add_argument("--split", help="rows of the data whose split is this one")
    parser.add_argument("--across_sessions", action="store_true", help="leave out trials within one session")
    parser.add_argument("--out", required=True, help="trial list to write: 'label enrol test' lines")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data import trials as lists
    from ..data.sources import load_manifest
    from ..files import check_writable

    check_writable(options.out)
    manifest = load_manifest(options.data, options.split, options.data_root, layout=options.layout)
    trials = lists.make_trials(manifest.by_speaker(), options.seed, options.most)
    if options.across_sessions:
        trials = trials.across_sessions()
    lists.write_trials(trials, options.out)
    print(
        f"{len(trials.labels):,} trials of {len(manifest.speakers):,} speakers, {int(trials.labels.sum()):,} of one "
        f"speaker: {options.out}"
    )
    return 0
