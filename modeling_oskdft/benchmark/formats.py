"""Compare the formats of an export with PyTorch: size, time on one thread, and memory of a process.

The student is the thin one of `thin_students` with random weights, in float32 and in int8, which ONNX calibrates on
synthetic voices. Formats whose runtime is not installed have no row.
ExecuTorch has no setting for its threads here: it uses those that it takes.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from transformers import Wav2Vec2FeatureExtractor

from ..audio.loading import SAMPLING_RATE
from ..audio.synthetic_voices import write_voices
from ..embedding.runtimes import Embedder, open_embedder
from ..evaluation.cost import alternating_medians, peak_memory_of
from ..evaluation.decision_report import one_thread
from ..export.onnx_graph import export_onnx
from ..export.other_formats import FORMATS, export_other
from .compression import SYSTEMS
from .inference import THIN, model_of

LENGTHS = (1, 3, 10)  # seconds
ROUNDS = 15
TORCH, ONNX = "PyTorch", "ONNX"
NAMES = {"openvino": "OpenVINO", "executorch": "ExecuTorch"}


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Export and measure every format.

    Returns:
        A row for each format, and the times of the exports over PyTorch's for 3 s.
    """
    with tempfile.TemporaryDirectory() as place, one_thread():
        folders = write_formats(Path(place))
        embedders = {name: open_embedder(str(folder), "auto") for name, folder in folders.items()}
        times = {seconds: alternating_medians(_calls(embedders, seconds), ROUNDS) for seconds in LENGTHS}
        rows = []
        for name, folder in folders.items():
            memory = peak_memory_of(str(folder))
            rows.append(
                {
                    "format": name,
                    "MB": sum(file.stat().st_size for file in folder.glob("model.*")) / 1e6,
                    **{f"{seconds} s, ms": 1000 * times[seconds][name] for seconds in LENGTHS},
                    "memory, MB": None if memory is None else memory / 1e6,
                }
            )
    ratios = {f"{name} / {TORCH}, 3 s": times[3][name] / times[3][TORCH] for name in folders if name != TORCH}
    return rows, ratios


def write_formats(folder: Path) -> dict[str, Path]:
    """Write the thin student in every format whose runtime is installed, float32 and int8; returns folders by name.

    Args:
        folder: folder to write to.
    """
    model = folder / "model"
    model_of(SYSTEMS["HuBERT-base, 12 to 2 layers"], THIN).save_pretrained(model)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(model)
    voices = write_voices(folder / "voices", speakers=10, sessions=2, utterances=2, seed=0)
    folders = {TORCH: model, ONNX: folder / "onnx", f"{ONNX} int8": folder / "onnx-int8"}
    export_onnx(model, folders[ONNX])
    export_onnx(model, folders[f"{ONNX} int8"], int8=True, calibration=voices)
    for form in FORMATS:
        if find_spec(form) is None:
            print(f"{form} is not installed: it has no row.", file=sys.stderr)
            continue
        name = NAMES[form]
        folders |= {name: folder / form, f"{name} int8": folder / f"{form}-int8"}
        export_other(model, folders[name], form, max(LENGTHS))
        export_other(model, folders[f"{name} int8"], form, max(LENGTHS), int8=True, calibration=voices)
    return folders


def _calls(embedders: dict[str, Embedder], seconds: int) -> dict[str, Callable[[], object]]:
    noise = np.random.default_rng(0).normal(0, 0.1, seconds * SAMPLING_RATE).astype(np.float32)
    return {name: partial(embedder.embed, [noise]) for name, embedder in embedders.items()}
