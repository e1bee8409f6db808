"""Send trial lists and their hashes to the Hub as a benchmark, without audio."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("lists", nargs="+", help="trial lists: 'label enrol test' lines, as prepare-voxceleb makes")
    parser.add_argument("--repository", help="org/name of a dataset on the Hub (default: nothing is sent)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the files of the dataset")
    parser.add_argument("--public", action="store_true", help="a new repository is public (default: private)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..hub.trials_dataset import write_trials_dataset
    from ..hub.upload import push_trials

    name = (options.repository or Path(options.out).resolve().name).rpartition("/")[2]
    facts = write_trials_dataset(options.lists, options.out, name)
    for task, fact in facts.items():
        print(f"{task}\t{fact['trials']:,} trials\t{fact['sha256']}")
    if options.repository is not None:
        print(push_trials(options.out, options.repository, list(facts), not options.public))
    return 0
