"""Read recordings from Parquet shards, on disk or at any URL that fsspec supports, a row group at a time.

Training visits row groups, not rows: `visiting_order` gives each worker of each process its own row groups, so that
every row group is fetched once an epoch, for any number of workers.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

GROUPS_IN_MEMORY = 64  # row groups that a worker mixes; with 16 utterances of 8 s each about 130 MB


def find_shards(folder: str | Path, split: str | None = None) -> list[str]:
    """List the Parquet files of a split, in a folder or at a URL, and in `data` below it.

    Args:
        folder: a folder or a URL.
        split: name of the split, whose files begin with `SPLIT-`. None: the split train, or all files where no file
            has such a name.

    Returns:
        Sorted URLs; empty where there are no such files.

    Raises:
        FileNotFoundError: when a numbered shard is missing.
        ValueError: when there are shards of two data sets.
    """
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(str(folder))
    places = [place for place in (path, f"{path}/data") if filesystem.isdir(place)]
    names = [str(name) for place in places for name in filesystem.ls(place, detail=False)]
    files = sorted(name for name in names if name.endswith(".parquet"))
    in_split = [file for file in files if Path(file).name.startswith(f"{split or 'train'}-")]
    chosen = files if split is None and not in_split else in_split
    _refuse_missing_shards(chosen, folder)
    return [filesystem.unstrip_protocol(file) for file in chosen]


def _refuse_missing_shards(files: Sequence[str], folder: str | Path) -> None:
    """Compare the shards with the count in their names: training on a part of them would silently be another run."""
    numbers_of: dict[tuple[str, int], set[int]] = {}
    for file in files:
        match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.parquet", Path(file).name)
        if match:
            numbers_of.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (name, count), numbers in numbers_of.items():
        missing = sorted(set(range(count)) - numbers)
        if missing:
            raise FileNotFoundError(
                f"'{folder}' has {len(numbers)} of {count} shards, '{name}-{missing[0]:05d}-of-{count:05d}.parquet' "
                "is the first that is missing: copy or write it again."
            )
    if len(numbers_of) > len({name for name, _ in numbers_of}):
        counts = ", ".join(sorted({f"of {count}" for _, count in numbers_of}))
        raise ValueError(f"'{folder}' has shards of two data sets ({counts}): remove the shards of one of them.")


def _may_be_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _as_texts(table: pa.Table) -> pa.Table:
    """Cast columns of long texts and of nothing to texts, because shards of one data set may differ in them."""
    for number, field in enumerate(table.schema):
        if _may_be_text(field.type):
            table = table.set_column(number, field.name, table.column(number).cast(pa.string()))
    return table


class ShardedRecordings:
    """Map a row number to `{"audio": {"bytes", "path"}}`; the last row groups that were read stay in memory.

    Args:
        files: shards, as `find_shards` returns them.
        kept: number of row groups that stay in memory.

    Attributes:
        groups: (rows,) row group of each row, counted through all shards.
    """

    def __init__(self, files: Sequence[str], kept: int = GROUPS_IN_MEMORY) -> None:
        self.files, self.kept = list(files), kept
        self._open: dict[str, pq.ParquetFile] = {}
        self._owner = os.getpid()
        self._cache: OrderedDict[int, list[Any]] = OrderedDict()
        sizes = []
        self.places: list[tuple[str, int]] = []
        for file in self.files:
            metadata = self._shard(file).metadata
            sizes += [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            self.places += [(file, number) for number in range(metadata.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.groups: NDArray[np.int64] = np.repeat(np.arange(len(sizes)), sizes)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, row: int) -> dict[str, Any]:
        group = int(self.groups[row])
        if group not in self._cache:
            file, number = self.places[group]
            table = self._shard(file).read_row_group(number, columns=["audio"])
            self._cache[group] = table.column("audio").to_pylist()
            if len(self._cache) > self.kept:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return {"audio": self._cache[group][row - int(self.starts[group])]}

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Read columns of all rows, without the audio.

        Args:
            columns: names of the columns.
        """
        return pa.concat_tables([_as_texts(self._shard(file).read(columns=list(columns))) for file in self.files])

    @property
    def column_names(self) -> list[str]:
        """Return the names of the columns of the first shard."""
        return list(self._shard(self.files[0]).schema_arrow.names)

    def text_columns(self, left_out: Container[str]) -> list[str]:
        """Return the names of the columns that hold texts, or nothing, in every shard, without those of `left_out`."""
        schemas = [self._shard(file).schema_arrow for file in self.files]
        return [
            name
            for name in schemas[0].names
            if name not in left_out
            and all(name in schema.names and _may_be_text(schema.field(name).type) for schema in schemas)
        ]

    def _shard(self, file: str) -> pq.ParquetFile:
        """Return an open shard; a forked worker opens its own, because two processes must not share a position."""
        import fsspec

        if self._owner != os.getpid():
            self._open, self._owner = {}, os.getpid()
        if file not in self._open:
            self._open[file] = pq.ParquetFile(fsspec.open(file, "rb").open(), pre_buffer=True)
        return self._open[file]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}, "_cache": OrderedDict()}


def visiting_order(
    groups: NDArray[np.int64], lanes: int, batch: int, generator: np.random.Generator, mixed: int = GROUPS_IN_MEMORY
) -> NDArray[np.int64]:
    """Order all rows so that batch i holds rows of row groups that belong to lane i % lanes.

    A lane is a worker of a process.

    Args:
        groups: (rows,) row group of each row.
        lanes: number of workers of all processes.
        batch: rows of a batch.
        generator: source of the order.
        mixed: row groups whose rows a lane shuffles together.

    Returns:
        (rows,) numbers of the rows. The rows that do not fill a round of batches, one batch a lane, stand at the end.
    """
    blocks = _blocks(groups)
    blocks_of_lanes: list[list[NDArray[np.int64]]] = [[] for _ in range(lanes)]
    rows = [0] * lanes
    for number in generator.permutation(len(blocks)):
        lane = rows.index(min(rows))
        blocks_of_lanes[lane].append(blocks[number])
        rows[lane] += len(blocks[number])
    shuffled = [_shuffled(blocks_of_lane, mixed, generator) for blocks_of_lane in blocks_of_lanes]
    rounds = min(len(lane) // batch for lane in shuffled)
    whole = np.stack([lane[: rounds * batch].reshape(rounds, batch) for lane in shuffled], axis=1)
    return np.concatenate([whole.reshape(-1), *(lane[rounds * batch :] for lane in shuffled)])


def chunks_of_groups(groups: NDArray[np.int64], together: int = GROUPS_IN_MEMORY) -> list[NDArray[np.int64]]:
    """Divide the rows into chunks of whole row groups.

    Args:
        groups: (rows,) row group of each row.
        together: row groups of a chunk; the default fits in the memory of a `ShardedRecordings`.

    Returns:
        The numbers of the rows of each chunk.
    """
    blocks = _blocks(groups)
    return [np.concatenate(blocks[start : start + together]) for start in range(0, len(blocks), together)]


def _blocks(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each row group."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.split(order, starts[1:])


def _shuffled(blocks: Sequence[NDArray[np.int64]], mixed: int, generator: np.random.Generator) -> NDArray[np.int64]:
    starts = range(0, len(blocks), mixed)
    chunks = [generator.permutation(np.concatenate(blocks[start : start + mixed])) for start in starts]
    return np.concatenate(chunks) if chunks else np.empty(0, np.int64)
