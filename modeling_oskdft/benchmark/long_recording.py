"""Embed a recording of an hour with bounded memory: seconds, and the peak memory of the process.

The verifier has random weights of HuBERT-base's shape and two layers; the recording is a FLAC file of one made-up
voice with pauses, 16 kHz mono. A process opens the verifier as a user does,
`SpeakerVerifier.from_pretrained(…).embed(…)`: it reads the file, finds the speech, and embeds windows of 2 s.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from transformers import Wav2Vec2FeatureExtractor

from ..audio.forms import SAMPLING_RATE
from ..audio.loading import load_audio
from ..audio.synthetic_voices import write_voices
from ..embedding.runtimes import TorchEmbedder
from ..export.onnx_graph import OPSET, write_graph
from .compression import SYSTEMS, ComparedSystem, verifier
from .measure import memory_given_back

SYSTEM: ComparedSystem = SYSTEMS["HuBERT-base, 12 to 2 layers"]
SECONDS = 3600
MOST_MEGABYTES = 700  # that an hour may take
PAUSE_SECONDS = 2
RUN = """
import sys, time, warnings
warnings.simplefilter("ignore")
from modeling_oskdft import SpeakerVerifier
verifier = SpeakerVerifier.from_pretrained(sys.argv[1], backend=sys.argv[2])
start = time.perf_counter()
verifier.embed(sys.argv[3])
print(time.perf_counter() - start)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure both runtimes, each in a process of its own, on one thread; returns rows and ratios."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "model")
        model = verifier(SYSTEM, "student")
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        write_graph(TorchEmbedder(model, extractor), folder / "model.onnx", OPSET, "student")
        recording = write_recording(Path(place))
        rows = [_row(runtime, folder, recording) for runtime in ("torch", "onnxruntime")]
    return rows, {f"largest peak memory, MB (at most {MOST_MEGABYTES})": max(row["peak memory, MB"] for row in rows)}


def write_recording(place: Path) -> Path:
    """Write the recording, in blocks."""
    files = sorted(write_voices(place / "voices", speakers=1, sessions=1, utterances=4, seed=0).rglob("*.flac"))
    pause = np.zeros(PAUSE_SECONDS * SAMPLING_RATE, np.float32)
    block = np.concatenate([part for file in files for part in (load_audio(file), pause)])
    path, missing = place / "long.flac", SECONDS * SAMPLING_RATE
    with soundfile.SoundFile(path, "w", SAMPLING_RATE, 1, format="FLAC") as file:
        while missing > 0:
            file.write(block[:missing])
            missing -= len(block)
    return path


def _row(runtime: str, folder: Path, recording: Path) -> dict[str, Any]:
    with memory_given_back():
        process = subprocess.run(
            [sys.executable, "-c", RUN, str(folder), runtime, str(recording)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        )
    seconds, kilobytes = process.stdout.split()
    return {
        "runtime": runtime,
        "recording, s": SECONDS,
        "seconds": float(seconds),
        "RTF": float(seconds) / SECONDS,
        "peak memory, MB": int(kilobytes) / 1024,
    }
