"""Hold the utterances of a data set in one Arrow table, an utterance a row."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..audio.loading import SAMPLING_RATE, AudioSource
from ..files import whole_file
from .shard_reading import ShardedRecordings

COLUMNS = ("utterance_id", "speaker_id", "session_id", "path", "num_samples")
OPTIONAL_COLUMNS = ("language", "gender", "corpus", "split")
MANIFEST_SCHEMA = pa.schema([*((name, pa.string()) for name in COLUMNS[:4]), (COLUMNS[4], pa.int64())])
ROOT_KEY = b"oskdft_data_root"


@dataclass(frozen=True)
class Manifest:
    """Hold the utterances of a data set and find their audio.

    Attributes:
        table: columns `utterance_id, speaker_id, session_id, path, num_samples` (at 16 kHz) and optional ones. `path`
            is relative to `root`; with `recordings`, it is the number of the row there that holds the audio.
        root: folder of the recordings.
        recordings: a dataset or `ShardedRecordings` that holds the audio; None where it lies in files.
    """

    table: pa.Table
    root: Path
    recordings: Any = None

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        place = f"in '{self.root}'" if self.recordings is None else "in a dataset"
        return f"Manifest({len(self):,} utterances of {len(self.speakers):,} speakers {place})"

    def column(self, name: str) -> list[Any]:
        """Return a column as a list.

        Args:
            name: a column of the table.
        """
        return self.table.column(name).to_pylist()

    @property
    def speakers(self) -> list[str]:
        """Return every speaker once, sorted: the order of the classes in training."""
        return sorted(pc.unique(self.table.column("speaker_id")).to_pylist())

    def describe(self) -> dict[str, Any]:
        """Count speakers, utterances, hours, and speakers by language and gender, for a results file or a card."""
        samples = pc.sum(self.table.column("num_samples")).as_py() or 0
        counts = {
            "speakers": len(self.speakers),
            "utterances": len(self),
            "hours": round(samples / SAMPLING_RATE / 3600, 2),
        }
        for name in ("language", "gender"):
            if name in self.table.column_names:
                pairs = set(zip(self.column("speaker_id"), self.column(name), strict=True))
                counts[name] = dict(sorted(Counter(value or "unknown" for _, value in pairs).items()))
        return counts

    def audio(self, index: int) -> AudioSource:
        """Return the audio of a row as a source for `audio.loading.load_audio` and `read_crop`.

        Args:
            index: number of the row.
        """
        path = self.table.column("path")[index].as_py()
        return str(self.root / path) if self.recordings is None else self.recordings[int(path)]["audio"]

    def row_groups(self) -> NDArray[np.int64] | None:
        """Return the row group of the shards that holds each row, (rows,); None where recordings are single files."""
        if not isinstance(self.recordings, ShardedRecordings):
            return None
        return self.recordings.groups[[int(path) for path in self.column("path")]]

    def where(self, column: str, values: Sequence[str]) -> "Manifest":
        """Return the manifest of the rows whose `column` has one of `values`.

        Args:
            column: a column of texts.
            values: the values to keep.

        Raises:
            ValueError: when the column does not exist.
        """
        if column not in self.table.column_names:
            raise ValueError(f"The manifest has no column '{column}': it has {', '.join(self.table.column_names)}.")
        chosen = pc.is_in(self.table.column(column), value_set=pa.array(list(values), pa.string()))
        return replace(self, table=self.table.filter(chosen))

    def by_speaker(self) -> dict[str, list[str]]:
        """Return the utterance ids of each speaker."""
        groups: dict[str, list[str]] = {}
        for speaker, utterance in zip(self.column("speaker_id"), self.column("utterance_id"), strict=True):
            groups.setdefault(speaker, []).append(utterance)
        return groups

    def save(self, path: str | Path) -> None:
        """Write Parquet with the root in its metadata, complete or not at all.

        Args:
            path: file to write.

        Raises:
            ValueError: for a manifest whose audio lies in a dataset: save the dataset instead.
        """
        if self.recordings is not None:
            raise ValueError("This manifest's audio lies in a dataset and has no paths: save the dataset instead.")
        table = self.table.replace_schema_metadata({ROOT_KEY: str(self.root.resolve()).encode()})
        with whole_file(path) as file:
            pq.write_table(table, file)


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """Join manifests of files to one, with absolute paths: VoxCeleb1-E needs dev and test.

    Args:
        manifests: one manifest or more; a single one is returned unchanged.

    Raises:
        ValueError: for an utterance that two of them have, and for manifests whose audio lies in a dataset.
    """
    if len(manifests) == 1:
        return manifests[0]
    if any(manifest.recordings is not None for manifest in manifests):
        raise ValueError("Manifests can be joined when their audio lies in files: give one dataset alone.")
    tables = []
    for manifest in manifests:
        paths = [str(manifest.root.resolve() / path) for path in manifest.column("path")]
        table = manifest.table.select(list(COLUMNS))
        tables.append(table.set_column(COLUMNS.index("path"), "path", pa.array(paths, pa.string())))
    return checked(Manifest(pa.concat_tables(tables), Path("/")), "the data together")


def checked(manifest: Manifest, source: str | Path) -> Manifest:
    """Return the manifest when it has utterances, each of them once.

    Args:
        manifest: any manifest.
        source: name of the data in an error.

    Raises:
        ValueError: for a manifest without utterances, or with an utterance twice.
    """
    if len(manifest) == 0:
        raise ValueError(
            f"'{source}' has no utterances: speaker/session/utterance.wav (or flac, ogg, mp3, …) files are needed."
        )
    counts = manifest.table.column("utterance_id").value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise ValueError(
            f"'{source}' names {len(repeated)} utterances more than once, '{repeated[0]['values']}' first: utterance "
            "ids must be unique."
        )
    return manifest
