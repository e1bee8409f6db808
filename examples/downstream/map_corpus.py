"""Add an `embedding` column to a corpus with `datasets.map`, and write it as Parquet.

    python examples/downstream/map_corpus.py CORPUS --model org/student --out embedded.parquet

CORPUS is a folder of Parquet files with an `audio` column, or an audio folder: recordings at any depth, with or
without a metadata.csv whose file_name column names them. All columns stay. A recording that cannot be embedded, as a
silent one, is named on stderr and has a null.

The package decodes the audio itself, so torchcodec, which the `Audio` feature decodes with, need not be installed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, Features, List, Value, concatenate_datasets

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import AUDIO_EXTENSIONS, AudioSource


def add_embeddings(corpus: Dataset, verifier: SpeakerVerifier, batch_size: int = 16) -> Dataset:
    """Add the column `embedding`.

    Args:
        corpus: has a column `audio`.
        verifier: computes the embeddings.
        batch_size: recordings in a batch.

    Returns:
        The corpus with the column: (embedding_size,) float32 of unit length, or null.

    Raises:
        ValueError: the corpus has no column `audio`.
    """
    if "audio" not in corpus.column_names:
        raise ValueError(f"The corpus has the columns {', '.join(corpus.column_names)}: 'audio' is needed.")

    def embed(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, Any]:
        recordings = [audio and (audio["bytes"] or audio["path"]) for audio in batch["audio"]]
        return {"embedding": embed_rows(recordings, rows, verifier)}

    # map writes its input and its result to its cache: with one column, which is removed, it copies no audio.
    recordings = corpus.select_columns("audio").cast_column("audio", Audio(decode=False))
    column = Features({"embedding": List(Value("float32"), length=verifier.embedding_size)})
    embeddings = recordings.map(
        embed,
        with_indices=True,
        batched=True,
        batch_size=batch_size,
        remove_columns="audio",
        features=column,
        load_from_cache_file=False,  # the cache knows the paths, but not the contents of the files
        new_fingerprint=verifier.fingerprint(),  # without it map hashes the function, and a model has no hash
    )
    return concatenate_datasets([corpus, embeddings], axis=1)


def embed_rows(recordings: Sequence[AudioSource], rows: Sequence[int], verifier: SpeakerVerifier) -> list[Any]:
    """Embed a batch; after an error one recording at a time, so that a bad one costs only itself.

    Args:
        recordings: as `SpeakerVerifier.embed_many` takes them.
        rows: their rows in the corpus, for the message.
        verifier: computes the embeddings.

    Returns:
        An embedding for each recording, None where it cannot be embedded.
    """
    try:
        return list(verifier.embed_many(recordings))
    except (ValueError, OSError, TypeError) as error:  # TypeError: the row has no audio
        if len(rows) > 1:
            pairs = zip(recordings, rows, strict=True)
            return [embed_rows([recording], [row], verifier)[0] for recording, row in pairs]
        print(f"Row {rows[0]} has no embedding: {error}", file=sys.stderr)
        return [None]


def open_corpus(folder: Path) -> Dataset:
    """Open a folder as a corpus with a column `audio`.

    Args:
        folder: has Parquet files, or recordings with or without a metadata.csv.

    Raises:
        FileNotFoundError: there is no such folder, or nothing of that kind in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder at '{folder}': give a folder of recordings or of Parquet files.")
    shards = sorted(str(file) for file in folder.rglob("*.parquet"))
    if shards:
        return Dataset.from_parquet(shards)
    if (folder / "metadata.csv").is_file():
        listed = Dataset.from_csv(str(folder / "metadata.csv"))
    else:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in AUDIO_EXTENSIONS)
        listed = Dataset.from_dict({"file_name": [file.relative_to(folder).as_posix() for file in files]})
    if not len(listed):
        raise FileNotFoundError(f"'{folder}' has no Parquet files and no wav, flac or ogg files: give a corpus.")
    places = [str(folder.resolve() / name) for name in listed["file_name"]]
    return listed.add_column("audio", places).cast_column("audio", Audio())


def main(arguments: Sequence[str] | None = None) -> None:
    """Open the corpus, add the column, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of Parquet files or of recordings")
    parser.add_argument("--model", required=True, help="folder or repository of a saved verifier")
    parser.add_argument("--out", required=True, type=Path, help="Parquet file to write, outside of the corpus")
    parser.add_argument("--batch-size", type=int, default=16, help="recordings in a batch (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        corpus = open_corpus(options.corpus)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        embedded = add_embeddings(corpus, SpeakerVerifier.from_pretrained(options.model), options.batch_size)
        embedded.to_parquet(options.out)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    missing = embedded.data.column("embedding").null_count
    print(f"{len(embedded) - missing} of {len(embedded)} recordings have an embedding: {options.out}")


if __name__ == "__main__":
    main()
