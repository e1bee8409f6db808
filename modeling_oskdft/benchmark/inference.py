"""Time a verifier in PyTorch and in onnxruntime, one thread, recordings from 1 to 60 s; and measure its memory.

The weights are random, of HuBERT-base's shape. The student has two layers, the thin student is that of
`thin_students`, and the teacher has all twelve layers and the student's head. Every runtime computes the embedding
from the raw waveform and its mask. Times are medians of alternating runs. Peak memory is that of a process that opens
one model and embeds one recording: Python with torch and this package, or with onnxruntime and numpy alone.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2FeatureExtractor

from ..audio.synthetic_voices import write_voices
from ..embedding import graphs
from ..embedding.graphs import open_session
from ..embedding.runtimes import TorchEmbedder
from ..evaluation.cost import alternating_medians, noise
from ..export.int8 import FLOOR, calibration_recordings, quantise
from ..export.onnx_graph import OPSET, write_graph
from ..export.raw_verifier import INPUTS, RawToEmbedding
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from .compression import SYSTEMS, ComparedSystem, verifier
from .measure import memory_given_back
from .thin_students import CHOSEN, STUDENTS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SYSTEM = SYSTEMS["HuBERT-base, 12 to 2 layers"]
SECONDS = {1: 9, 3: 9, 10: 5, 60: 3}  # length of the audio: number of rounds
MEMORY_SECONDS = (3, 60)
EAGER, COMPILED, FLOAT, INT8, INT8_ALL = (
    "PyTorch eager",
    "PyTorch compiled",
    "ONNX float32",
    "ONNX int8",
    "ONNX int8, no convolution in two parts",
)
STUDENT, THIN, TEACHER = "student", "thin student", "teacher"
RUNTIMES = {
    STUDENT: (EAGER, COMPILED, FLOAT, INT8, INT8_ALL),
    THIN: (EAGER, FLOAT, INT8),
    TEACHER: (EAGER, FLOAT),
}
# By the file that stands alone: the package would import torch into the process.
RUN_ONNX = f"""
import sys
import numpy
sys.path.insert(0, {str(Path(graphs.__file__).parent)!r})
from graphs import open_session
session = open_session(sys.argv[1], 1)
samples = 16000 * int(sys.argv[2])
waveform = numpy.random.default_rng(0).standard_normal((1, samples), dtype=numpy.float32)
session.run(None, {{"input_values": waveform, "attention_mask": numpy.ones((1, samples), numpy.int64)}})
"""
RUN_TORCH = """
import sys
import torch
from modeling_oskdft import OSKDFTForXVector
torch.set_num_threads(1)
model = OSKDFTForXVector.from_pretrained(sys.argv[1]).eval()
samples = 16000 * int(sys.argv[2])
with torch.inference_mode():
    model(torch.randn(1, samples), torch.ones(1, samples, dtype=torch.long))
"""
PRINT_PEAK = 'print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))\n'


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure every model in its runtimes; return a row for each, and the ratios between their times for 3 s."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        voices = write_voices(Path(place, "voices"), speakers=8, sessions=1, utterances=2, seed=0)
        for kind, runtimes in RUNTIMES.items():
            rows += measure_model(kind, runtimes, Path(place, kind), voices)
    return rows, ratios(rows)


def model_of(system: ComparedSystem, kind: str) -> OSKDFTForXVector:
    """Make a verifier with random weights.

    Args:
        system: a teacher and its student.
        kind: "student", "thin student" or "teacher".
    """
    if kind != THIN:
        return verifier(system, kind)
    torch.manual_seed(0)
    with torch.device("meta"):  # for its configuration: no weights
        config = system.teacher().config
    return OSKDFTForXVector(OSKDFTConfig.from_teacher(config, **STUDENTS[CHOSEN], head_type=system.head_type)).eval()


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Divide the times of two runtimes, for the second of the lengths; pairs that were not measured are left out."""
    seconds = list(SECONDS)[1]
    times = {(row["model"], row["runtime"]): row[f"RTF, {seconds} s"] for row in rows}
    pairs = [
        ((STUDENT, COMPILED), (STUDENT, EAGER)),
        ((STUDENT, FLOAT), (STUDENT, EAGER)),
        ((STUDENT, INT8), (STUDENT, FLOAT)),
        ((STUDENT, INT8_ALL), (STUDENT, FLOAT)),
        ((STUDENT, FLOAT), (TEACHER, FLOAT)),
        ((STUDENT, INT8), (TEACHER, FLOAT)),
        ((THIN, EAGER), (TEACHER, EAGER)),
        ((THIN, FLOAT), (TEACHER, FLOAT)),
        ((THIN, INT8), (TEACHER, FLOAT)),
    ]
    return {
        f"{' '.join(first)} / {' '.join(second)}, {seconds} s": times[first] / times[second]
        for first, second in pairs
        if first in times and second in times
    }


def measure_model(kind: str, runtimes: tuple[str, ...], folder: Path, voices: Path) -> list[dict[str, Any]]:
    """Measure one verifier in several runtimes.

    Args:
        kind: "student", "thin student" or "teacher".
        runtimes: names of runtimes.
        folder: folder for the model and its graphs.
        voices: folder of recordings for the calibration of int8.

    Returns:
        A row for each runtime; a compiled model has none where there is no C++ compiler.
    """
    print(f"{kind}: exporting …", file=sys.stderr)
    model = model_of(SYSTEM, kind)
    model.save_pretrained(folder)
    files, int8 = write_graphs(model, folder, voices, runtimes)
    seconds = time_runtimes(model, files, runtimes)
    return [
        {
            "model": kind,
            "runtime": runtime,
            "file, MB": files[runtime].stat().st_size / 1e6,
            "int8 convolutions": int8.get(runtime, "none"),
            **{f"RTF, {length} s": seconds[length][runtime] / length for length in SECONDS},
            # The process of a compiled model also holds its compiler, and that would be most of its memory.
            **{
                f"peak memory, {length} s, MB": "not measured"
                if runtime == COMPILED
                else peak_memory(files[runtime], length)
                for length in MEMORY_SECONDS
            },
        }
        for runtime in runtimes
        if runtime in seconds[next(iter(SECONDS))]
    ]


def write_graphs(
    model: OSKDFTForXVector, folder: Path, voices: Path, runtimes: tuple[str, ...]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write the graphs of a model.

    Args:
        model: the verifier; its weights lie in `folder` already.
        folder: folder for the graphs.
        voices: folder of recordings for the calibration of int8.
        runtimes: names of runtimes.

    Returns:
        The file of every runtime, and for the int8 runtimes how many convolutions became int8.
    """
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    files = {EAGER: folder / "model.safetensors", COMPILED: folder / "model.safetensors", FLOAT: folder / "model.onnx"}
    write_graph(TorchEmbedder(model, extractor), files[FLOAT], OPSET, folder.name)
    int8 = {}
    for runtime, floor in ((INT8, FLOOR), (INT8_ALL, -math.inf)):
        if runtime in runtimes:
            files[runtime] = folder / f"{len(files)}.onnx"
            written = quantise(files[FLOAT], files[runtime], calibration_recordings(voices, 400), floor)
            counts = (len(written.int8), len(written.two_parts), len(written.float32))
            int8[runtime] = f"{counts[0]} + {counts[1]} in two parts of {sum(counts)}"
    return files, int8


def time_runtimes(
    model: OSKDFTForXVector, files: dict[str, Path], runtimes: tuple[str, ...]
) -> dict[int, dict[str, float]]:
    """Measure the median seconds of every runtime on one thread; return {seconds of audio: {runtime: seconds}}."""
    whole = RawToEmbedding(model, do_normalize=True).eval()
    calls: dict[str, Callable[[Tensor, Tensor], object]] = {EAGER: whole}
    if COMPILED in runtimes and (compiled := compile_module(whole)) is not None:
        calls[COMPILED] = compiled
    calls |= {name: partial(run_graph, open_session(files[name], 1)) for name in runtimes if "ONNX" in name}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        medians = {}
        with torch.inference_mode():
            for length, rounds in SECONDS.items():
                print(f"{length} s …", file=sys.stderr)
                waveform = noise(length)
                mask = torch.ones_like(waveform, dtype=torch.long)
                functions = {name: partial(call, waveform, mask) for name, call in calls.items()}
                medians[length] = alternating_medians(functions, rounds)
        return medians
    finally:
        torch.set_num_threads(before)


def compile_module(module: nn.Module) -> Callable[[Tensor, Tensor], object] | None:
    """Compile a module for any length, which takes a minute; return None where there is no C++ compiler."""
    compiled = torch.compile(module, dynamic=True)
    try:
        with torch.inference_mode():
            for seconds in (1.0, 2.0):  # with one length alone, torch compiles it in as a constant
                waveform = noise(seconds)
                compiled(waveform, torch.ones_like(waveform, dtype=torch.long))
    except Exception as error:  # compilers fail in many ways
        print(f"{COMPILED} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return compiled


def run_graph(session: "InferenceSession", waveform: Tensor, mask: Tensor) -> object:
    """Compute the embedding of one recording in onnxruntime."""
    return session.run(None, dict(zip(INPUTS, (waveform.numpy(), mask.numpy()), strict=True)))


def peak_memory(file: Path, seconds: int) -> float:
    """Measure the most megabytes of a process that opens a model and embeds one recording; on Linux.

    Args:
        file: an ONNX graph, or the weights in the folder of a saved verifier.
        seconds: length of the recording.
    """
    code, model = (RUN_ONNX, file) if file.suffix == ".onnx" else (RUN_TORCH, file.parent)
    with memory_given_back():
        process = subprocess.run(
            [sys.executable, "-c", code + PRINT_PEAK, str(model), str(seconds)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        )
    return int(process.stdout) / 1024
