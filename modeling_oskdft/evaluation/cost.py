"""Measure the size and the time of encoders."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import SequenceFeatureExtractor

from ..audio.loading import SAMPLING_RATE
from ..embedding.runtimes import Embedder, ExportedEmbedder, TorchEmbedder

Name = TypeVar("Name")
PEAK_PROGRAM = """
import sys, warnings
import numpy as np
warnings.simplefilter("ignore")
from modeling_oskdft import SpeakerVerifier
noise = 0.1 * np.random.default_rng(0).normal(size=round(16000 * float(sys.argv[2])))
SpeakerVerifier.from_pretrained(sys.argv[1]).embed(noise.astype(np.float32))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of a model, trainable or not.

    Args:
        model: the model.
    """
    return sum(parameter.numel() for parameter in model.parameters())


def file_bytes(folder: str | Path) -> int:
    """Add up the sizes of the files of weights that `save_pretrained` wrote, in bytes.

    Args:
        folder: folder of the model; objectives of a training run in it are not counted.
    """
    return sum(
        file.stat().st_size for file in Path(folder).glob("*.safetensors") if file.name != "objectives.safetensors"
    )


def alternating_medians(functions: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Time functions in turn, A B A B, so that a drift of the machine affects all of them.

    Args:
        functions: the functions by name.
        rounds: timed calls of each; one more call of each comes before them and is not timed.

    Returns:
        The median time of each function in seconds, by name.
    """
    return medians_in_turn({name: partial(_seconds, function) for name, function in functions.items()}, rounds)


def medians_in_turn(measures: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, float]:
    """Call functions that measure something in turn, A B A B, and take the median of what each returns.

    Args:
        measures: the functions by name.
        rounds: calls that count; one more of each comes before them.
    """
    values: dict[Name, list[float]] = {name: [] for name in measures}
    for round_number in range(rounds + 1):
        for name, measure in measures.items():
            value = measure()
            if round_number:
                values[name].append(value)
    return {name: statistics.median(found) for name, found in values.items()}


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def encoder_seconds(
    encoders: Mapping[str, nn.Module],
    audio_seconds: float = 3.0,
    rounds: int = 9,
    threads: int = 1,
    features: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> dict[str, float]:
    """Time encoders on one recording of noise, in turn.

    Args:
        encoders: the encoders by name; they are put into eval mode.
        audio_seconds: length of the recording.
        rounds: timed calls of each.
        threads: threads of torch; the former number is set again afterwards.
        features: inputs of those encoders that read no samples.

    Returns:
        The median time of each encoder in seconds, by name.
    """
    inputs = dict.fromkeys(encoders, {"input_values": noise(audio_seconds)}) | dict(features or {})
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            calls = {name: partial(encoder.eval(), **inputs[name]) for name, encoder in encoders.items()}
            return alternating_medians(calls, rounds)
    finally:
        torch.set_num_threads(before)


def noise(seconds: float) -> Tensor:
    """Draw the same noise at every call.

    Args:
        seconds: length.

    Returns:
        (1, samples) at 16 kHz.
    """
    return torch.randn(1, round(seconds * SAMPLING_RATE), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def multiply_adds(encoder: nn.Module, audio_seconds: float = 3.0) -> int:
    """Count the multiply-adds of one forward pass in convolutions and matrix products, with torch's `FlopCounterMode`.

    Args:
        encoder: the encoder; it is put into eval mode.
        audio_seconds: length of the recording.
    """
    # Attention is computed by plain matrix products, because the counter does not count the CPU's own kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.eval()(noise(audio_seconds))
    return int(counter.get_total_flops()) // 2


def compare_encoders(
    teacher: nn.Module,
    student: nn.Module,
    teacher_extractor: SequenceFeatureExtractor | None = None,
    origin: nn.Module | None = None,
) -> dict[str, dict[str, float]]:
    """Count the parameters of a teacher and a student, and time their encoders in one run: 3 s on one thread.

    Args:
        teacher: an encoder.
        student: a verifier; its head is counted in `parameters` alone.
        teacher_extractor: feature extractor of a teacher that reads no samples. Features are computed before, and
            padded as the extractor does it: Whisper's to 30 s.
        origin: the encoder that the student was cut from, where it is not the teacher.

    Returns:
        `parameters`, `encoder_parameters` and `encoder_milliseconds` of "teacher" and "student", and of "origin".
    """
    encoders = {"teacher": teacher, "student": student.get_submodule("oskdft")}
    if origin is not None and origin is not teacher:
        encoders["origin"] = origin
    features = {}
    if teacher_extractor is not None and "input_values" not in teacher_extractor.model_input_names:
        waveform = noise(3.0)[0].numpy()
        inputs = teacher_extractor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        features["teacher"] = {name: value for name, value in inputs.items() if name != "attention_mask"}
    milliseconds = {name: 1000 * value for name, value in encoder_seconds(encoders, features=features).items()}
    return {
        name: {
            "parameters": count_parameters(student if name == "student" else encoder),
            "encoder_parameters": count_parameters(encoder),
            "encoder_milliseconds": round(milliseconds[name], 2),
        }
        for name, encoder in encoders.items()
    }


def size_of(embedder: Embedder) -> dict[str, int]:
    """Return the `bytes` of a model, and its `parameters` where PyTorch runs it.

    Args:
        embedder: the model in its runtime.
    """
    if isinstance(embedder, TorchEmbedder):
        count = count_parameters(embedder.model)
        return {"parameters": count, "bytes": 4 * count}
    assert isinstance(embedder, ExportedEmbedder)
    graph = Path(embedder.path)
    weights = graph.with_suffix(".bin")  # of OpenVINO
    return {"bytes": graph.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)}


def peak_memory_of(model: str, seconds: float = 3.0) -> int | None:
    """Measure the most bytes of a process that opens a verifier and embeds one recording, on one thread.

    Args:
        model: folder or repository of the verifier.
        seconds: length of the recording.

    Returns:
        None on systems that do not tell.
    """
    command = [sys.executable, "-c", PEAK_PROGRAM, model, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    last = done.stdout.split()[-1:] or [""]
    return int(last[0]) * 1024 if last[0].isdecimal() else None
