"""Measure the joint step at real size: the plain reading of the method, ours, and ours with frozen, shared front end.

The plain reading runs the whole teacher, and the student once for each path. Every variant ends with the optimiser's
step. In float32 the loss of all variants is the same number; a teacher in bfloat16 changes it, and the change is
printed. The weights are random, of the published shapes, and the crops are noise.

Beside each speed stands its bound: the ratio of the counted operations (torch's `FlopCounterMode`). Peak memory is
measured in a new process for each variant. On a GPU everything runs in bf16 autocast, the teacher too, so the variants
with a bf16 teacher are left out there; the share of the card's arithmetic that is used, and the milliseconds of the
teacher's forward pass and of the whole step, are printed as well.
"""

import copy
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..audio.loading import SAMPLING_RATE
from ..evaluation.cost import alternating_medians
from ..model.configuration_oskdft import OSKDFTConfig
from ..student.initialization import init_student_from_teacher
from ..training.joint_model import JointModel
from ..training.objectives.distillation import KDObjective, LastLayerMSE, LayerwiseHeads
from ..training.objectives.objectives import Objectives
from ..training.objectives.speaker import AAMSoftmax
from ..training.teacher import Teacher
from .crop_loader import crops_per_second, waiting_share
from .measure import forget_peak_memory, in_new_processes, peak_memory_bytes
from .shapes import hubert_base, xlsr_53

ROUNDS, SPEAKERS = 5, 5994  # as many speakers as VoxCeleb2's development part has
# Arithmetic of published cards in bf16, dense, operations a second (NVIDIA's data sheets).
PEAK_OPERATIONS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


class TrainedSystem(NamedTuple):
    """Describe a teacher, the student that is cut from it, and the size of their batches.

    Args:
        teacher: function that makes the teacher with random weights.
        layers: number of the student's layers, the first ones of the teacher.
        head_type: type of the head, as in `OSKDFTConfig`.
        kd: function that makes the distillation objective.
        crops: pairs (number, seconds) of a batch, on the CPU and on a GPU.
    """

    teacher: Callable[[], PreTrainedModel]
    layers: int
    head_type: str
    kd: Callable[[], KDObjective]
    crops: tuple[tuple[int, int], tuple[int, int]]


SYSTEMS = {
    "HuBERT-base, 2 layers": TrainedSystem(
        hubert_base,
        2,
        "statistics_pooling",
        lambda: LayerwiseHeads(768, 768, [4, 8, 12]),
        ((4, 3), (64, 3)),
    ),
    "XLSR-53, 4 layers": TrainedSystem(xlsr_53, 4, "ecapa_tdnn", lambda: LastLayerMSE(24), ((2, 2), (64, 2))),
}
PLAIN, OURS, FROZEN = "plain", "ours", "ours, frozen front end"
ROUGH, ROUGH_FROZEN = f"{OURS}, bf16 teacher", f"{FROZEN}, bf16 teacher"
VARIANTS = {
    "cpu": (PLAIN, OURS, ROUGH, FROZEN, ROUGH_FROZEN),
    "cuda": (PLAIN, OURS, FROZEN),  # the teacher of these is in bf16 already
}


def device() -> torch.device:
    """Return the device that the benchmark runs on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Step:
    """Run the training step of one variant of one system.

    Args:
        system: the teacher, the student and their batch.
        variant: one of `VARIANTS`.
        teacher: its own copy, which is cut and frozen in place.
    """

    def __init__(self, system: TrainedSystem, variant: str, teacher: PreTrainedModel) -> None:
        torch.manual_seed(0)
        self.variant, self.device = variant, device()
        self.on_gpu = self.device.type == "cuda"
        self.crops, seconds = system.crops[self.on_gpu]
        self.waveforms = torch.randn(self.crops, seconds * SAMPLING_RATE, device=self.device)
        self.labels = torch.arange(self.crops, device=self.device)
        config = OSKDFTConfig.from_teacher(teacher.config, list(range(system.layers)), head_type=system.head_type)
        self.student: Any = init_student_from_teacher(teacher, config)
        self.kd, self.speaker = system.kd(), AAMSoftmax(config.embedding_size, SPEAKERS)
        frozen = variant in (FROZEN, ROUGH_FROZEN)
        objectives = Objectives(self.speaker, self.kd)
        joint = JointModel(self.student, objectives, "feature_encoder" if frozen else "none")
        self.joint = joint.to(self.device).train()
        student_dtype = torch.bfloat16 if self.on_gpu else torch.float32
        teacher_dtype = torch.bfloat16 if variant in (ROUGH, ROUGH_FROZEN) else student_dtype
        self.whole_teacher = teacher.to(self.device).eval().requires_grad_(False)
        self.teacher = Teacher(teacher, self.kd.target_layers, teacher_dtype, student_dtype if frozen else None)
        self.teacher.to(self.device)
        trained = [parameter for parameter in joint.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=1e-5, fused=True)

    def loss(self) -> Tensor:
        """Run the forward passes of teacher and student; return the sum of both losses."""
        with self._autocast():
            return self._plain() if self.variant == PLAIN else self._joint()

    def _plain(self) -> Tensor:
        targets = self._whole_teacher_states()
        encoder = self.student.oskdft
        kd_states = encoder(self.waveforms, path="kd", output_hidden_states=True).hidden_states
        ft_states = encoder(self.waveforms, path="ft", output_hidden_states=True).hidden_states
        return self.kd(kd_states, targets).mean() + self.speaker(self.student.head(ft_states), self.labels).mean()

    def _joint(self) -> Tensor:
        states, features, _ = self.teacher({"input_values": self.waveforms})
        output = self.joint(self.waveforms, self.labels, states, features)
        return output.kd.mean() + output.ft.mean()

    def _whole_teacher_states(self) -> list[Tensor]:
        with torch.no_grad():
            outputs = self.whole_teacher(self.waveforms, output_hidden_states=True)
        states = [*outputs.hidden_states[:-1], outputs.last_hidden_state]
        return [states[layer] for layer in self.kd.target_layers]

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self.on_gpu else nullcontext()

    def _synchronise(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def teacher_forward(self) -> None:
        """Run the teacher's forward pass alone, as this variant runs it in its step."""
        with self._autocast():
            self._whole_teacher_states() if self.variant == PLAIN else self.teacher({"input_values": self.waveforms})
        self._synchronise()

    def __call__(self, waveforms: Tensor | None = None) -> None:
        """Run forward, backward and the optimiser's step.

        Args:
            waveforms: (crops, samples), which replace the noise of this and of later steps.
        """
        if waveforms is not None:
            self.waveforms = waveforms
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        self._synchronise()

    def operations(self) -> int:
        """Count the operations of forward and backward."""
        with FlopCounterMode(display=False) as counter:
            self.loss().backward()
        return int(counter.get_total_flops())


def peak_memory(name: str, variant: str) -> float:
    """Measure the most gigabytes that a step needs, with the weights and the optimiser's moments.

    Args:
        name: one of `SYSTEMS`.
        variant: one of `VARIANTS`.
    """
    step = Step(SYSTEMS[name], variant, SYSTEMS[name].teacher())
    step()
    if step.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:  # building the models took more than a step does
        forget_peak_memory()
    step()
    return (torch.cuda.max_memory_allocated() if step.on_gpu else peak_memory_bytes()) / 1e9


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure every variant of every system; return a row for each, and the ratios between their speeds."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for name, system in SYSTEMS.items():
        print(f"{name} …", file=sys.stderr)
        memory = in_new_processes(peak_memory, {variant: (name, variant) for variant in VARIANTS[device().type]})
        torch.manual_seed(0)
        teacher = system.teacher()
        # A teacher each: transformers records hidden states by hooks on layers, which two models must not share.
        steps = {variant: Step(system, variant, copy.deepcopy(teacher)) for variant in memory}
        for step in steps.values():  # dropout draws differently in each variant: equal numbers without it
            step.joint.eval()
        losses = {variant: step.loss().item() for variant, step in steps.items()}
        operations = {variant: step.operations() for variant, step in steps.items()}
        for step in steps.values():
            step.joint.train()
        seconds = alternating_medians(steps, ROUNDS)
        gpu_columns = _gpu_columns(steps, operations, seconds)
        for variant, step in steps.items():
            row = _row(step, operations, seconds, memory[variant])
            rows.append({"system": name} | row | {"first loss": losses[variant]} | gpu_columns[variant])
        ratios |= _speed_ratios(name, seconds, losses)
        if name == next(iter(SYSTEMS)):
            ratios |= _loading_ratios(name, steps[OURS], seconds[OURS])
    return rows, ratios


def _row(step: Step, operations: dict[str, int], seconds: dict[str, float], gigabytes: float) -> dict[str, Any]:
    return {
        "step": step.variant,
        "crops": f"{step.crops} x {step.waveforms.shape[1] // SAMPLING_RATE} s",
        "steps/s": 1 / seconds[step.variant],
        "peak memory, GB": gigabytes,
        "times plain": seconds[PLAIN] / seconds[step.variant],
        "bound by multiply-adds": operations[PLAIN] / operations[step.variant],
        "GFLOP a second of audio": operations[step.variant] / step.waveforms.numel() * SAMPLING_RATE / 1e9,
    }


def _speed_ratios(name: str, seconds: dict[str, float], losses: dict[str, float]) -> dict[str, float]:
    ratios = {
        f"{name}: ours / plain (target 1.5)": seconds[PLAIN] / seconds[OURS],
        f"{name}: frozen / plain (target 2.5)": seconds[PLAIN] / seconds[FROZEN],
    }
    if ROUGH in seconds:
        ratios |= {
            f"{name}: ours with a bf16 teacher / plain": seconds[PLAIN] / seconds[ROUGH],
            f"{name}: frozen with a bf16 teacher / plain": seconds[PLAIN] / seconds[ROUGH_FROZEN],
            f"{name}: loss with a bf16 teacher, relative difference": abs(losses[ROUGH] / losses[OURS] - 1),
        }
    return ratios


def _loading_ratios(name: str, step: Step, step_seconds: float) -> dict[str, float]:
    needed = step.crops / step_seconds
    return {
        f"{name}: crops of one worker / crops of the step (above 1)": crops_per_second() / needed,
        f"{name}: share of time spent waiting for data": waiting_share(step, step.crops, step.device),
    }


def _gpu_columns(
    steps: dict[str, Step], operations: dict[str, int], seconds: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Return the columns of a row on a GPU: both times, and the share of the card's arithmetic where it is known."""
    if not torch.cuda.is_available():
        return {variant: {} for variant in steps}
    teacher_seconds = alternating_medians({name: step.teacher_forward for name, step in steps.items()}, ROUNDS)
    columns = {
        variant: {"step, ms": 1000 * seconds[variant], "teacher's forward, ms": 1000 * teacher_seconds[variant]}
        for variant in steps
    }
    card = torch.cuda.get_device_name()
    peak = next((value for name, value in PEAK_OPERATIONS.items() if name in card), None)
    if peak is not None:
        for variant, row in columns.items():
            row["share of the card's arithmetic"] = operations[variant] / seconds[variant] / peak
    return columns
