"""Measure size and time at true size: the paper's system and two released ones, each beside its teacher, in one run.

The weights are random, of the published shapes. The teacher is transformers' own encoder; as a verifier it has the
student's head and no adapters. Parameters are counted for the encoder and for the whole verifier, operations for the
encoder. Time is the median of alternating runs on 3 s of audio. Peak memory is that of a process that holds one
verifier and runs it once.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from ..evaluation.cost import count_parameters, encoder_seconds, multiply_adds, noise
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from ..student.initialization import evenly_spaced_layers
from .measure import forget_peak_memory, in_new_processes, peak_memory_bytes
from .shapes import hubert_base, wavlm_base_plus, xlsr_53

ROUNDS, SECONDS = 7, 3.0
PAPER_SIZE, PAPER_TIME = -76.2, -79.0  # per cent: Heo et al., Interspeech 2023, abstract


class ComparedSystem(NamedTuple):
    """Describe a teacher, and the student that is compared with it.

    Args:
        teacher: function that makes the teacher with random weights.
        layers: teacher layers of the student, counted from 0.
        head_type: type of the head, as in `OSKDFTConfig`.
    """

    teacher: Callable[[], PreTrainedModel]
    layers: list[int]
    head_type: str


PAPER = "XLSR-53, 24 to 4 layers, ECAPA-TDNN"
SYSTEMS = {
    PAPER: ComparedSystem(xlsr_53, evenly_spaced_layers(24, 4), "ecapa_tdnn"),
    "HuBERT-base, 12 to 2 layers": ComparedSystem(hubert_base, [0, 1], "statistics_pooling"),
    "WavLM-base-plus, 12 to 2 layers": ComparedSystem(wavlm_base_plus, [0, 1], "statistics_pooling"),
}


def verifier(system: ComparedSystem, kind: str) -> OSKDFTForXVector:
    """Make a verifier with random weights.

    Args:
        system: a teacher and its student.
        kind: "student", or "teacher": all layers of the teacher, with the student's head.
    """
    torch.manual_seed(0)
    with torch.device("meta"):  # for its configuration: no weights
        config = system.teacher().config
    if kind == "teacher":
        layers, adapter_size = list(range(config.num_hidden_layers)), 0
    else:
        layers, adapter_size = system.layers, 64
    fields: dict[str, Any] = {"adapter_size": adapter_size, "head_type": system.head_type}
    return OSKDFTForXVector(OSKDFTConfig.from_teacher(config, layers, **fields)).eval()


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure all systems; return a row for each teacher and student, and the changes between them in per cent."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for name, system in SYSTEMS.items():
        print(f"{name} …", file=sys.stderr)
        pair = compare(name, system)
        rows += pair
        for column, paper in (("encoder parameters", PAPER_SIZE), ("encoder ms, 1 thread", PAPER_TIME)):
            published = f" (paper {paper} %)" if name == PAPER else ""
            ratios[f"{name}: {column}, change in %{published}"] = change(pair, column)
        ratios[f"{name}: encoder multiply-adds, change in %"] = change(pair, "G multiply-adds for 3 s")
        ratios[f"{name}: whole verifier's parameters, change in %"] = change(pair, "verifier parameters")
        ratios[f"{name}: whole verifier's time, change in %"] = change(pair, "verifier ms, 1 thread")
    return rows, ratios


def change(pair: list[dict[str, Any]], column: str) -> float:
    """Compute how much a column changes from the teacher's row to the student's, in per cent."""
    return 100 * (pair[1][column] / pair[0][column] - 1)


def compare(name: str, system: ComparedSystem) -> list[dict[str, Any]]:
    """Measure a teacher and its student; return the teacher's row and the student's."""
    kinds = ("teacher", "student")
    memory = in_new_processes(peak_memory, {kind: (name, kind) for kind in kinds})
    verifiers: dict[str, nn.Module] = {kind: verifier(system, kind) for kind in kinds}
    student = verifiers["student"].get_submodule("oskdft")
    encoders: dict[str, nn.Module] = {"teacher": system.teacher(), "student": student}
    one_thread = encoder_seconds(encoders, SECONDS, ROUNDS)
    all_threads = encoder_seconds(encoders, SECONDS, ROUNDS, os.cpu_count() or 1)
    whole_verifier = encoder_seconds(verifiers, SECONDS, ROUNDS)
    rows = []
    for kind in kinds:
        size = count_parameters(verifiers[kind])
        rows.append(
            {
                "system": name,
                "of": kind,
                "encoder parameters": count_parameters(encoders[kind]),
                "verifier parameters": size,
                "float32, MB": 4 * size / 1e6,
                "float16, MB": 2 * size / 1e6,
                "G multiply-adds for 3 s": multiply_adds(encoders[kind], SECONDS) / 1e9,
                "encoder ms, 1 thread": 1000 * one_thread[kind],
                "encoder ms, all threads": 1000 * all_threads[kind],
                "verifier ms, 1 thread": 1000 * whole_verifier[kind],
                "peak memory, MB": memory[kind] / 1e6,
            }
        )
    return rows


def peak_memory(name: str, kind: str) -> int:
    """Measure the most bytes that this process needs to hold one verifier and run it once.

    Args:
        name: one of `SYSTEMS`.
        kind: "teacher" or "student".
    """
    model = verifier(SYSTEMS[name], kind)
    forget_peak_memory()
    with torch.inference_mode():
        model(noise(SECONDS))
    return peak_memory_bytes()


def explain(rows: list[dict[str, Any]]) -> str:
    """Write how far the numbers are from the paper's, and why."""
    teacher, student = (row for row in rows if row["system"] == PAPER)
    with_head = 100 * (student["verifier parameters"] / teacher["encoder parameters"] - 1)
    return (
        f"The paper reports {PAPER_SIZE} % size and {PAPER_TIME:.0f} % encoder time for XLSR-53 with 4 layers. "
        f"Our encoder's size changes by {change([teacher, student], 'encoder parameters'):.1f} %; with its ECAPA-TDNN "
        f"head counted against the bare teacher it is {with_head:.1f} %, the nearest to the paper's. "
        f"Its time changes by {change([teacher, student], 'encoder ms, 1 thread'):.1f} % on one thread and by "
        f"{change([teacher, student], 'encoder ms, all threads'):.1f} % on all, its multiply-adds by "
        f"{change([teacher, student], 'G multiply-adds for 3 s'):.1f} %: the convolutions before the layers stay, and "
        "how much of the time they take depends on the machine."
    )
