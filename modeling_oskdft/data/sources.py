"""Read manifests from folders, tables of text, Parquet files and datasets."""

import csv
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..audio.folders import read_layout, recording_at, unusable_name, walk_audio
from ..audio.loading import AudioSource, count_samples, utterance_id
from ..errors import first_line, printable
from ..files import looks_like_a_path, read_text
from .damaged import DamagedFiles
from .manifest import COLUMNS, MANIFEST_SCHEMA, OPTIONAL_COLUMNS, ROOT_KEY, Manifest, checked
from .shard_reading import ShardedRecordings, find_shards

if TYPE_CHECKING:
    from datasets import Dataset


FILES_CHECKED = 50  # files of a Parquet manifest whose existence is checked, evenly spaced


def load_manifest(
    source: str | Path,
    split: str | None = None,
    data_root: str | Path | None = None,
    max_damaged: int = 100,
    layout: str = "auto",
) -> Manifest:
    """Read the utterances of a data set in any form that this package supports.

    Damaged files are named in a warning and left out.

    Args:
        source: a folder `speaker/session/utterance.{wav,flac,ogg,mp3,m4a,…}` or `speaker/utterance.…`; a `.parquet`
            manifest; a `.csv` or `.tsv` with the columns `path, speaker, session`; or a dataset with an audio column:
            a folder written by `datasets`, a folder of Parquet shards, the name of a repository on the Hub (which is
            downloaded), or a URL of shards such as `hf://datasets/org/name` (whose row groups are fetched when they
            are read).
        split: keeps the rows whose column `split` has this value; for a dataset, the split to load.
        data_root: replaces the root that a manifest was written with.
        max_damaged: damaged files that may be left out; one more is an error.
        layout: layout of a folder, see `audio.folders.read_layout`.

    Raises:
        FileNotFoundError: for a source that does not exist, or a manifest whose files are elsewhere.
        ValueError: for data without utterances, with an utterance twice, with more than `max_damaged` damaged files,
            or without this split; for a table with a row that lacks a value; for a `data_root` without a manifest.
    """
    path = Path(source)
    kind = path.suffix.lower()
    is_manifest = kind in (".csv", ".tsv", ".parquet")
    if data_root is not None and not is_manifest:
        raise ValueError(f"data_root is '{data_root}' for '{source}', which is no manifest: leave it out.")
    if kind in (".csv", ".tsv"):
        manifest = _from_csv(path, Path(data_root) if data_root else path.parent, split, max_damaged)
    elif kind == ".parquet":
        manifest = _from_parquet(path, data_root, max_damaged)
    elif "://" in str(source) or (path.is_dir() and _holds_shards(path)):
        return checked(_from_shards(source, split, max_damaged), source)
    elif path.is_dir() and not _is_a_saved_dataset(path):
        manifest = _from_folder(path, max_damaged, layout)
    elif not path.is_dir() and looks_like_a_path(str(source)):
        raise FileNotFoundError(
            f"There are no data at '{source}': give a folder, a .parquet or .csv manifest, or org/name of a dataset."
        )
    else:
        return checked(_from_datasets(path if path.is_dir() else str(source), split, max_damaged), source)
    return checked(manifest, source) if split is None else _with_split(checked(manifest, source), split, source)


def _is_a_saved_dataset(folder: Path) -> bool:
    """Return whether `save_to_disk` of `datasets` wrote this folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _holds_shards(folder: Path) -> bool:
    """Return whether a folder holds Parquet files with audio in them."""
    shards = [*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]
    return bool(shards) and "audio" in pq.read_schema(shards[0]).names


def _with_split(manifest: Manifest, split: str, source: str | Path) -> Manifest:
    if "split" not in manifest.table.column_names:
        raise ValueError(f"'{source}' has no column split, so no row of it is '{split}': leave the split out.")
    chosen = manifest.where("split", [split])
    if len(chosen) == 0:
        known = ", ".join(sorted({str(name) for name in manifest.column("split") if name}))
        raise ValueError(f"'{source}' has no split '{split}': it has {known}.")
    return chosen


class _Row(NamedTuple):
    """Hold a row of a manifest whose length may still be unknown."""

    utterance: str
    speaker: str
    session: str
    path: str
    audio: AudioSource
    num_samples: int | None = None


def _measured(rows: Iterable[_Row], max_damaged: int) -> tuple[pa.Table, list[int]]:
    """Count the samples of each row; return the table of the rows whose file can be read, and their numbers."""
    kept: list[tuple[Any, ...]] = []
    numbers: list[int] = []
    damaged = DamagedFiles(max_damaged, "Skipped", "More than {most} files are damaged ({reason}): check the data.")
    for number, row in enumerate(rows):
        try:
            samples = row.num_samples or count_samples(row.audio)
        except (ValueError, OSError) as error:
            damaged.skip(row.audio if isinstance(row.audio, str) else row.utterance, error)
            continue
        kept.append((row.utterance, row.speaker, row.session, row.path, samples))
        numbers.append(number)
    return _table(kept), numbers


def _from_folder(root: Path, max_damaged: int, layout: str) -> Manifest:
    tree = read_layout(root, layout)
    tree.warn()

    def rows() -> Iterator[_Row]:
        for file in walk_audio(root):
            recording = recording_at(file, root, tree)
            path = file.relative_to(root).as_posix()
            if (reason := unusable_name(path)) is not None:
                warnings.warn(f"Skipped '{printable(path)}': {reason}", stacklevel=2)
                continue
            yield _Row(recording.utterance, recording.speaker, recording.session, path, str(file))

    return Manifest(_measured(rows(), max_damaged)[0], root)


def _table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[] for _ in COLUMNS]
    return pa.Table.from_arrays([pa.array(values) for values in columns], schema=MANIFEST_SCHEMA)


def _from_csv(path: Path, root: Path, split: str | None, max_damaged: int) -> Manifest:
    if not path.is_file():
        raise FileNotFoundError(f"There is no manifest at '{path}': give an existing .csv or .parquet file.")
    entries = _read_rows(path)
    if entries and not {"path", "speaker", "session"} <= set(entries[0]):
        columns = ", ".join(name for name in entries[0] if name != LINE)
        raise ValueError(f"'{path}' has the columns {columns}: path, speaker and session are needed.")
    # Only rows of the split are opened; for a misspelt split all rows are kept, for the error that names the splits.
    in_split = [entry for entry in entries if split is None or entry.get("split") == split]
    entries = in_split or entries
    _join_speakers(path.with_name("speakers.csv"), entries)
    rows = [
        _Row(
            utterance_id(_filled(entry, "path", path)),
            _filled(entry, "speaker", path),
            _filled(entry, "session", path),
            entry["path"],
            str(root / entry["path"]),
            _samples(entry, path),
        )
        for entry in entries
    ]
    table, numbers = _measured(rows, max_damaged)
    return Manifest(_with_further_columns(table, [entries[number] for number in numbers]), root)


OF_A_ROW = ("path", "speaker", "session", "num_samples")  # columns of a CSV file that a manifest has by other names
LINE = "\0line"  # key of a row's line number, for error sentences


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a table of text; the header shows whether commas, semicolons or tabs separate its columns."""
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [
            {(name or "").strip(): value.strip() if isinstance(value, str) else value for name, value in row.items()}
            | {LINE: reader.line_num}
            for row in reader
        ]
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} of '{path}' is no row of a table ({error}): correct it.") from None


def _filled(entry: dict[str, Any], column: str, path: Path) -> str:
    value = entry.get(column)
    if not value or not isinstance(value, str):
        raise ValueError(f"Line {entry[LINE]} of '{path}' has no {column}: path, speaker and session are needed.")
    return value


def _samples(entry: dict[str, Any], path: Path) -> int:
    """Read the samples at 16 kHz from a row; 0 where it has none. pandas writes whole numbers as 48000.0."""
    value = entry.get("num_samples")
    try:
        number = float(value or 0)
        if number < 0 or number % 1:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"Line {entry[LINE]} of '{path}' has num_samples '{value}': a whole number of samples is needed, or "
            "nothing."
        ) from None
    return int(number)


def _join_speakers(path: Path, entries: list[dict[str, Any]]) -> None:
    """Add the optional columns of a `speakers.csv` beside the manifest to the rows that lack them."""
    if not path.is_file() or not entries:
        return
    speakers = {row.get("speaker"): row for row in _read_rows(path)}
    columns = sorted({name for row in speakers.values() for name in row if name not in (*OF_A_ROW, LINE)})
    for entry in entries:
        speaker = speakers.get(entry.get("speaker"), {})
        for name in columns:
            entry.setdefault(name, speaker.get(name))


def _with_further_columns(table: pa.Table, entries: Sequence[dict[str, Any]]) -> pa.Table:
    """Add every column that a manifest does not need: `label_column` of a recipe may name any of them."""
    known = {*COLUMNS, LINE, ""} | ({*OF_A_ROW} if entries and LINE in entries[0] else set())
    for name in (name for name in (entries[0] if entries else ()) if name not in known):
        values = [None if entry.get(name) in (None, "") else str(entry[name]) for entry in entries]
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


def _from_parquet(path: Path, data_root: str | Path | None, max_damaged: int) -> Manifest:
    if not path.is_file():
        raise FileNotFoundError(f"There is no manifest at '{path}': give an existing .csv or .parquet file.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as Parquet ({error}): write the manifest again.") from None
    if "audio" in table.column_names and "path" not in table.column_names:
        import datasets

        return manifest_from_dataset(datasets.Dataset.from_parquet(str(path)), max_damaged)
    table = _with_manifest_types(table, path)
    _check_filled(table, path)
    recorded = (table.schema.metadata or {}).get(ROOT_KEY)
    root = Path(data_root) if data_root else Path(recorded.decode()) if recorded else path.parent
    manifest = Manifest(table, root)
    _check_some_files(manifest, path)
    return manifest


def _with_manifest_types(table: pa.Table, path: Path) -> pa.Table:
    """Cast the columns to the types of a manifest: ids may be numbers, strings may have other widths."""
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"'{path}' lacks the columns {', '.join(missing)}: a manifest has {', '.join(COLUMNS)}.")
    kinds = dict(zip(table.column_names, table.schema.types, strict=True))
    labels = [name for name, kind in kinds.items() if pa.types.is_integer(kind) or pa.types.is_boolean(kind)]
    texts = {*(name for name in (*COLUMNS[:4], *OPTIONAL_COLUMNS) if name in kinds), *labels} - {COLUMNS[4]}
    try:
        for name in texts:
            table = table.set_column(table.column_names.index(name), name, table.column(name).cast(pa.string()))
        lengths = table.column("num_samples").cast(pa.int64())
        return table.set_column(table.column_names.index("num_samples"), "num_samples", lengths)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(
            f"'{path}' has a column of another kind ({first_line(error)}): texts, and num_samples as whole "
            "numbers, are needed."
        ) from None


def _check_filled(table: pa.Table, path: Path) -> None:
    """Raise `ValueError` naming the first row that lacks a value which every row needs."""
    for name in COLUMNS:
        column = table.column(name)
        empty = pc.less(column, 1) if name == "num_samples" else pc.equal(column, "")
        rows = pc.indices_nonzero(pc.fill_null(empty, True))
        if len(rows):
            raise ValueError(
                f"Row {rows[0].as_py() + 1} of '{path}' has no {name}: {', '.join(COLUMNS)} are needed in every row."
            )


def _check_some_files(manifest: Manifest, path: Path) -> None:
    """Check now, on a few files, that the data have not moved: else the error comes in the middle of an epoch."""
    rows = sorted({int(row) for row in np.linspace(0, len(manifest) - 1, FILES_CHECKED)}) if len(manifest) else []
    files = [manifest.root / manifest.table.column("path")[row].as_py() for row in rows]
    missing = [file for file in files if not file.exists()]
    if missing and len(missing) > len(files) / 2:
        raise FileNotFoundError(
            f"A file of '{path}' is not at '{missing[0]}': give the folder that the data moved to as data_root."
        )
    if missing:
        warnings.warn(
            f"{len(missing)} of {len(files)} files of '{path}' are missing, '{missing[0]}' first.", stacklevel=2
        )


def _from_shards(source: str | Path, split: str | None, max_damaged: int) -> Manifest:
    """Open shards in place when they have the columns of a manifest; other shards are opened by `datasets`."""
    files = find_shards(source, split)
    if not files:
        wanted = f"{split}-….parquet" if split else "Parquet files"
        raise FileNotFoundError(f"'{source}' has no {wanted} in it or in its folder data: check address and split.")
    recordings = ShardedRecordings(files)
    columns = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in recordings.column_names and name != "path"]
    if len(columns) < len(COLUMNS) - 1 or "audio" not in recordings.column_names:
        import datasets

        return manifest_from_dataset(datasets.load_dataset("parquet", data_files=files, split="train"), max_damaged)
    table = recordings.table([*columns, *recordings.text_columns({*columns, "path", "audio"})])
    rows = pa.array([str(row) for row in range(len(recordings))], pa.string())
    return Manifest(table.append_column("path", rows), Path(), recordings)


def _from_datasets(name: Path | str, split: str | None, max_damaged: int) -> Manifest:
    """Load a folder that `save_to_disk` wrote, or a repository of the Hub."""
    import datasets

    try:
        if isinstance(name, Path):
            loaded = datasets.load_from_disk(str(name))
        else:
            loaded = datasets.load_dataset(name, split=split or "train")
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"'{name}' is neither a folder, a manifest, nor a dataset that can be reached ({type(error).__name__}): "
            "check the name."
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        if (split or "train") not in loaded:
            raise ValueError(f"'{name}' has no split '{split or 'train'}': it has {', '.join(loaded)}.")
        loaded = loaded[split or "train"]
    return manifest_from_dataset(loaded, max_damaged)


def _is_a_label(kind: object) -> bool:
    """Whether a column of a dataset, a feature of `datasets`, holds texts, whole numbers, truth values, or names."""
    texts = ("string", "large_string", "int", "uint", "bool")
    return hasattr(kind, "int2str") or getattr(kind, "dtype", "").startswith(texts)


def _texts_of(values: Iterable[Any], kind: object) -> list[str | None]:
    """Turn the values of such a column into texts; -1 stands for no name in `datasets`."""
    name_of = getattr(kind, "int2str", None)
    if name_of is None:
        return [None if value is None else str(value) for value in values]
    return [None if value is None or value < 0 else name_of(value) for value in values]


def manifest_from_dataset(dataset: "Dataset", max_damaged: int = 100) -> Manifest:
    """Make the manifest of a `datasets.Dataset`.

    soundfile decodes: no torchcodec is needed.

    Args:
        dataset: has the columns `audio` and `speaker_id`. `session_id`, `utterance_id`, `num_samples` and the optional
            columns of a manifest are used where they exist; without them, the session is "unknown", the utterance id
            has the number of the row, and the length is read from the header.
        max_damaged: damaged recordings that may be left out; one more is an error.

    Raises:
        ValueError: for a dataset without these columns, for a row without speaker or audio, and for more than
            `max_damaged` damaged recordings.
    """
    import datasets

    missing = [name for name in ("audio", "speaker_id") if name not in dataset.column_names]
    if missing:
        raise ValueError(
            f"The dataset lacks the columns {', '.join(missing)} and has {', '.join(dataset.column_names)}: rename "
            "its columns with rename_column."
        )
    recordings = dataset.cast_column("audio", datasets.Audio(decode=False))

    def rows() -> Iterator[_Row]:
        for number, entry in enumerate(recordings):
            if entry["speaker_id"] in (None, "") or entry["audio"] is None:
                raise ValueError(
                    f"Row {number + 1} of the dataset has no speaker_id or no audio: every row needs both."
                )
            speaker, session = str(entry["speaker_id"]), str(entry.get("session_id", "unknown"))
            utterance = str(entry.get("utterance_id", f"{speaker}/{session}/{number:08d}"))
            yield _Row(utterance, speaker, session, str(number), entry["audio"], entry.get("num_samples"))

    table, numbers = _measured(rows(), max_damaged)
    labels = {
        name: _texts_of(recordings[name], kind)
        for name, kind in recordings.features.items()
        if name not in (*COLUMNS, "audio") and (name in OPTIONAL_COLUMNS or _is_a_label(kind))
    }
    further = [{name: values[number] for name, values in labels.items()} for number in numbers]
    table = _with_further_columns(table, further)
    return Manifest(table, Path(), recordings.select_columns(["audio"]))
