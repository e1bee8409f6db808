"""A verifier in PyTorch and in onnxruntime, one thread, recordings from 1 to 60 s: time, and memory of a process.

Random weights of HuBERT-base's shape; the student has two layers, the thin student is that of `thin_students`, and the
teacher has all twelve layers and the student's head. Every runtime gets the raw waveform and its mask and does the
whole way to the embedding. Times are medians of alternating runs. Peak memory is that of a process that opens one
model and embeds one recording: Python with torch and this package, or with onnxruntime and numpy alone.
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
from ..embedding.runtimes import SESSION_OPTIONS, TorchEmbedder, open_session
from ..evaluation.cost import alternating_medians, noise
from ..export.int8 import FLOOR, calibration_recordings, quantise
from ..export.onnx_graph import INPUTS, OPSET, RawToEmbedding, write_graph
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from .compression import SYSTEMS, System, verifier
from .measure import memory_given_back
from .thin_students import CHOSEN, STUDENTS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SYSTEM = SYSTEMS["HuBERT-base, 12 to 2 layers"]
SECONDS = {1: 9, 3: 9, 10: 5, 60: 3}  # of audio, and rounds
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
# As `open_session`, without it: it would bring torch into the process.
OF_ONNX = f"""
import sys
import numpy
import onnxruntime
options = onnxruntime.SessionOptions()
for option, value in {SESSION_OPTIONS}.items():
    setattr(options, option, value)
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
samples = 16000 * int(sys.argv[2])
waveform = numpy.random.default_rng(0).standard_normal((1, samples), dtype=numpy.float32)
session.run(None, {{"input_values": waveform, "attention_mask": numpy.ones((1, samples), numpy.int64)}})
"""
OF_TORCH = """
import sys
import torch
from modeling_oskdft import OSKDFTForXVector
torch.set_num_threads(1)
model = OSKDFTForXVector.from_pretrained(sys.argv[1]).eval()
samples = 16000 * int(sys.argv[2])
with torch.inference_mode():
    model(torch.randn(1, samples), torch.ones(1, samples, dtype=torch.long))
"""
PEAK = 'print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))\n'


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row for each model and runtime, and the ratios between their times for 3 s."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        voices = write_voices(Path(place, "voices"), speakers=8, sessions=1, utterances=2, seed=0)
        for of, runtimes in RUNTIMES.items():
            rows += measure_model(of, runtimes, Path(place, of), voices)
    return rows, ratios(rows)


def model_of(system: System, of: str) -> OSKDFTForXVector:
    """One of the three, with random weights."""
    if of != THIN:
        return verifier(system, of)
    torch.manual_seed(0)
    with torch.device("meta"):  # for its configuration: no weights
        config = system.teacher().config
    return OSKDFTForXVector(OSKDFTConfig.from_teacher(config, **STUDENTS[CHOSEN], head_type=system.head_type)).eval()


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What one runtime takes of the time of another, for the second of the lengths."""
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
        f"{' '.join(one)} / {' '.join(other)}, {seconds} s": times[one] / times[other]
        for one, other in pairs
        if one in times and other in times
    }


def measure_model(of: str, runtimes: tuple[str, ...], folder: Path, voices: Path) -> list[dict[str, Any]]:
    """Its rows, one a runtime. voices: recordings to calibrate with."""
    print(f"{of}: exporting …", file=sys.stderr)
    model = model_of(SYSTEM, of)
    model.save_pretrained(folder)
    files, int8 = write_graphs(model, folder, voices, runtimes)
    seconds = time_runtimes(model, files, runtimes)
    return [
        {
            "model": of,
            "runtime": runtime,
            "file, MB": files[runtime].stat().st_size / 1e6,
            "int8 convolutions": int8.get(runtime, "none"),
            **{f"RTF, {length} s": seconds[length][runtime] / length for length in SECONDS},
            # A compiled model has its compiler in the process, and that is most of what it would hold.
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
    """The file of every runtime, and how many convolutions of which are int8."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    files = {EAGER: folder / "model.safetensors", COMPILED: folder / "model.safetensors", FLOAT: folder / "model.onnx"}
    write_graph(TorchEmbedder(model, extractor), files[FLOAT], OPSET, folder.name)
    int8 = {}
    for runtime, floor in ((INT8, FLOOR), (INT8_ALL, -math.inf)):
        if runtime in runtimes:
            files[runtime] = folder / f"{len(files)}.onnx"
            done = quantise(files[FLOAT], files[runtime], calibration_recordings(voices, 400), floor)
            counts = (len(done.int8), len(done.two_parts), len(done.float32))
            int8[runtime] = f"{counts[0]} + {counts[1]} in two parts of {sum(counts)}"
    return files, int8


def time_runtimes(
    model: OSKDFTForXVector, files: dict[str, Path], runtimes: tuple[str, ...]
) -> dict[int, dict[str, float]]:
    """Length of a recording to runtime to seconds."""
    whole = RawToEmbedding(model, do_normalize=True).eval()
    calls: dict[str, Callable[[Tensor, Tensor], object]] = {EAGER: whole}
    if COMPILED in runtimes and (compiled := compile_module(whole)) is not None:
        calls[COMPILED] = compiled
    calls |= {name: partial(run_graph, open_session(files[name], 1)) for name in runtimes if "ONNX" in name}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {}
        with torch.inference_mode():
            for length, rounds in SECONDS.items():
                print(f"{length} s …", file=sys.stderr)
                waveform = noise(length)
                mask = torch.ones_like(waveform, dtype=torch.long)
                functions = {name: partial(call, waveform, mask) for name, call in calls.items()}
                found[length] = alternating_medians(functions, rounds)
        return found
    finally:
        torch.set_num_threads(before)


def compile_module(module: nn.Module) -> Callable[[Tensor, Tensor], object] | None:
    """For any length; compiled now, which takes a minute. None where there is no compiler for C++."""
    compiled = torch.compile(module, dynamic=True)
    try:
        with torch.inference_mode():
            for seconds in (1.0, 2.0):  # the first length alone would be taken for a constant
                waveform = noise(seconds)
                compiled(waveform, torch.ones_like(waveform, dtype=torch.long))
    except Exception as error:  # whatever the compiler ended with
        print(f"{COMPILED} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return compiled


def run_graph(session: "InferenceSession", waveform: Tensor, mask: Tensor) -> object:
    """One recording."""
    return session.run(None, dict(zip(INPUTS, (waveform.numpy(), mask.numpy()), strict=True)))


def peak_memory(file: Path, seconds: int) -> float:
    """Megabytes of a process that opens a model and embeds one recording; on Linux."""
    code, opened = (OF_ONNX, file) if file.suffix == ".onnx" else (OF_TORCH, file.parent)
    with memory_given_back():
        done = subprocess.run(
            [sys.executable, "-c", code + PEAK, str(opened), str(seconds)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        )
    return int(done.stdout) / 1024
