"""What leaving Python costs on real speech: EER, decisions, size and time of one system in PyTorch and in onnxruntime.

Exports the student and the fine-tuned teacher of examples/small_speech.py as float32 and as int8, calibrated on
recordings of the train split, and scores the same trials with each; beside them int8 for every convolution, whatever
it changes. Writes docs/results/export_int8.json and the page that is rendered from it.

    python examples/export_int8.py

Wants the folder of real speech beside the project, and what examples/small_speech.py trained; about 5 minutes on two
CPU cores.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers.utils import logging

from modeling_oskdft.audio.loading import SAMPLING_RATE, Waveform, load_audio
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import Trials, read_trials
from modeling_oskdft.embedding.runtimes import MODEL_NAME, Embedder, OnnxEmbedder, TorchEmbedder
from modeling_oskdft.evaluation.cost import alternating_medians, noise
from modeling_oskdft.evaluation.report import report_scores, speakers_of
from modeling_oskdft.export.int8 import RECORDINGS, calibration_recordings, quantise
from modeling_oskdft.export.onnx_graph import export_onnx
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.model.modeling_oskdft import shortest_input
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.cosine import score_trials
from modeling_oskdft.scoring.metrics import eer_in_percent
from modeling_oskdft.scoring.thresholds import Thresholds

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "results"
SYSTEMS = {"student": "student, OS-KDFT", "teacher_finetuned": "teacher, fine-tuned"}
RUNTIMES = {
    "torch": "PyTorch float32",
    "float32": "ONNX float32",
    "int8": "ONNX int8",
    "int8_every": "ONNX int8, no convolution in two parts",
}
SECONDS, ROUNDS = 3, 21
ALONE = """
import runpy, sys, time
start = time.perf_counter()
import numpy, onnxruntime, soundfile
print(time.perf_counter() - start)
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    assert "torch" not in sys.modules
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) / 1024)
"""


def main(arguments: list[str] | None = None) -> None:
    """Export, score, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", default=ROOT / "runs" / "small_speech", type=Path, help="of examples/small_speech.py"
    )
    parser.add_argument("--data", default=ROOT.parent / "shared" / "data" / "speech", type=Path)
    parser.add_argument("--out", default=DOCS, type=Path, help="folder for the results (default: docs/results)")
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    os.environ["OMP_NUM_THREADS"] = "1"  # onnxruntime's sessions read it here
    torch.set_num_threads(1)
    for place in (options.data, *(options.runs / name for name in SYSTEMS)):
        if not place.is_dir():
            sys.exit(f"There is no '{place}': nothing was run.")
    trials = read_trials(options.data / "trials_validation.txt")
    manifest = load_manifest(options.data / "manifest.csv", split="validation")
    manifest = manifest.where("utterance_id", trials.utterances())
    results = {
        "name": "export_int8",
        "calibration": {"split": "train", "recordings": RECORDINGS},
        "systems": {name: measure(options.runs / name, options.data, manifest, trials) for name in SYSTEMS},
        "machine": machine(),
        "versions": versions(),
    }
    write_json(results, options.out / "export_int8.json")
    with whole_file(options.out / "export_int8.md") as file:
        file.write_text(page(results), encoding="utf-8")


def measure(model: Path, data: Path, manifest: Manifest, trials: Trials) -> dict[str, dict[str, Any]]:
    """Every runtime of one saved verifier."""
    threshold = float(Thresholds.load(model / "thresholds.json").values["eer"] or 0.0)
    with tempfile.TemporaryDirectory() as place:
        embedders, facts = open_all(model, data, Path(place))
        waveform = noise(SECONDS).numpy()[0]
        calls: dict[str, Callable[[], object]] = {
            name: partial(one.embed, [waveform]) for name, one in embedders.items()
        }
        seconds = alternating_medians(calls, ROUNDS)
        waveforms = {name: load_audio(manifest.audio(row)) for row, name in enumerate(manifest.column("utterance_id"))}
        embedded = {name: embed_all(one, waveforms) for name, one in embedders.items()}
    found: dict[str, dict[str, Any]] = {}
    expected = score_trials(trials, embedded["torch"])
    for name, embeddings in embedded.items():
        scores = score_trials(trials, embeddings)
        found[name] = facts[name] | {
            "test": report_scores(scores, trials, speakers_of(manifest)).as_dict(),
            "lowest_cosine": min(cosine(embeddings[one], embedded["torch"][one]) for one in embeddings),
            "largest_score_difference": float(np.abs(scores - expected).max()),
            "other_decisions": int(((scores >= threshold) != (expected >= threshold)).sum()),
            "milliseconds": 1000 * seconds[name],
        }
    return found


def open_all(model: Path, data: Path, place: Path) -> tuple[dict[str, Embedder], dict[str, dict[str, Any]]]:
    """Every runtime, and the size of its file."""
    source = TorchEmbedder.from_pretrained(str(model))
    export_onnx(model, place / "float32")
    written = export_onnx(model, place / "int8", int8=True, calibration=data / "manifest.csv", split="train")
    (place / "int8_every").mkdir()
    recordings = calibration_recordings(data / "manifest.csv", shortest_input(source.model.config), "train")
    graph = place / "float32" / MODEL_NAME
    every = quantise(graph, place / "int8_every" / "plain.onnx", recordings, floor=-math.inf)
    with_facts(graph, place / "int8_every" / "plain.onnx", place / "int8_every" / MODEL_NAME)
    files = {name: place / name / MODEL_NAME for name in RUNTIMES if name != "torch"}
    embedders: dict[str, Embedder] = {"torch": source} | {name: OnnxEmbedder(file) for name, file in files.items()}
    facts: dict[str, dict[str, Any]] = {"torch": {"bytes": (model / "model.safetensors").stat().st_size}}
    alone = stand_alone(place / "int8", recordings[0])
    facts |= {name: {"bytes": file.stat().st_size} for name, file in files.items()}
    facts["int8"] |= alone
    counts = {
        "int8": (len(written.int8_convolutions), len(written.two_part_convolutions)),
        "int8_every": (len(every.int8), len(every.two_parts)),
    }
    convolutions = len(every.int8) + len(every.float32)
    for name, one in facts.items():
        plain, two_parts = counts.get(name, (0, 0))
        one |= {"convolutions": convolutions, "int8_convolutions": plain, "two_part_convolutions": two_parts}
    return embedders, facts


def stand_alone(folder: Path, waveform: Waveform) -> dict[str, float]:
    """The page of an export on two recordings of 3 s, without torch: seconds to import, megabytes at the highest."""
    for number in range(2):
        part = np.roll(np.resize(waveform, 2 * SECONDS * SAMPLING_RATE), number * SAMPLING_RATE)
        soundfile.write(folder / f"{number}.wav", part[: SECONDS * SAMPLING_RATE], SAMPLING_RATE)
    words = [sys.executable, "-c", ALONE, "verify.py", "0.wav", "1.wav"]
    runs = [
        subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout.split() for _ in range(5)
    ]
    return {
        "import_seconds": float(np.median([float(run[0]) for run in runs])),
        "peak_megabytes": max(float(run[-1]) for run in runs),
    }


def with_facts(graph: Path, plain: Path, target: Path) -> None:
    """A graph with the metadata of another."""
    import onnx

    model = onnx.load(plain)
    onnx.helper.set_model_props(model, {one.key: one.value for one in onnx.load(graph).metadata_props})
    onnx.save(model, target)


def embed_all(embedder: Embedder, waveforms: dict[str, Waveform]) -> dict[str, np.ndarray]:
    """Utterance id to embedding, each recording by itself."""
    return {name: embedder.embed([waveform])[0] for name, waveform in waveforms.items()}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of two embeddings."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def page(results: dict[str, Any]) -> str:
    """docs/results/export_int8.md."""
    test = results["systems"]["student"]["torch"]["test"]
    lines = [
        "# Out of Python, on small real speech",
        "",
        "<!-- Written by examples/export_int8.py from export_int8.json: change that, not this. -->",
        "",
        "    python examples/export_int8.py",
        "",
        f"{test['trials']:,} trials of {test['speakers']} speakers that nobody trained on, each recording by itself; "
        "95 % intervals by bootstrap over speakers. int8 was calibrated on "
        f"{results['calibration']['recordings']} recordings of train speakers. Cosines, scores and decisions are "
        "compared with PyTorch's, decisions at the threshold that the model carries; time is the median of "
        f"{ROUNDS} alternating runs on {SECONDS} s of audio, one thread.",
        "",
        "| system | runtime | EER, % | minDCF | file, MB | 3 s, ms | int8 convolutions (in two parts) | lowest cosine "
        "| largest change of a score | other decisions |",
        f"| --- | --- |{' ---: |' * 8}",
    ]
    for system, label in SYSTEMS.items():
        for runtime, name in RUNTIMES.items():
            one = results["systems"][system][runtime]
            cells = (
                label,
                name,
                eer_in_percent(one["test"]),
                f"{one['test']['min_dcf']:.3f}",
                f"{one['bytes'] / 1e6:.2f}",
                f"{one['milliseconds']:.1f}",
                f"{one['int8_convolutions']} ({one['two_part_convolutions']}) of {one['convolutions']}",
                f"{one['lowest_cosine']:.5f}",
                f"{one['largest_score_difference']:.4f}",
                f"{one['other_decisions']:,}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    alone = results["systems"]["student"]["int8"]
    lines += [
        "",
        f"`verify.py` with the int8 student on two recordings of {SECONDS} s, a process of its own: its packages are "
        f"imported in {alone['import_seconds']:.2f} s (median of 5), and the process holds "
        f"{alone['peak_megabytes']:.0f} MB at the most.",
    ]
    lines += ["", verdict(results["systems"]["student"]), "", measured_on(results, ("torch", "onnxruntime")), ""]
    return "\n".join(lines)


def verdict(student: dict[str, dict[str, Any]]) -> str:
    """The student's numbers in words."""
    exact = student["float32"]
    change = {name: 100 * (one["test"]["eer"] - exact["test"]["eer"]) for name, one in student.items()}
    time = {name: one["milliseconds"] / exact["milliseconds"] for name, one in student.items()}
    size = {name: one["bytes"] / exact["bytes"] for name, one in student.items()}
    return (
        f"Against ONNX float32 the student in int8 has {size['int8']:.0%} of the size and takes {time['int8']:.0%} of "
        f"the time, at {change['int8']:+.2f} points of EER. With no convolution in two parts it has "
        f"{size['int8_every']:.0%} of the size, takes {time['int8_every']:.0%} of the time and changes by "
        f"{change['int8_every']:+.2f} points: the front end's activations follow the loudness of the speech, and "
        "eight bits do not span it. What becomes of each convolution is measured at every export "
        "([how](../deployment.md))."
    )


if __name__ == "__main__":
    main()
