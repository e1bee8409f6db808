"""Embed a corpus of 100,000 short files, and watch the memory: files a second, and what a larger corpus would take.

The student is the thin one of `thin_students` with random weights, exported to ONNX. The files are links to 64
made-up recordings of a second, so that each is opened and read, and little of the disk is needed. The command
`oskdft embed-corpus` runs in a process of its own with two workers, and the memory of all its processes is read every
second.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from ..audio.loading import SAMPLING_RATE, load_audio
from ..audio.synthetic_voices import write_voices
from ..data.manifest import MANIFEST_SCHEMA, Manifest
from .service import exported_student

FILES, DIFFERENT, SECONDS = 100_000, 64, 1.0
WORKERS, PER_SHARD = 2, 1000


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Embed the corpus once.

    Returns:
        A row of speeds and sizes; of memory and speed, the last tenth of the run over the second one.
    """
    with tempfile.TemporaryDirectory() as place:
        model = exported_student(Path(place))
        manifest = write_corpus(Path(place), FILES)
        out = Path(place, "embeddings")
        start = time.perf_counter()
        memory = _watched(
            [
                *(sys.executable, "-m", "modeling_oskdft.commands", "embed-corpus", str(manifest)),
                *("--model", str(model), "--out", str(out)),
                *("--workers", str(WORKERS), "--per_shard", str(PER_SHARD)),
            ]
        )
        seconds = time.perf_counter() - start
        shards = sorted((out / "shards").glob("*.parquet"), key=lambda file: file.stat().st_mtime)
        ends = [file.stat().st_mtime for file in shards]
        names = [name for file in shards for name in pq.read_table(file)["utterance_id"].to_pylist()]
        row = {
            "files": FILES,
            "seconds of each": SECONDS,
            "workers": WORKERS,
            "minutes": seconds / 60,
            "files/s": FILES / seconds,
            "memory, MB": max(memory) / 1e6,
            "missing or twice": FILES - len(set(names)) + len(names) - len(set(names)),
        }
    return [row], {
        "memory of the last tenth / the second tenth": statistics.median(_tenth(memory, 9))
        / statistics.median(_tenth(memory, 1)),
        "speed of the last tenth / the second tenth": np.ptp(_tenth(ends, 1)) / np.ptp(_tenth(ends, 9)),
    }


def _tenth(values: Sequence[float], number: int) -> Sequence[float]:
    """Return one tenth of some values, from 0 to 9."""
    return values[number * len(values) // 10 : (number + 1) * len(values) // 10]


def write_corpus(folder: Path, files: int) -> Path:
    """Write links to a few recordings, and their manifest; returns the manifest.

    Args:
        folder: folder to write to.
        files: number of links.
    """
    waveforms = [load_audio(file) for file in sorted(write_voices(folder / "voices", 8, 1, 2, seed=0).rglob("*.flac"))]
    samples = int(SECONDS * SAMPLING_RATE)
    recordings = []
    for number in range(DIFFERENT):
        waveform = np.roll(waveforms[number % len(waveforms)], number * 997)[:samples]
        recordings.append(folder / f"recording{number}.wav")
        soundfile.write(recordings[-1], waveform, SAMPLING_RATE, subtype="PCM_16")
    rows = []
    for number in range(files):
        path = folder / "corpus" / f"{number // 1000:03d}" / f"{number:06d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(recordings[number % DIFFERENT], path)
        name = f"{number:06d}"
        rows.append(
            (name, f"speaker{number % 997}", name, str(path.relative_to(folder)), int(SECONDS * SAMPLING_RATE))
        )
    table = pa.Table.from_pylist([dict(zip(MANIFEST_SCHEMA.names, row, strict=True)) for row in rows], MANIFEST_SCHEMA)
    Manifest(table, folder).save(folder / "corpus.parquet")
    return folder / "corpus.parquet"


def _watched(command: list[str]) -> list[int]:
    """Run a command, and return the bytes that it and its processes hold, every second."""
    readings = []
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            readings.append(_resident_bytes_of_session(process.pid))
            time.sleep(1.0)
        if process.returncode != 0:
            log.seek(0)
            raise RuntimeError(f"oskdft embed-corpus ended with {process.returncode}: {log.read()[-2000:]!r}")
    return readings


def _resident_bytes_of_session(session: int) -> int:
    """Add up what the processes of a session hold in memory; on Linux. Shared pages count once for each process."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


def explain(rows: list[dict[str, Any]]) -> str:
    """Write the conditions under which the rows were measured."""
    (row,) = rows
    return (
        f"The thin student in onnxruntime; {row['workers']} workers of one thread each, shards of {PER_SHARD:,}. The "
        "time has the start of the processes and the plan in it."
    )
