"""Send a saved verifier, or the folder of a Space, to the Hub without any other file."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folder", help="folder of a saved verifier, or of a Space (with app.py)")
    parser.add_argument("repository", help="org/name on the Hub")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--revision", help="branch to send to (default: main)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pathlib import Path

    from ..hub.upload import left_behind, push_model, push_space

    private = True if options.private else None  # else as the account has it
    is_a_space = Path(options.folder, "app.py").is_file()
    send = push_space if is_a_space else push_model
    print(send(options.folder, options.repository, private, options.revision))
    if stays := left_behind(options.folder, is_a_space):
        print(f"oskdft: not sent: {', '.join(stays)}", file=sys.stderr)
    return 0
