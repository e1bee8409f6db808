"""The joint step at real size: the plain reading of the method, ours, and ours with a frozen, shared front end.

Plain is what the method says word by word: the whole teacher, and the student once for each path. All take the
optimiser's step. In float32 the loss is the same number; a teacher in bfloat16 moves it by what is printed. Random
weights of the published shapes, crops of noise. Beside each speed stands its bound: the ratio of the counted
operations (torch's `FlopCounterMode`). Peak memory is measured in a process of its own for each variant. On a GPU
everything runs in bf16 autocast, and the share of the card's arithmetic that is used is printed.
"""

import copy
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor

from ..audio.augmentation import WaveformAugmentation
from ..audio.loading import SAMPLING_RATE
from ..audio.synthetic_voices import write_voices
from ..data.crops import CropCollator, CropDataset, EpochSampler
from ..data.sources import load_manifest
from ..evaluation.cost import alternating_medians
from ..model.configuration_oskdft import OSKDFTConfig
from ..student.initialization import init_student_from_teacher
from ..training.joint_model import JointModel, Teacher
from ..training.objectives.objectives import AAMSoftmax, KDObjective, LastLayerMSE, LayerwiseHeads, Objectives
from .measure import forget_peak_memory, memory_given_back, peak_memory_bytes
from .shapes import hubert_base, xlsr_53

ROUNDS, SPEAKERS, LOADED_BATCHES = 5, 5994, 12
# Arithmetic of published cards in bf16, dense, operations a second (NVIDIA's data sheets).
PEAK_OPERATIONS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


class System(NamedTuple):
    """A teacher and the student that is cut from it. crops: of the CPU and of a GPU, (number, seconds)."""

    teacher: Callable[[], PreTrainedModel]
    layers: int
    head_type: str
    kd: Callable[[], KDObjective]
    crops: tuple[tuple[int, int], tuple[int, int]]


SYSTEMS = {
    "HuBERT-base, 2 layers": System(
        hubert_base,
        2,
        "statistics_pooling",
        lambda: LayerwiseHeads(768, 768, [4, 8, 12]),
        ((4, 3), (64, 3)),
    ),
    "XLSR-53, 4 layers": System(xlsr_53, 4, "ecapa_tdnn", lambda: LastLayerMSE(24), ((2, 2), (64, 2))),
}
PLAIN, OURS, FROZEN = "plain", "ours", "ours, frozen front end"
ROUGH, ROUGH_FROZEN = f"{OURS}, bf16 teacher", f"{FROZEN}, bf16 teacher"
VARIANTS = (PLAIN, OURS, ROUGH, FROZEN, ROUGH_FROZEN)


def device() -> torch.device:
    """Where the benchmark runs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Step:
    """One variant of one system: a call is a whole training step."""

    def __init__(self, system: System, variant: str, teacher: PreTrainedModel) -> None:
        torch.manual_seed(0)
        self.variant, self.device = variant, device()
        number, seconds = system.crops[self.device.type == "cuda"]
        self.crops = number
        self.waveforms = torch.randn(number, seconds * SAMPLING_RATE, device=self.device)
        self.labels = torch.arange(number, device=self.device)
        frozen = variant in (FROZEN, ROUGH_FROZEN)
        layers = list(range(system.layers))
        config = OSKDFTConfig.from_teacher(teacher.config, layers, head_type=system.head_type)
        student = init_student_from_teacher(teacher, config)
        kd = system.kd()
        speaker = AAMSoftmax(config.embedding_size, SPEAKERS)
        objectives = Objectives(speaker, kd)
        joint = JointModel(student, objectives, "feature_encoder" if frozen else "none")
        self.joint = joint.to(self.device).train()
        self.student: Any = student
        self.kd = kd
        self.speaker = speaker
        own = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        precision = torch.bfloat16 if variant in (ROUGH, ROUGH_FROZEN) else own
        self.whole_teacher = teacher.to(self.device).eval().requires_grad_(False)
        self.teacher = Teacher(teacher, self.kd.target_layers, precision, own if frozen else None).to(self.device)
        groups = [p for p in joint.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(groups, lr=1e-5, fused=True)

    def loss(self) -> Tensor:
        """Forward: both losses."""
        on_gpu = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext():
            return self._plain() if self.variant == PLAIN else self._joint()

    def _plain(self) -> Tensor:
        with torch.no_grad():
            outputs = self.whole_teacher(self.waveforms, output_hidden_states=True)
        states = [*outputs.hidden_states[:-1], outputs.last_hidden_state]
        targets = [states[layer] for layer in self.kd.target_layers]
        encoder = self.student.oskdft
        distilled = encoder(self.waveforms, path="kd", output_hidden_states=True).hidden_states
        heard = encoder(self.waveforms, path="ft", output_hidden_states=True).hidden_states
        return self.kd(distilled, targets).mean() + self.speaker(self.student.head(heard), self.labels).mean()

    def _joint(self) -> Tensor:
        states, features, _ = self.teacher(self.waveforms)
        output = self.joint(self.waveforms, self.labels, states, features)
        return output.kd.mean() + output.ft.mean()

    def __call__(self) -> None:
        """Forward, backward, optimiser."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def operations(self) -> int:
        """Of forward and backward, counted."""
        with FlopCounterMode(display=False) as counter:
            self.loss().backward()
        return int(counter.get_total_flops())


def peak_memory(name: str, variant: str) -> float:
    """Gigabytes at the highest during a step, weights and the optimiser's moments included."""
    step = Step(SYSTEMS[name], variant, SYSTEMS[name].teacher())
    step()
    if step.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:  # building the models took more than a step does
        forget_peak_memory()
    step()
    if step.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return peak_memory_bytes() / 1e9


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for name, system in SYSTEMS.items():
        print(f"{name} …", file=sys.stderr)
        with memory_given_back(), multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            memory = {variant: pool.apply(peak_memory, (name, variant)) for variant in VARIANTS}
        torch.manual_seed(0)
        teacher = system.teacher()
        # A teacher each: transformers records hidden states by hooks on layers, which two models must not share.
        steps = {variant: Step(system, variant, copy.deepcopy(teacher)) for variant in VARIANTS}
        for step in steps.values():  # dropout draws differently in each variant: equal numbers without it
            step.joint.eval()
        losses = {variant: step.loss().item() for variant, step in steps.items()}
        operations = {variant: step.operations() for variant, step in steps.items()}
        for step in steps.values():
            step.joint.train()
        seconds = alternating_medians(steps, ROUNDS)
        for variant, step in steps.items():
            rows.append(
                {
                    "system": name,
                    "step": variant,
                    "crops": f"{step.crops} x {step.waveforms.shape[1] // SAMPLING_RATE} s",
                    "steps/s": 1 / seconds[variant],
                    "peak memory, GB": memory[variant],
                    "times plain": seconds[PLAIN] / seconds[variant],
                    "bound by multiply-adds": operations[PLAIN] / operations[variant],
                    "GFLOP a second of audio": operations[variant] / step.waveforms.numel() * SAMPLING_RATE / 1e9,
                    "first loss": losses[variant],
                    **_utilisation(operations[variant] / seconds[variant]),
                }
            )
        ratios[f"{name}: ours / plain (target 1.5)"] = seconds[PLAIN] / seconds[OURS]
        ratios[f"{name}: frozen / plain (target 2.5)"] = seconds[PLAIN] / seconds[FROZEN]
        ratios[f"{name}: ours with a bf16 teacher / plain"] = seconds[PLAIN] / seconds[ROUGH]
        ratios[f"{name}: frozen with a bf16 teacher / plain"] = seconds[PLAIN] / seconds[ROUGH_FROZEN]
        ratios[f"{name}: loss with a bf16 teacher, relative difference"] = abs(losses[ROUGH] / losses[OURS] - 1)
        if name == next(iter(SYSTEMS)):
            made, taken = crops_per_second(), steps[OURS].crops / seconds[OURS]
            ratios[f"{name}: crops of one worker / crops of the step (above 1)"] = made / taken
            ratios[f"{name}: share of time spent waiting for data"] = waiting_share(steps[OURS])
    return rows, ratios


def _utilisation(operations_per_second: float) -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    card = torch.cuda.get_device_name()
    peak = next((value for known, value in PEAK_OPERATIONS.items() if known in card), None)
    return {} if peak is None else {"share of the card's arithmetic": operations_per_second / peak}


def _loader(folder: Path, batch: int, seconds: float, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches of crops of FLAC files with every augmentation, endlessly."""
    generator = np.random.default_rng(0)
    voices = write_voices(folder, speakers=8, sessions=2, utterances=4, seed=0)
    for kind in ("noise", "music", "speech"):
        place = folder / "musan" / kind / "a"
        place.mkdir(parents=True)
        for number in range(8):
            soundfile.write(
                place / f"{number}.wav", generator.normal(scale=0.1, size=SAMPLING_RATE * 10), SAMPLING_RATE
            )
    room = folder / "rirs" / "a"
    room.mkdir(parents=True)
    soundfile.write(room / "r.wav", generator.normal(size=8000) * np.exp(-np.arange(8000) / 1000), SAMPLING_RATE)
    manifest = load_manifest(voices)
    augmentation = WaveformAugmentation(folder / "musan", folder / "rirs", 1.0, 0.3, 0.3, 0.3, 0.3)
    dataset = CropDataset(manifest, seconds, 0, augmentation)
    sampler = EpochSampler(manifest, 0)
    collate = CropCollator(Wav2Vec2FeatureExtractor(return_attention_mask=True))
    loader = DataLoader(
        dataset,
        batch,
        sampler=sampler,
        collate_fn=collate,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def crops_per_second(seconds: float = 3.0) -> float:
    """What one worker reads, augments and normalises."""
    with tempfile.TemporaryDirectory() as folder:
        batches = _loader(Path(folder), 8, seconds, workers=0)
        next(batches)
        start = time.perf_counter()
        for _ in range(LOADED_BATCHES):
            next(batches)
        return LOADED_BATCHES * 8 / (time.perf_counter() - start)


def waiting_share(step: Step) -> float:
    """Of the time of a loop with workers, the part in which the step waits for a batch."""
    waited = 0.0
    with tempfile.TemporaryDirectory() as folder:
        workers = 1 if step.device.type == "cpu" else 12
        batches = _loader(Path(folder), step.crops, 3.0, workers)
        next(batches)
        begin = time.perf_counter()
        for _ in range(LOADED_BATCHES):
            start = time.perf_counter()
            step.waveforms = next(batches)["input_values"].to(step.device)
            waited += time.perf_counter() - start
            step()
        share = waited / (time.perf_counter() - begin)
        del batches
    return share
