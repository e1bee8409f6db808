"""Write the model card of a saved verifier from stored measurements; --json prints the facts instead."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="folder of a saved verifier; its results.json is read where it is there")
    parser.add_argument(
        "--name", help="org/name on the Hub, for the code that readers copy (default: the folder's name)"
    )
    parser.add_argument("--license", default="", help="identifier of the model's licence, e.g. cc-by-sa-4.0")
    parser.add_argument("--teacher_license", default="", help="the teacher's licence, in words")
    parser.add_argument("--data_license", default="", help="the training data's licence, in words")
    parser.add_argument("--notes", default="", help="a paragraph of your own")
    parser.add_argument("--overwrite", action="store_true", help="replace a README.md that was written by hand")
    parser.add_argument("--json", action="store_true", help="print the facts and write nothing")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pathlib import Path

    from ..hub.model_card import Statements, record, write_card

    if not Path(options.model).is_dir():
        raise FileNotFoundError(f"There is no folder '{options.model}': give one that holds a saved verifier.")
    statements = Statements(options.license, options.teacher_license, options.data_license, options.notes)
    if options.json:
        print(json.dumps(record(options.model, options.name, statements), indent=1))
        return 0
    print(write_card(options.model, options.name, statements, options.overwrite))
    return 0
