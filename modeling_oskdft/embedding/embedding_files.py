"""Write embeddings by path, in the format that the name of the file ends in."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import printable
from ..files import check_writable, whole_file

Matrix = NDArray[np.float32]


def check_embedding_file(path: str | Path) -> None:
    """Check before the work that embeddings can be written to a file.

    Args:
        path: the file.

    Raises:
        ValueError: for a name that ends in none of the suffixes of `WRITERS`, and for a folder.
        OSError: for a place that cannot be written to.
    """
    if Path(path).suffix.lower() not in WRITERS:
        raise ValueError(f"The embeddings were to go to '{path}': give a name that ends in {', '.join(WRITERS)}.")
    check_writable(path)


def write_embeddings(path: str | Path, recordings: Sequence[str], embeddings: Matrix) -> None:
    """Write embeddings, one row for each recording; the file is whole or not there.

    Args:
        path: the file. An .npz has `paths` and `embeddings`; .parquet and .jsonl have the columns `path` and
            `embedding`, a list; .csv has `path` and a column for each number, `e0` and so on.
        recordings: (recordings,) paths, which may repeat.
        embeddings: (recordings, embedding_size).

    Raises:
        ValueError: for a path that is a folder.
        OSError: for a file that cannot be written.
    """
    names = [printable(recording) for recording in recordings]
    with whole_file(path) as file:
        WRITERS[Path(path).suffix.lower()](file, names, embeddings)


def _write_npz(file: Path, names: list[str], embeddings: Matrix) -> None:
    with file.open("wb") as stream:
        np.savez(stream, paths=np.asarray(names, dtype=str), embeddings=embeddings)


def _write_parquet(file: Path, names: list[str], embeddings: Matrix) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"path": names, "embedding": pa.array(list(embeddings), pa.list_(pa.float32()))}
    pq.write_table(pa.table(columns), file)


def _write_csv(file: Path, names: list[str], embeddings: Matrix) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", *(f"e{number}" for number in range(embeddings.shape[1]))])
        rows.writerows([name, *map(float, row)] for name, row in zip(names, embeddings, strict=True))


def _write_jsonl(file: Path, names: list[str], embeddings: Matrix) -> None:
    with file.open("w", encoding="utf-8") as stream:
        for name, row in zip(names, embeddings, strict=True):
            stream.write(embedding_line(name, row) + "\n")


def embedding_line(name: str, embedding: Matrix) -> str:
    """Format a recording as a line of JSON, with the digits that float32 has.

    Args:
        name: path of the recording.
        embedding: (embedding_size,).
    """
    return json.dumps({"path": printable(name), "embedding": [float(f"{value:.9g}") for value in embedding]})


# The formats by the suffix of the file.
WRITERS: dict[str, Callable[[Path, list[str], Matrix], None]] = {
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
