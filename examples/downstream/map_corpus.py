"""An `embedding` column for a corpus, with `datasets.map`, written as Parquet.

    python examples/downstream/map_corpus.py CORPUS --model org/student --out embedded.parquet

CORPUS is a folder of Parquet files with an `audio` column, or an audio folder: recordings at any depth, with or
without a metadata.csv whose file_name column names them. All columns stay. A recording that cannot be embedded, for
example a silent one, is named on stderr and has a null.

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
    """The corpus with a column more: (embedding_size,), float32, of unit length, or null."""
    if "audio" not in corpus.column_names:
        raise ValueError(f"The corpus has the columns {', '.join(corpus.column_names)}: 'audio' is needed.")

    def embed(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, Any]:
        recordings = [audio and (audio["bytes"] or audio["path"]) for audio in batch["audio"]]
        return {"embedding": embed_rows(recordings, rows, verifier)}

    # map writes what it is given and what it gets into its cache: given one column and rid of it, it copies no audio.
    recordings = corpus.select_columns("audio").cast_column("audio", Audio(decode=False))
    column = Features({"embedding": List(Value("float32"), length=verifier.embedding_size)})
    embeddings = recordings.map(
        embed,
        with_indices=True,
        batched=True,
        batch_size=batch_size,
        remove_columns="audio",
        features=column,
        load_from_cache_file=False,  # it knows paths and not what has changed in the files
        new_fingerprint=verifier.fingerprint(),  # else map would hash the function, and a model has no hash
    )
    return concatenate_datasets([corpus, embeddings], axis=1)


def embed_rows(recordings: Sequence[AudioSource], rows: Sequence[int], verifier: SpeakerVerifier) -> list[Any]:
    """An embedding or None each: after an error one by one, so that a bad recording costs only itself."""
    try:
        return list(verifier.embed_many(recordings))
    except (ValueError, OSError, TypeError) as error:  # TypeError: the row has no audio
        if len(rows) > 1:
            pairs = zip(recordings, rows, strict=True)
            return [embed_rows([recording], [row], verifier)[0] for recording, row in pairs]
        print(f"Row {rows[0]} has no embedding: {error}", file=sys.stderr)
        return [None]


def open_corpus(folder: Path) -> Dataset:
    """Parquet files below a folder, or its recordings."""
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
    """Open, map, write."""
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
