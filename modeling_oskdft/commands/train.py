"""Run a recipe on one process; `accelerate launch train_oskdft.py` runs it on several."""

import argparse

from ..errors import one_sentence_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; a recipe's own parser reads them, see `main`."""
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="RECIPE.yaml [--field value ...]", help="see `oskdft train --help`"
    )


DESCRIPTION = """Distil and fine-tune a speech encoder into a speaker verifier, on one process.

    oskdft train RECIPE.yaml [--field value ...]

The recipe names a teacher, its layers that the student keeps, both losses, the data and the schedules; see
examples/recipes. The run ends with the best checkpoint in `output_dir`, loadable by `AutoModel.from_pretrained`, and
`results.json` beside it. `--resume_from_checkpoint last` goes on after an interruption, with the same bits; `auto`
does so where there is a checkpoint, and begins where there is none. `accelerate launch train_oskdft.py RECIPE.yaml`
runs the recipe on several processes.
"""


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return train(options.words, DESCRIPTION)


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
    return train(arguments or [], DESCRIPTION)
