"""Hold out speakers: two manifests without a common speaker, and a trial list of the speakers held out."""

import argparse

from .options import add_data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_data_options(parser)
    parser.add_argument(
        "--test", type=float, default=0.1, help="speakers to hold out: a number, or a share below 1 (0.1)"
    )
    parser.add_argument("--out", required=True, help="folder for train.parquet, test.parquet and trials.txt")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data.sources import load_manifest
    from ..data.splits import write_split

    manifest = load_manifest(options.data, None, options.data_root, layout=options.layout)
    train, test, trials = write_split(manifest, options.test, options.seed, options.out, options.most)
    print(f"{len(train):,} utterances of {len(train.speakers):,} speakers: {options.out}/train.parquet")
    print(f"{len(test):,} utterances of {len(test.speakers):,} speakers held out: {options.out}/test.parquet")
    print(
        f"{len(trials.labels):,} trials of them, {int(trials.labels.sum()):,} of one speaker: {options.out}/trials.txt"
    )
    return 0
