"""Run a recipe on one process; `accelerate launch train_oskdft.py` runs it on several."""

import argparse

from ..errors import one_sentence_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; a recipe's own parser reads them, see `main`."""
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="RECIPE.yaml [--field value ...]", help="see --help of it"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return train(options.words, f"{__doc__}\n")


def train(arguments: list[str], description: str) -> int:
    """Read a recipe, run it, and print the place of the student.

    Args:
        arguments: the path of a recipe and `--field value` pairs; none, or `--help`, for the help.
        description: text above the help.

    Returns:
        The exit code.
    """
    from ..training.recipe import read_recipe, recipe_parser
    from ..training.run import run as run_recipe

    if not arguments or arguments[0] in ("-h", "--help"):
        print(description)
        recipe_parser().print_help()
        return 0
    recipe = read_recipe(arguments)
    results = run_recipe(recipe)
    if recipe.training.should_save:
        print(f"The student is in '{results.output_dir}'.")
    return 0


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Run `oskdft train`, whose options are the fields of a recipe.

    Args:
        arguments: those after `train`.
    """
    from .options import prepare_transformers

    prepare_transformers()
    return train(list(arguments or []), f"{__doc__}\n")
