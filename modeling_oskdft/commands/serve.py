"""Serve a verifier over HTTP: verify, embed, register, identify and forget, with metrics and a log of scores."""

import argparse
import os
import sys
from pathlib import Path

from ..files import read_text
from ..service.limits import Limits, explained_limits
from .options import add_backend, add_calibration, add_key, verifier_of

TOKEN_VARIABLE = "OSKDFT_SERVICE_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="folder or repository of a verifier; an export needs no torch")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1, this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: a free one")
    parser.add_argument("--name", help="name of the model in requests and answers (default: the folder's)")
    parser.add_argument(
        "--voices", metavar="FILE", help="file of the enrolled voices (default: in memory, lost at the end)"
    )
    add_key(parser)
    parser.add_argument(
        "--token_file", metavar="FILE", help=f"file with the token of clients (default: {TOKEN_VARIABLE}, or none)"
    )
    parser.add_argument(
        "--files", metavar="DIR", help="folder whose recordings may be named by a path (default: none)"
    )
    parser.add_argument("--scores", metavar="LOG", help="file to append each decision to, for `oskdft monitor`")
    parser.add_argument("--workers", type=int, help="requests worked on at the same time (default: one a core)")
    parser.add_argument("--device", help="of torch, such as cuda (default: the CPU)")
    parser.add_argument(
        "--batches",
        action="store_true",
        help="let one owner of the model gather the audio of waiting requests: serves more on a GPU, fewer on a CPU",
    )
    for name, default, text in explained_limits():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default: {default:,})")
    add_backend(parser)
    add_calibration(parser)
    parser.add_argument("--revision", help="branch, tag or commit of the repository")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..service.access import check_address

    token = _token_of(options)
    check_address(options.host, token)
    limits = Limits(**{name: getattr(options, name) for name, _, _ in explained_limits()})
    workers = len(os.sched_getaffinity(0)) if options.workers is None else options.workers
    if workers < 1:
        raise ValueError(f"workers is {workers}: 1 or more are needed.")
    folder = None if options.files is None else Path(options.files)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"'{options.files}' is no folder: give the one whose recordings may be named.")
    if not options.batches:
        os.environ["OMP_NUM_THREADS"] = "1"  # each worker runs the model itself, on one thread

    from ..service.application import Application, owner_of
    from ..service.score_log import ScoreLog
    from ..service.server import serve

    verifier = owner_of(verifier_of(options), options.batches)
    name = options.name or Path(options.model).resolve().name
    log = ScoreLog(options.scores)
    if options.voices is None:
        print("oskdft: warning: voices are in memory and are lost at the end: give --voices FILE.", file=sys.stderr)
    return serve(Application(verifier, name, workers, limits, token, folder, log), options.host, options.port)


def _token_of(options: argparse.Namespace) -> str | None:
    if options.token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    if not os.path.isfile(options.token_file):
        raise FileNotFoundError(f"There is no token at '{options.token_file}': write one with `openssl rand -hex 32`.")
    return read_text(options.token_file).strip()
