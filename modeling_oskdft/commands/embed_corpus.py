"""Embed a corpus of any size into Parquet shards, resumable, on the processes of datatrove."""

import argparse
import json

from .options import add_backend


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("manifest", help="manifest, folder or dataset of the recordings")
    parser.add_argument("--model", required=True, help="folder or repository of a verifier")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the shards; a run that was killed goes on there"
    )
    parser.add_argument("--workers", type=int, default=1, help="shards at the same time (default: 1)")
    parser.add_argument("--executor", choices=("local", "slurm", "ray"), default="local", help="default: local")
    parser.add_argument("--per_shard", type=int, default=1000, help="recordings in a shard (default: 1,000)")
    parser.add_argument("--split", help="rows of the manifest with this split (default: all)")
    parser.add_argument("--data_root", help="replaces the root that a manifest was made with")
    parser.add_argument("--device", help="of torch, such as cuda (default: the CPU)")
    parser.add_argument("--partition", help="of Slurm")
    parser.add_argument("--time", help="of Slurm, for each shard (default: 1:00:00)")
    add_backend(parser)
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..embedding.corpus_shards import plan_corpus, run_corpus, summarise_corpus

    if options.executor != "slurm" and (options.partition or options.time):
        raise ValueError("A partition or a time was given without --executor slurm: leave it out.")
    if options.executor == "slurm" and options.partition is None:
        raise ValueError("Slurm needs a partition: give --partition NAME.")
    corpus = plan_corpus(
        options.manifest,
        options.model,
        options.out,
        options.split,
        options.data_root,
        options.revision,
        options.backend,
        options.device,
        options.per_shard,
    )
    slurm = {"partition": options.partition, "time": options.time or "1:00:00"} if options.executor == "slurm" else {}
    run_corpus(corpus, options.executor, options.workers, slurm)
    counts = summarise_corpus(corpus)
    if options.json:
        print(json.dumps(counts))
    else:
        left_out = f", {counts['damaged']:,} damaged, named in damaged/" if counts["damaged"] else ""
        done = f"{counts['embeddings']:,} embeddings in {counts['shards']:,} of {counts['of']:,} shards"
        print(f"{done}{left_out}: {options.out}")
    return 0
