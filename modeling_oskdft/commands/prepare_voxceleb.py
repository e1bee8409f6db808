"""Turn VoxCeleb1 and 2 on disk into manifests and trial lists, checked against the published counts."""

import argparse
import json

from .options import add_preparation_options
from .prepare_folder import print_counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--voxceleb1", help="folder that VoxCeleb1 was unpacked to")
    parser.add_argument("--voxceleb2", help="folder that VoxCeleb2 was unpacked to (m4a needs ffmpeg)")
    parser.add_argument("--trials", help="folder of the trial lists (default: that of VoxCeleb1)")
    parser.add_argument("--out", required=True, help="folder for manifests, trial lists, report.json and FLAC")
    add_preparation_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data.prepare_voxceleb import prepare_voxceleb as prepare

    result = prepare(
        options.voxceleb1,
        options.voxceleb2,
        options.out,
        options.trials,
        options.workers,
        options.max_damaged,
        progress=True,
    )
    if options.json:
        print(json.dumps(result.as_dict()))
        return 0
    for manifest in result.manifests:
        print_counts(manifest)
    for name, count in result.trials.items():
        print(f"{count:,} trials: {options.out}/{name}")
    for difference in result.differences:
        print(f"note: {difference}")
    return 0
