"""Parse `oskdft COMMAND …` and run the command: one module a command.

Exit codes: 0 fine, and "same"; 1 "different"; 2 an error of the input, in one sentence on stderr (`--debug` shows its
place); 3 no decision; 70 a fault of this package.
"""

from ..errors import end_at_once_on_interrupt, one_sentence_errors

end_at_once_on_interrupt()  # before any import that takes time

import argparse
import logging
import signal
import sys

from . import (
    augment,
    benchmark,
    calibrate,
    card,
    convert,
    embed,
    embed_corpus,
    enroll,
    evaluate,
    export,
    identify,
    make_trials,
    monitor,
    prepare_folder,
    prepare_voxceleb,
    push,
    push_dataset,
    push_trials,
    quickstart,
    renew,
    serve,
    split,
    train,
    tune,
    verify,
    voices,
)
from .options import prepare_transformers

# It comes with ExecuTorch, and names each of its libraries that is of no use here: an error is one sentence on stderr.
logging.getLogger("torchao").setLevel(logging.ERROR)
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)

COMMANDS = (
    quickstart,
    train,
    tune,
    verify,
    enroll,
    identify,
    voices,
    serve,
    monitor,
    renew,
    calibrate,
    embed,
    embed_corpus,
    prepare_voxceleb,
    prepare_folder,
    split,
    make_trials,
    push_dataset,
    push_trials,
    card,
    push,
    augment,
    evaluate,
    convert,
    export,
    benchmark,
)
# These import torch only when they need it: an exported verifier works without it.
WITHOUT_TORCH = (verify, embed, embed_corpus, enroll, identify, voices, serve, monitor, calibrate)


def parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    top = argparse.ArgumentParser(
        prog="oskdft", description="From a large speech encoder to a small speaker verifier."
    )
    top.add_argument("--debug", action="store_true", help="show where an error arose")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        text = str(module.__doc__).strip()
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(module=module)
        module.add_arguments(command)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the `oskdft` command.

    Args:
        arguments: those after `oskdft`; None for the arguments of this process.

    Returns:
        The exit code.
    """
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a command can say now what Ctrl-C stopped
    except ValueError:
        pass  # not the main thread
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["train"]:  # the parser of recipes reads its options
        return train.main(words[1:])
    return _run(words)


@one_sentence_errors
def _run(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    if options.module not in WITHOUT_TORCH:
        prepare_transformers()
    return int(options.module.run(options))
