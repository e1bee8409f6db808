"""Make a manifest of 100,000 small files, and measure: files a second, and whether memory grows with their number."""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio.loading import SAMPLING_RATE

FEW, MANY = 10_000, 100_000
SCRIPT = """
import resource, sys, time
from modeling_oskdft.data.prepare_folder import prepare_folder
start = time.perf_counter()
prepare_folder(sys.argv[1], sys.argv[2])
seconds = time.perf_counter() - start
main = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(seconds, main, workers)
"""


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure a small and a large tree, each in a new process; return a row for each, and ratios."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).normal(scale=0.1, size=SAMPLING_RATE // 10)
    soundfile.write(file, noise, SAMPLING_RATE, format="FLAC")
    rows = []
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "tree")
            for number in range(count):
                place = root / f"id{number // 500:05d}" / f"v{number // 50:05d}"
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{number:06d}.flac").write_bytes(file.getvalue())
            command = [sys.executable, "-c", SCRIPT, str(root), str(Path(folder, "manifest.parquet"))]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds, main, workers = map(float, printed.split())
            size = Path(folder, "manifest.parquet").stat().st_size
            rows.append(
                {
                    "files": count,
                    "files/s": count / seconds,
                    "peak memory, MB": main / 1024,
                    "of a worker, MB": workers / 1024,
                    "manifest, MB": size / 1e6,
                }
            )
    few, many = rows
    return rows, {
        f"thousand files/s on {os.cpu_count()} cores": many["files/s"] / 1000,
        f"peak memory with {MANY:,} / with {FEW:,} files (about 1)": many["peak memory, MB"] / few["peak memory, MB"],
    }
