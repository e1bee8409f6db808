"""Measure size and time of encoders."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..audio.loading import SAMPLING_RATE


def count_parameters(model: nn.Module) -> int:
    """Numbers that the model holds, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def file_bytes(folder: str | Path) -> int:
    """Size of the weights that `save_pretrained` wrote."""
    return sum(
        file.stat().st_size for file in Path(folder).glob("*.safetensors") if file.name != "objectives.safetensors"
    )


def alternating_medians(functions: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Median seconds of each function, called in turn A B A B so that drift of the machine meets all of them.

    One call of each is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def encoder_seconds(
    encoders: Mapping[str, nn.Module], audio_seconds: float = 3.0, rounds: int = 9, threads: int = 1
) -> dict[str, float]:
    """Median time of each encoder for one recording, alternating."""
    waveform = noise(audio_seconds)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            calls = {name: partial(encoder.eval(), waveform) for name, encoder in encoders.items()}
            return alternating_medians(calls, rounds)
    finally:
        torch.set_num_threads(before)


def noise(seconds: float) -> Tensor:
    """(1, samples) at 16 kHz, the same at every call."""
    return torch.randn(1, round(seconds * SAMPLING_RATE), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def multiply_adds(encoder: nn.Module, audio_seconds: float = 3.0) -> int:
    """Of one forward pass, counted in its convolutions and products of matrices by torch's `FlopCounterMode`."""
    # Attention as plain products of matrices: the counter does not know the CPU's own kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.eval()(noise(audio_seconds))
    return int(counter.get_total_flops()) // 2


def compare_encoders(teacher: nn.Module, student: nn.Module) -> dict[str, dict[str, float]]:
    """Parameters of a teacher's encoder and of a student's, and their time for 3 s on one thread, in one run.

    student: a verifier; its head is counted in `parameters` alone.
    """
    encoders = {"teacher": teacher, "student": student.get_submodule("oskdft")}
    milliseconds = {name: 1000 * seconds for name, seconds in encoder_seconds(encoders).items()}
    return {
        name: {
            "parameters": count_parameters(teacher if name == "teacher" else student),
            "encoder_parameters": count_parameters(encoder),
            "encoder_milliseconds": round(milliseconds[name], 2),
        }
        for name, encoder in encoders.items()
    }
