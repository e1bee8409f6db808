"""Run a benchmark: a table of ratios measured in one run."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", help="a benchmark's name, or all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..benchmark.__main__ import main as benchmark_main

    return benchmark_main([options.name, *(["--json"] if options.json else [])])
