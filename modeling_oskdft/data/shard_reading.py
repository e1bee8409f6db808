"""Recordings in Parquet shards, on disk or behind any URL that fsspec knows, read a row group at a time.

Training visits row groups, not rows: `visiting_order` gives each worker of each process row groups of its own, so that
every one is fetched once an epoch, whatever the number of workers.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

GROUPS_IN_MEMORY = 64  # that a worker mixes; at 16 utterances of 8 s each about 130 MB


def find_shards(folder: str | Path, split: str | None = None) -> list[str]:
    """The Parquet files of a split (`train-….parquet`) in a folder or below a URL, or all where none is named so."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(str(folder))
    places = [place for place in (path, f"{path}/data") if filesystem.isdir(place)]
    names = [str(name) for place in places for name in filesystem.ls(place, detail=False)]
    files = sorted(name for name in names if name.endswith(".parquet"))
    own = [file for file in files if Path(file).name.startswith(f"{split or 'train'}-")]
    chosen = files if split is None and not own else own
    _refuse_missing_shards(chosen, folder)
    return [filesystem.unstrip_protocol(file) for file in chosen]


def _refuse_missing_shards(files: Sequence[str], folder: str | Path) -> None:
    """Names say how many shards there are: training on the rest would be another run, silently."""
    found: dict[tuple[str, int], set[int]] = {}
    for file in files:
        match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.parquet", Path(file).name)
        if match:
            found.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (name, count), numbers in found.items():
        missing = sorted(set(range(count)) - numbers)
        if missing:
            raise FileNotFoundError(
                f"'{folder}' has {len(numbers)} of {count} shards, '{name}-{missing[0]:05d}-of-{count:05d}.parquet' "
                "is the first that is missing: copy or write it again."
            )
    if len(found) > len({name for name, _ in found}):
        raise ValueError(
            f"'{folder}' has shards of two data sets ({', '.join(sorted({f'of {c}' for _, c in found}))}): "
            "take those of one away."
        )


class ShardedRecordings:
    """Row number to `{"audio": {"bytes", "path"}}`; the last few row groups are kept in memory.

    groups: (rows,) the row group of each row, counted through all shards.
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
        """Columns of all rows, without the audio."""
        return pa.concat_tables([self._shard(file).read(columns=list(columns)) for file in self.files])

    @property
    def column_names(self) -> list[str]:
        """Of the first shard."""
        return list(self._shard(self.files[0]).schema_arrow.names)

    def _shard(self, file: str) -> pq.ParquetFile:
        """An open shard; a forked worker opens its own, for two processes must not share a position."""
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
    """An order of all rows in which batch i holds rows of row groups that belong to lane i % lanes.

    groups: (rows,) the row group of each. A lane is a worker of a process. It shuffles the rows of `mixed` row groups
    at a time; what does not fill a round of batches comes at the end.
    """
    blocks = _blocks(groups)
    own: list[list[NDArray[np.int64]]] = [[] for _ in range(lanes)]
    rows = [0] * lanes
    for number in generator.permutation(len(blocks)):
        lane = rows.index(min(rows))
        own[lane].append(blocks[number])
        rows[lane] += len(blocks[number])
    shuffled = [_shuffled(blocks_of_lane, mixed, generator) for blocks_of_lane in own]
    rounds = min(len(lane) // batch for lane in shuffled)
    whole = np.stack([lane[: rounds * batch].reshape(rounds, batch) for lane in shuffled], axis=1)
    return np.concatenate([whole.reshape(-1), *(lane[rounds * batch :] for lane in shuffled)])


def chunks_of_groups(groups: NDArray[np.int64], together: int = GROUPS_IN_MEMORY) -> list[NDArray[np.int64]]:
    """The rows of as many row groups at a time as memory holds. groups: (rows,) the row group of each."""
    blocks = _blocks(groups)
    return [np.concatenate(blocks[i : i + together]) for i in range(0, len(blocks), together)]


def _blocks(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each row group."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.split(order, starts[1:])


def _shuffled(blocks: Sequence[NDArray[np.int64]], mixed: int, generator: np.random.Generator) -> NDArray[np.int64]:
    parts = [generator.permutation(np.concatenate(blocks[i : i + mixed])) for i in range(0, len(blocks), mixed)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
