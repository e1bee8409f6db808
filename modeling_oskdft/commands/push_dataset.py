"""Write a manifest as sharded Parquet with FLAC inside, and send it to the Hub."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("data", help="manifest, folder or dataset of the recordings")
    parser.add_argument("repository", nargs="?", help="org/name of a dataset on the Hub")
    parser.add_argument(
        "--out", required=True, help="folder for the shards; they stay there, and are kept when it is run again"
    )
    parser.add_argument("--local", action="store_true", help="write the shards and send nothing")
    parser.add_argument("--public", action="store_true", help="a new repository is public (default: private)")
    parser.add_argument("--split", help="rows of the data whose split is this one")
    parser.add_argument("--data_root", help="replaces the root that a manifest was made with")
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        help="further columns of texts to write, as for label_column",
    )
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data.prepare_folder import bounded_workers
    from ..data.shard_writing import write_shards
    from ..data.sources import load_manifest
    from ..hub.upload import push_dataset as push

    manifest = load_manifest(options.data, options.split, options.data_root)
    workers = bounded_workers(options.workers)
    if options.local:
        files = write_shards(manifest, options.out, workers=workers, progress=True, columns=options.columns)
        print(f"{len(manifest):,} utterances in {len(files)} shards: {options.out}/data")
        return 0
    if options.repository is None:
        raise ValueError("No repository was named: give org/name, or --local to write the shards only.")
    written = {"workers": workers, "progress": True, "columns": options.columns}
    print(push(manifest, options.repository, options.out, not options.public, **written))
    return 0
