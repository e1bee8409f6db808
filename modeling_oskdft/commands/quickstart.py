"""Make voices, a teacher, its student and a table, without a download."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--out", default="quickstart", help="folder for voices, teacher and student (default: quickstart)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from .demonstration import run as demonstrate

    demonstrate(options.out, options.seed)
    return 0
