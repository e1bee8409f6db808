"""Turn a tree speaker/session/utterance into a Parquet manifest."""

import argparse
import json
from typing import TYPE_CHECKING

from .options import add_layout, add_preparation_options

if TYPE_CHECKING:
    from ..data.prepare_folder import Preparation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folder", help="speaker/session/utterance.wav (flac, ogg, mp3, m4a, …) at any depth")
    parser.add_argument("--out", required=True, help="manifest to write: NAME.parquet")
    add_layout(parser)
    add_preparation_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data.prepare_folder import prepare_folder as prepare

    result = prepare(
        options.folder, options.out, options.workers, options.max_damaged, progress=True, layout=options.layout
    )
    if options.json:
        print(json.dumps(result.as_dict()))
        return 0
    print_counts(result)
    return 0


def print_counts(preparation: "Preparation") -> None:
    """Print the counts of a preparation and its manifest."""
    print(
        f"{preparation.utterances:,} utterances of {len(preparation.speakers):,} speakers, {preparation.hours:,.1f} "
        f"hours, {len(preparation.skipped)} files skipped: {preparation.manifest}"
    )
