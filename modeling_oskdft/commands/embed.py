"""Embed recordings, folders, manifests or lists as vectors of unit length."""

import argparse
import sys

from .options import add_model_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("recordings", nargs="+", help="recordings, folders, manifests, or lists (.txt) of recordings")
    parser.add_argument("--out", help="FILE.npz, .parquet, .csv or .jsonl with paths and embeddings")
    parser.add_argument("--skip-damaged", action="store_true", help="name what cannot be read, and write the rest")
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    import numpy as np
    from tqdm.auto import tqdm

    from ..data.listing import recordings_of
    from ..embedding.embedding_files import check_embedding_file, embedding_line, write_embeddings
    from ..verification.verifier import SpeakerVerifier

    if options.out is None and not options.json:
        raise ValueError("No place was named for the embeddings: give --out FILE.npz, or --json.")
    if options.out is not None:
        check_embedding_file(options.out)
    verifier = SpeakerVerifier.from_pretrained(options.model, options.revision, backend=options.backend)
    recordings = recordings_of(options.recordings)
    names, embeddings, skipped = [], [], 0
    for path in tqdm(recordings, desc="embeddings", unit="rec", disable=None if len(recordings) > 1 else True):
        try:
            embedding = verifier.embed(path, options.channel)
        except (ValueError, OSError) as error:
            if not options.skip_damaged:
                raise
            skipped += 1
            print(f"oskdft: skipped: {error}", file=sys.stderr)
            continue
        names.append(path)
        embeddings.append(embedding)
        if options.json:
            print(embedding_line(path, embedding))
    if not embeddings:
        raise ValueError(f"None of {skipped} recordings can be read: look at the sentences above.")
    if options.out is not None:
        write_embeddings(options.out, names, np.stack(embeddings))
        if not options.json:
            left_out = f", {skipped} skipped" if skipped else ""
            print(f"{len(names):,} embeddings of {verifier.embedding_size} numbers{left_out}: {options.out}")
    return 0
