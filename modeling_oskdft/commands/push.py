"""Send a saved verifier, the folder of a Space, or a page for browsers to the Hub, without any other file."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "folder", help="folder of a saved verifier, of a Space (with app.py), or of an export for browsers"
    )
    parser.add_argument("repository", help="org/name on the Hub")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--revision", help="branch to send to (default: main)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pathlib import Path

    from ..hub import upload

    private = True if options.private else None  # else as the account has it
    if Path(options.folder, "app.py").is_file():
        send, files_of = upload.push_space, upload.files_of_space
    elif Path(options.folder, "index.html").is_file():
        send, files_of = upload.push_page, upload.files_of_page
    else:
        send, files_of = upload.push_model, upload.files_of_model
    print(send(options.folder, options.repository, private, options.revision))
    if stays := upload.left_behind(options.folder, files_of(options.folder)):
        print(f"oskdft: not sent: {', '.join(stays)}", file=sys.stderr)
    return 0
