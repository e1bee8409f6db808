"""Write a manifest as a dataset for the Hub: Parquet shards that hold the audio as FLAC, and a page."""

import hashlib
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..audio.loading import SAMPLING_RATE, AudioSource, load_audio
from ..audio.transcoding import remove_partial_files
from ..files import whole_file
from .damaged import DamagedFiles
from .manifest import COLUMNS, OPTIONAL_COLUMNS, Manifest
from .parallel import in_processes

UTTERANCES_A_GROUP = 16
SHARD_SECONDS = 8 * 3600  # about 500 MB as FLAC
_SOURCE_KEY = b"oskdft_source"  # metadata of a shard: the digest of its manifest
PAGE_NAME = "README.md"


def write_shards(
    manifest: Manifest,
    folder: str | Path,
    split: str = "train",
    shard_seconds: float = SHARD_SECONDS,
    workers: int = 1,
    seed: int = 0,
    progress: bool = False,
    max_damaged: int = 100,
    columns: Sequence[str] = (),
) -> list[Path]:
    """Write the shards `folder/data/SPLIT-00000-of-00007.parquet` and so on.

    A row group holds up to 16 utterances of one speaker, so that speakers who are held out cost nothing in training;
    the row groups lie in a random order, so that any part of a shard has many speakers. FLAC of 16 kHz mono is copied,
    every other format is decoded and written as 16-bit FLAC. An existing shard of the same manifest is kept, so that a
    run that was stopped can continue. Recordings that cannot be read are named in warnings and left out.

    Args:
        manifest: any manifest.
        folder: folder of the dataset.
        split: name of the split.
        shard_seconds: audio in a shard, about.
        workers: processes.
        seed: seed of the order of the rows.
        progress: show a progress bar.
        max_damaged: recordings that may be left out; one more is an error.
        columns: further columns of texts to write, such as those of `label_column`. None is written unless it is named
            here, because a column may hold what should not be published.

    Returns:
        The shards, those that existed before included.

    Raises:
        ValueError: for more than `max_damaged` recordings that cannot be read, and for a column that is not there or
            holds no texts.
    """
    from tqdm.auto import tqdm

    further = _further_columns(manifest, columns)

    groups = _row_groups(manifest, seed)
    lengths = np.asarray(manifest.column("num_samples"))
    count = max(1, round(lengths.sum() / SAMPLING_RATE / shard_seconds))
    target = Path(folder) / "data"
    if target.is_dir():  # a run that was killed leaves partial files
        remove_partial_files(target)
    digest = _digest(manifest, seed, further)
    files = []
    refusal = "More than {most} recordings cannot be read ({reason}): check the data."
    damaged = DamagedFiles(max_damaged, "Left out of the dataset:", refusal)
    bar = tqdm(total=len(manifest), desc="shards", unit="utt", disable=None if progress else True)
    for number, indices in enumerate(np.array_split(np.arange(len(groups)), count)):
        file = target / f"{split}-{number:05d}-of-{count:05d}.parquet"
        groups_of_shard = [groups[index] for index in indices]
        if not _is_written(file, digest):
            _write_shard(manifest, groups_of_shard, file, digest, workers, damaged, further)
        bar.update(sum(len(rows) for rows in groups_of_shard))
        files.append(file)
    bar.close()
    for stale in set(target.glob(f"{split}-*-of-*.parquet")) - set(files):
        if _SOURCE_KEY in (pq.read_schema(stale).metadata or {}):  # of an earlier run over other data
            stale.unlink()
    return files


def _row_groups(manifest: Manifest, seed: int) -> list[list[int]]:
    """Group the rows by speaker, in a random order of rows and of groups."""
    rows: dict[str, list[int]] = {}
    for row, speaker in enumerate(manifest.column("speaker_id")):
        rows.setdefault(speaker, []).append(row)
    generator = np.random.default_rng(seed)
    groups: list[list[int]] = []
    for _, rows_of_speaker in sorted(rows.items()):
        shuffled = generator.permutation(rows_of_speaker).tolist()
        starts = range(0, len(shuffled), UTTERANCES_A_GROUP)
        groups += [shuffled[start : start + UTTERANCES_A_GROUP] for start in starts]
    return [groups[index] for index in generator.permutation(len(groups))]


def _further_columns(manifest: Manifest, wanted: Sequence[str]) -> list[str]:
    """Return the optional columns that the manifest has, and those that were asked for."""
    for name in wanted:
        if name not in manifest.table.column_names:
            names = ", ".join(manifest.table.column_names)
            raise ValueError(f"The data have no column '{name}' to write: they have {names}.")
        kind = manifest.table.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or name == "audio":
            raise ValueError(f"The column '{name}' holds no texts: write its values as texts, under another name.")
    known = [name for name in OPTIONAL_COLUMNS if name in manifest.table.column_names and name != "split"]
    return list(dict.fromkeys([*known, *(name for name in wanted if name not in (*COLUMNS, "split"))]))


def _digest(manifest: Manifest, seed: int, further: Sequence[str]) -> bytes:
    """Hash the manifest and the seed, to recognise shards of other data."""
    digest = hashlib.sha256(str(seed).encode())
    for name in sorted(({*COLUMNS, *OPTIONAL_COLUMNS} & {*manifest.table.column_names}) | {*further}):
        digest.update("\n".join([name, *map(str, manifest.column(name))]).encode())
    return digest.hexdigest().encode()


def _is_written(file: Path, digest: bytes) -> bool:
    return file.is_file() and (pq.read_schema(file).metadata or {}).get(_SOURCE_KEY) == digest


def _write_shard(
    manifest: Manifest,
    groups: list[list[int]],
    file: Path,
    digest: bytes,
    workers: int,
    damaged: DamagedFiles,
    optional: list[str],
) -> None:
    columns = [*COLUMNS[:3], COLUMNS[4], *optional]
    names = manifest.table.column("utterance_id")
    schema = _schema(optional)
    schema = schema.with_metadata({**(schema.metadata or {}), _SOURCE_KEY: digest})
    encoded = in_processes(partial(_encode, manifest), (row for rows in groups for row in rows), workers)
    with whole_file(file) as partial_file, pq.ParquetWriter(partial_file, schema) as writer:
        for rows in groups:
            audio, kept = [], []
            for row in rows:
                recording, reason = next(encoded)
                if reason is None:
                    audio.append(recording)
                    kept.append(row)
                else:
                    damaged.skip(names[row].as_py(), reason)
            if not kept:  # the only recordings of a speaker may be damaged
                continue
            table = manifest.table.select(columns).take(kept)
            texts = (
                column.combine_chunks().cast(schema.field(name).type)
                for name, column in zip(columns, table, strict=True)
            )
            arrays = [pa.array(audio, schema.field("audio").type), *texts]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _schema(optional: list[str]) -> pa.Schema:
    """Return the Arrow schema with the metadata by which `datasets` and the Hub's viewer recognise the audio."""
    import datasets

    text = datasets.Value("string")
    features = {"audio": datasets.Audio(sampling_rate=SAMPLING_RATE), **dict.fromkeys(COLUMNS[:3], text)}
    features |= {"num_samples": datasets.Value("int64"), **dict.fromkeys(optional, text)}
    return datasets.Features(features).arrow_schema


def _encode(manifest: Manifest, row: int) -> tuple[dict[str, Any] | None, str | None]:
    """Return the recording as the dataset holds it and None, or None and the reason why it cannot be read."""
    import soundfile

    name = manifest.table.column("utterance_id")[row].as_py().rsplit("/", 1)[-1]
    try:
        source = manifest.audio(row)
        waveform = load_audio(source)  # a damaged file must not be published
        content = _as_flac_already(source)
        if content is None:
            file = io.BytesIO()
            soundfile.write(file, waveform, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
            content = file.getvalue()
    except (ValueError, OSError) as error:
        return None, str(error)
    return {"bytes": content, "path": f"{name}.flac"}, None


def _as_flac_already(source: AudioSource) -> bytes | None:
    """Return the content of a file of 16 kHz mono FLAC; None for every other source."""
    import soundfile

    if not isinstance(source, str) or not source.lower().endswith(".flac"):
        return None
    header = soundfile.info(source)
    is_final = (header.samplerate, header.channels, header.format) == (SAMPLING_RATE, 1, "FLAC")
    return Path(source).read_bytes() if is_final else None


def page_of(manifest: Manifest) -> str:
    """Write the page of the dataset, in Markdown.

    Args:
        manifest: manifest of the recordings in the dataset.
    """
    hours = sum(manifest.column("num_samples")) / SAMPLING_RATE / 3600
    return (
        "---\ntask_categories:\n- audio-classification\ntags:\n- speaker-verification\n---\n\n"
        f"{len(manifest):,} utterances of {len(manifest.speakers):,} speakers, {hours:,.1f} hours, 16 kHz mono FLAC, "
        "made by `oskdft push-dataset`.\n\nA row group holds utterances of one speaker: "
        "`train_data: hf://datasets/…` of an OS-KDFT recipe streams it.\n\n"
        "Licence and source of the recordings are not known to the tool: say them here.\n"
    )
