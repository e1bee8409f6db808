"""Embeddings by path, written in the form that the name of the file asks for."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import printable
from ..files import check_writable, whole_file

Matrix = NDArray[np.float32]
FORMS = (".npz", ".parquet", ".csv", ".jsonl")


def check_embedding_file(path: str | Path) -> None:
    """Raise `ValueError` for another form than `FORMS`, or `OSError` for a place that cannot be written to."""
    if Path(path).suffix.lower() not in FORMS:
        raise ValueError(f"The embeddings were to go to '{path}': give a name that ends in {', '.join(FORMS)}.")
    check_writable(path)


def write_embeddings(path: str | Path, recordings: Sequence[str], embeddings: Matrix) -> None:
    """Write embeddings, a row a recording, whole or not at all.

    Args:
        path: .npz has `paths` and `embeddings`; .parquet and .jsonl have the columns `path` and `embedding`, a list;
            .csv has `path` and a column for each number, `e0` and so on.
        recordings: (recordings,) paths, which may repeat.
        embeddings: (recordings, embedding_size).
    """
    names = [printable(one) for one in recordings]
    with whole_file(path) as file:
        form = Path(path).suffix.lower()
        if form == ".npz":
            with file.open("wb") as stream:
                np.savez(stream, paths=np.asarray(names, dtype=str), embeddings=embeddings)
        elif form == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            columns = {"path": names, "embedding": pa.array(list(embeddings), pa.list_(pa.float32()))}
            pq.write_table(pa.table(columns), file)
        elif form == ".csv":
            with file.open("w", encoding="utf-8", newline="") as stream:
                rows = csv.writer(stream)
                rows.writerow(["path", *(f"e{number}" for number in range(embeddings.shape[1]))])
                rows.writerows([name, *map(float, row)] for name, row in zip(names, embeddings, strict=True))
        else:
            with file.open("w", encoding="utf-8") as stream:
                for name, row in zip(names, embeddings, strict=True):
                    stream.write(embedding_line(name, row) + "\n")


def embedding_line(name: str, embedding: Matrix) -> str:
    """A recording as a line of JSON, with the digits that float32 has."""
    return json.dumps({"path": printable(name), "embedding": [float(f"{value:.9g}") for value in embedding]})
