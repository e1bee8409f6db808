"""A manifest as a dataset for the Hub: Parquet shards with the audio in them, as FLAC, and a page."""

import hashlib
import io
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
_SOURCE_KEY = b"oskdft_source"
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
) -> list[Path]:
    """`folder/data/SPLIT-00000-of-00007.parquet` and so on; returns the files.

    A row group holds up to 16 utterances of one speaker, so that speakers who are set aside cost nothing in training,
    and the row groups lie in a drawn order, so that any part of a shard has many speakers. FLAC of 16 kHz mono goes
    in as it is, everything else is decoded and written as 16-bit FLAC. A shard that is already there, of the same
    manifest, is kept: a run that was stopped goes on. Recordings that cannot be read are named in warnings and left
    out; more than `max_damaged` are a `ValueError`.
    """
    from tqdm.auto import tqdm

    groups = _row_groups(manifest, seed)
    lengths = np.asarray(manifest.column("num_samples"))
    count = max(1, round(lengths.sum() / SAMPLING_RATE / shard_seconds))
    target = Path(folder) / "data"
    if target.is_dir():  # what a run that was killed has left
        remove_partial_files(target)
    digest = _digest(manifest, seed)
    files = []
    refusal = "More than {most} recordings cannot be read ({reason}): check the data."
    damaged = DamagedFiles(max_damaged, "Left out of the dataset:", refusal)
    bar = tqdm(total=len(manifest), desc="shards", unit="utt", disable=None if progress else True)
    for number, part in enumerate(np.array_split(np.arange(len(groups)), count)):
        file = target / f"{split}-{number:05d}-of-{count:05d}.parquet"
        own = [groups[index] for index in part]
        if not _is_there(file, digest):
            _write_shard(manifest, own, file, digest, workers, damaged)
        bar.update(sum(len(rows) for rows in own))
        files.append(file)
    bar.close()
    for stale in set(target.glob(f"{split}-*-of-*.parquet")) - set(files):
        if _SOURCE_KEY in (pq.read_schema(stale).metadata or {}):  # of an earlier run over other data
            stale.unlink()
    return files


def _row_groups(manifest: Manifest, seed: int) -> list[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, speaker in enumerate(manifest.column("speaker_id")):
        rows.setdefault(speaker, []).append(row)
    generator = np.random.default_rng(seed)
    groups: list[list[int]] = []
    for _, own in sorted(rows.items()):
        shuffled = generator.permutation(own).tolist()
        groups += [shuffled[i : i + UTTERANCES_A_GROUP] for i in range(0, len(own), UTTERANCES_A_GROUP)]
    return [groups[index] for index in generator.permutation(len(groups))]


def _digest(manifest: Manifest, seed: int) -> bytes:
    """Of what the shards are made of, to know a shard of another run."""
    digest = hashlib.sha256(str(seed).encode())
    for name in sorted(manifest.table.column_names):
        digest.update("\n".join([name, *map(str, manifest.column(name))]).encode())
    return digest.hexdigest().encode()


def _is_there(file: Path, digest: bytes) -> bool:
    return file.is_file() and (pq.read_schema(file).metadata or {}).get(_SOURCE_KEY) == digest


def _write_shard(
    manifest: Manifest,
    groups: list[list[int]],
    file: Path,
    digest: bytes,
    workers: int,
    damaged: DamagedFiles,
) -> None:
    optional = [name for name in OPTIONAL_COLUMNS if name in manifest.table.column_names and name != "split"]
    columns = [*COLUMNS[:3], COLUMNS[4], *optional]
    names = manifest.table.column("utterance_id")
    schema = _schema(optional)
    schema = schema.with_metadata({**(schema.metadata or {}), _SOURCE_KEY: digest})
    encoded = in_processes(partial(_encode, manifest), (row for rows in groups for row in rows), workers)
    with whole_file(file) as partial_file, pq.ParquetWriter(partial_file, schema) as writer:
        for rows in groups:
            found = [(row, *next(encoded)) for row in rows]
            for row, _, reason in found:
                if reason is not None:
                    damaged.skip(names[row].as_py(), reason)
            audio = [recording for _, recording, reason in found if reason is None]
            table = manifest.table.select(columns).take([row for row, _, reason in found if reason is None])
            arrays = [pa.array(audio, schema.field("audio").type), *(column.combine_chunks() for column in table)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _schema(optional: list[str]) -> pa.Schema:
    """The Arrow schema, with what tells `datasets` and the Hub's viewer that `audio` is audio."""
    import datasets

    text = datasets.Value("string")
    features = {"audio": datasets.Audio(sampling_rate=SAMPLING_RATE), **dict.fromkeys(COLUMNS[:3], text)}
    features |= {"num_samples": datasets.Value("int64"), **dict.fromkeys(optional, text)}
    return datasets.Features(features).arrow_schema


def _encode(manifest: Manifest, row: int) -> tuple[dict[str, Any] | None, str | None]:
    """The recording as the dataset holds it, or what is wrong with it."""
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
    """The bytes of a file that is 16 kHz mono FLAC, whole."""
    import soundfile

    if not isinstance(source, str) or not source.lower().endswith(".flac"):
        return None
    header = soundfile.info(source)
    is_ours = (header.samplerate, header.channels, header.format) == (SAMPLING_RATE, 1, "FLAC")
    return Path(source).read_bytes() if is_ours else None


def page_of(manifest: Manifest) -> str:
    """The page of the dataset, in Markdown."""
    hours = sum(manifest.column("num_samples")) / SAMPLING_RATE / 3600
    return (
        "---\ntask_categories:\n- audio-classification\ntags:\n- speaker-verification\n---\n\n"
        f"{len(manifest):,} utterances of {len(manifest.speakers):,} speakers, {hours:,.1f} hours, 16 kHz mono FLAC, "
        "made by `oskdft push-dataset`.\n\nA row group holds utterances of one speaker: "
        "`train_data: hf://datasets/…` of an OS-KDFT recipe streams it.\n\n"
        "Licence and source of the recordings are not known to the tool: say them here.\n"
    )
