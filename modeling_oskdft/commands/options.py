"""Share options and preparations between commands."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..verification.verifier import SpeakerVerifier
    from ..verification.voice import Voices

KEY_VARIABLE = "OSKDFT_VOICES_KEY"
QDRANT = "qdrant:"  # and the address of a server, or a folder
QDRANT_KEY_VARIABLE = "QDRANT_API_KEY"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about a verifier and its recordings."""
    parser.add_argument("--model", required=True, help="folder or repository of a verifier")
    add_backend(parser)
    parser.add_argument("--channel", type=int, help="of recordings with several, from 0 (default: they are mixed)")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a runtime."""
    parser.add_argument(
        "--backend",
        choices=("auto", "torch", "onnxruntime", "openvino", "executorch"),
        default="auto",
        help="default: auto, what the folder holds",
    )


def add_voices(parser: argparse.ArgumentParser) -> None:
    """Add the file of enrolled voices, which is required."""
    parser.add_argument(
        "--voices", required=True, metavar="FILE", help="file of the enrolled voices, or qdrant:ADDRESS"
    )
    add_key(parser)


def add_key(parser: argparse.ArgumentParser) -> None:
    """Add the key of an encrypted file of voices."""
    parser.add_argument(
        "--key_file",
        metavar="FILE",
        help=f"file with the key of an encrypted file of voices (default: the key in {KEY_VARIABLE}, or none)",
    )


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Add the folder of another calibration than the model's own."""
    parser.add_argument("--calibration", metavar="DIR", help="folder that `oskdft calibrate --out DIR` wrote")


def voices_of(options: argparse.Namespace) -> "Voices":
    """Open the file of voices that the options name."""
    return store_at(options.voices, options)


def verifier_of(options: argparse.Namespace) -> "SpeakerVerifier":
    """Open the verifier that the options name, with its voices and its calibration where they name these."""
    from ..verification.verifier import SpeakerVerifier

    store = None if options.voices is None else voices_of(options)
    return SpeakerVerifier.from_pretrained(
        options.model,
        options.revision,
        device=getattr(options, "device", None),
        backend=options.backend,
        voices=store,
        calibration=options.calibration,
    )


def store_at(path: str, options: argparse.Namespace) -> "Voices":
    """Open a file of voices with the key of the options or of the environment, or a collection of Qdrant."""
    if path.startswith(QDRANT):
        from ..verification.qdrant_voices import QdrantVoices

        return QdrantVoices(path.removeprefix(QDRANT), os.environ.get(QDRANT_KEY_VARIABLE) or None)
    from ..files import read_text
    from ..verification.voices import VoiceStore

    key = os.environ.get(KEY_VARIABLE) or None
    if options.key_file is not None:
        if not os.path.isfile(options.key_file):
            raise FileNotFoundError(f"There is no key at '{options.key_file}': make one with `oskdft voices key`.")
        key = read_text(options.key_file).strip()
    return VoiceStore(path, key)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the data and the number of trials."""
    parser.add_argument("data", help="manifest, folder or dataset of the recordings")
    parser.add_argument("--data_root", help="replaces the root that a manifest was made with")
    add_layout(parser)
    parser.add_argument("--most", type=int, default=20000, help="trials of a kind, at most (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: 0)")


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Add the option for the layout of folders."""
    parser.add_argument(
        "--layout",
        choices=("auto", "speaker/session", "speaker"),
        default="auto",
        help="which folders above a file are its speaker and session (default: auto, by their depth)",
    )


def add_preparation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a preparation."""
    parser.add_argument("--workers", type=int, help="processes (default: one a core; more for a network disk)")
    parser.add_argument("--max_damaged", type=int, default=100, help="files to skip until it stops (default: 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def prepare_transformers() -> None:
    """Register the model with transformers, and show progress bars on a terminal only."""
    from .. import model as model

    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()
