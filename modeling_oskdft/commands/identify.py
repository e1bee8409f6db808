"""Find the enrolled voices that are nearest to a recording."""

import argparse
import json
import sys

from .options import add_calibration, add_model_options, add_voices, verifier_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("recording", help="recording of an unknown speaker")
    parser.add_argument("--top_k", type=int, default=3, help="voices that are shown (default: 3)")
    add_voices(parser)
    add_calibration(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    verifier = verifier_of(options)
    result = verifier.identify(options.recording, options.top_k, options.channel)
    for sentence in result.warnings:
        print(f"oskdft: warning: {sentence}", file=sys.stderr)
    if options.json:
        print(json.dumps(result.as_dict()))
        return 0
    for match in result.matches:
        odds = "" if match.llr is None else f"\tllr {match.llr:.2f}\tprobability {match.probability:.4f}"
        print(f"{match.name}\tscore {match.score:.4f}{odds}")
    return 0
