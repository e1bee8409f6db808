"""`oskdft COMMAND …`: thin, one function a command, no logic."""

import argparse
import functools
import sys
from collections.abc import Callable


def one_sentence_errors(function: Callable[[list[str] | None], int]) -> Callable[[list[str] | None], int]:
    """Ends with 2 and one sentence on stderr where the user's input was wrong; `--debug` shows where."""

    @functools.wraps(function)
    def guarded(arguments: list[str] | None = None) -> int:
        words = sys.argv[1:] if arguments is None else list(arguments)
        debug = "--debug" in words
        try:
            return function([word for word in words if word != "--debug"])
        except (ValueError, OSError, TypeError) as error:
            if debug:
                raise
            print(f"oskdft: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("oskdft: stopped.", file=sys.stderr)
            return 130

    return guarded
