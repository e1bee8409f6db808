"""Compare PyTorch and exports on real speech: EER, decisions, size and time of the same systems.

This exports the student and the fine-tuned teacher of examples/small_speech.py as float32 and as int8, which ONNX
calibrates on recordings of the train split, and scores the same trials with each; also with every convolution in int8,
whatever that changes. Formats whose runtime is not installed have no row. It writes docs/results/export_int8.json and
the page that is rendered from it.

    python examples/export_int8.py

It needs the folder of real speech beside the project and the systems that examples/small_speech.py trained, and takes
about 10 minutes on two CPU cores.
"""

import argparse
import importlib.util
import math
import os
import shlex
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
from modeling_oskdft.embedding.runtimes import MODEL_NAME, Embedder, OnnxEmbedder, TorchEmbedder, open_embedder
from modeling_oskdft.evaluation.cost import alternating_medians, noise
from modeling_oskdft.evaluation.report import report_scores, speakers_of
from modeling_oskdft.export.int8 import RECORDINGS, calibration_recordings, quantise
from modeling_oskdft.export.onnx_graph import Export, export_onnx
from modeling_oskdft.export.other_formats import FORMATS, export_other
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
    "openvino": "OpenVINO float32",
    "openvino_int8": "OpenVINO int8",
    "executorch": "ExecuTorch float32",
    "executorch_int8": "ExecuTorch int8",
}
TITLES = {"export_formats": "# In every format, on small real speech"}  # of runs under another name
SECONDS, ROUNDS = 3, 21
RUN_VERIFY = """
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
    """Export, score and time both systems, and write the results and their page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", default=ROOT / "runs" / "small_speech", type=Path, help="folder that examples/small_speech.py wrote"
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="(default: all)")
    parser.add_argument("--data", default=ROOT.parent / "shared" / "data" / "speech", type=Path)
    parser.add_argument("--name", default="export_int8", help="of the files that are written (default: export_int8)")
    parser.add_argument("--out", default=DOCS, type=Path, help="folder for the results (default: docs/results)")
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    os.environ["OMP_NUM_THREADS"] = "1"  # onnxruntime's sessions read it here
    torch.set_num_threads(1)
    for place in (options.data, *(options.runs / name for name in options.systems)):
        if not place.is_dir():
            sys.exit(f"There is no '{place}': nothing was run.")
    trials = read_trials(options.data / "trials_validation.txt")
    manifest = load_manifest(options.data / "manifest.csv", split="validation")
    manifest = manifest.where("utterance_id", trials.utterances())
    results = {
        "name": options.name,
        "command": shlex.join(
            ["python", "examples/export_int8.py", *(sys.argv[1:] if arguments is None else arguments)]
        ),
        "calibration": {"split": "train", "recordings": RECORDINGS},
        "systems": {name: measure(options.runs / name, options.data, manifest, trials) for name in options.systems},
        "machine": machine(),
        "versions": versions(),
    }
    write_json(results, options.out / f"{options.name}.json")
    with whole_file(options.out / f"{options.name}.md") as file:
        file.write_text(page(results), encoding="utf-8")


def measure(model: Path, data: Path, manifest: Manifest, trials: Trials) -> dict[str, dict[str, Any]]:
    """Measure one saved verifier in every runtime.

    Args:
        model: its folder.
        data: folder of the real speech.
        manifest: the utterances of the trials.
        trials: scored with every runtime.

    Returns:
        Runtime to its facts: error rates, size, time, and differences from PyTorch.
    """
    threshold = float(Thresholds.load(model / "thresholds.json").values["eer"] or 0.0)
    with tempfile.TemporaryDirectory() as place:
        embedders, facts = open_all(model, data, Path(place))
        waveform = noise(SECONDS).numpy()[0]
        calls: dict[str, Callable[[], object]] = {
            name: partial(embedder.embed, [waveform]) for name, embedder in embedders.items()
        }
        seconds = alternating_medians(calls, ROUNDS)
        waveforms = {name: load_audio(manifest.audio(row)) for row, name in enumerate(manifest.column("utterance_id"))}
        embedded = {name: embed_all(embedder, waveforms) for name, embedder in embedders.items()}
    measured: dict[str, dict[str, Any]] = {}
    expected = score_trials(trials, embedded["torch"])
    for name, embeddings in embedded.items():
        scores = score_trials(trials, embeddings)
        measured[name] = facts[name] | {
            "test": report_scores(scores, trials, speakers_of(manifest)).as_dict(),
            "lowest_cosine": min(
                cosine(vector, embedded["torch"][utterance]) for utterance, vector in embeddings.items()
            ),
            "largest_score_difference": float(np.abs(scores - expected).max()),
            "other_decisions": int(((scores >= threshold) != (expected >= threshold)).sum()),
            "milliseconds": 1000 * seconds[name],
        }
    return measured


def open_all(model: Path, data: Path, place: Path) -> tuple[dict[str, Embedder], dict[str, dict[str, Any]]]:
    """Export a saved verifier, and open it in every runtime.

    Args:
        model: its folder.
        data: folder of the real speech, for the calibration.
        place: folder for the exports.

    Returns:
        Runtime to its embedder, and runtime to the size of its file and the number of int8 convolutions.
    """
    source = TorchEmbedder.from_pretrained(str(model))
    export_onnx(model, place / "float32")
    written = export_onnx(model, place / "int8", int8=True, calibration=data / "manifest.csv", split="train")
    (place / "int8_every").mkdir()
    recordings = calibration_recordings(data / "manifest.csv", shortest_input(source.model.config), "train")
    graph = place / "float32" / MODEL_NAME
    all_int8 = quantise(graph, place / "int8_every" / "plain.onnx", recordings, floor=-math.inf)
    with_facts(graph, place / "int8_every" / "plain.onnx", place / "int8_every" / MODEL_NAME)
    files = {name: place / name / MODEL_NAME for name in ("float32", "int8", "int8_every")}
    embedders: dict[str, Embedder] = {"torch": source} | {name: OnnxEmbedder(file) for name, file in files.items()}
    facts: dict[str, dict[str, Any]] = {"torch": {"bytes": (model / "model.safetensors").stat().st_size}}
    facts |= {name: {"bytes": file.stat().st_size} for name, file in files.items()}
    for form in FORMATS:
        if importlib.util.find_spec(form) is None:
            print(f"{form} is not installed: it has no row.", file=sys.stderr)
            continue
        speech = {"int8": True, "calibration": data / "manifest.csv", "split": "train"}
        for name, quantising in ((form, {}), (f"{form}_int8", speech)):
            export: Callable[..., Export] = partial(export_other, model, place / name, form)
            facts[name] = {"bytes": export(**quantising).bytes}
            embedders[name] = open_embedder(str(place / name), "auto")
    facts["int8"] |= run_verify(place / "int8", recordings[0])
    counts = {
        "int8": (len(written.int8_convolutions), len(written.two_part_convolutions)),
        "int8_every": (len(all_int8.int8), len(all_int8.two_parts)),
    }
    convolutions = len(all_int8.int8) + len(all_int8.float32)
    for name, row in facts.items():
        plain, two_parts = counts.get(name, (0, 0))
        row |= {"convolutions": convolutions, "int8_convolutions": plain, "two_part_convolutions": two_parts}
    return embedders, facts


def run_verify(folder: Path, waveform: Waveform) -> dict[str, float]:
    """Run the script of an export, which needs no torch, on two recordings of 3 s.

    Args:
        folder: of the export, with verify.py.
        waveform: (samples,) at 16 kHz, of which the recordings are made.

    Returns:
        Seconds to import its packages, and the most megabytes of the process.
    """
    for number in range(2):
        shifted = np.roll(np.resize(waveform, 2 * SECONDS * SAMPLING_RATE), number * SAMPLING_RATE)
        soundfile.write(folder / f"{number}.wav", shifted[: SECONDS * SAMPLING_RATE], SAMPLING_RATE)
    command = [sys.executable, "-c", RUN_VERIFY, "verify.py", "0.wav", "1.wav"]
    runs = [
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    return {
        "import_seconds": float(np.median([float(run[0]) for run in runs])),
        "peak_megabytes": max(float(run[-1]) for run in runs),
    }


def with_facts(graph: Path, plain: Path, target: Path) -> None:
    """Copy the metadata of a graph to another graph.

    Args:
        graph: has the metadata.
        plain: graph without metadata.
        target: file to write.
    """
    import onnx

    model = onnx.load(plain)
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in onnx.load(graph).metadata_props})
    onnx.save(model, target)


def embed_all(embedder: Embedder, waveforms: dict[str, Waveform]) -> dict[str, np.ndarray]:
    """Embed each recording by itself; returns utterance id to embedding."""
    return {name: embedder.embed([waveform])[0] for name, waveform in waveforms.items()}


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the cosine of two embeddings."""
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def page(results: dict[str, Any]) -> str:
    """Write the results as docs/results/export_int8.md."""
    first = next(iter(results["systems"].values()))
    test = first["torch"]["test"]
    threads = "; ExecuTorch takes as many as it wants" if "executorch" in first else ""
    lines = [
        TITLES.get(results["name"], "# Out of Python, on small real speech"),
        "",
        f"<!-- Written by examples/export_int8.py from {results['name']}.json: change that, not this. -->",
        "",
        f"    {results['command']}",
        "",
        f"{test['trials']:,} trials of {test['speakers']} speakers that nobody trained on, each recording by itself; "
        "95 % intervals by bootstrap over speakers. ONNX int8 was calibrated on "
        f"{results['calibration']['recordings']} recordings of train speakers. Cosines, scores and decisions are "
        "compared with PyTorch's, decisions at the threshold that the model carries; time is the median of "
        f"{ROUNDS} alternating runs on {SECONDS} s of audio, one thread{threads}.",
        "",
        "| system | runtime | EER, % | minDCF | file, MB | 3 s, ms | int8 convolutions (in two parts) | lowest cosine "
        "| largest change of a score | other decisions |",
        f"| --- | --- |{' ---: |' * 8}",
    ]
    for system, measured in results["systems"].items():
        for runtime, facts in measured.items():
            cells = (
                SYSTEMS[system],
                RUNTIMES[runtime],
                eer_in_percent(facts["test"]),
                f"{facts['test']['min_dcf']:.3f}",
                f"{facts['bytes'] / 1e6:.2f}",
                f"{facts['milliseconds']:.1f}",
                f"{facts['int8_convolutions']} ({facts['two_part_convolutions']}) of {facts['convolutions']}",
                f"{facts['lowest_cosine']:.5f}",
                f"{facts['largest_score_difference']:.4f}",
                f"{facts['other_decisions']:,}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    int8 = first["int8"]
    packages = ("torch", "onnxruntime", *(form for form in FORMATS if form in first))
    lines += [
        "",
        f"`verify.py` in ONNX int8 on two recordings of {SECONDS} s, a process of its own: its packages are "
        f"imported in {int8['import_seconds']:.2f} s (median of 5), and the process holds "
        f"{int8['peak_megabytes']:.0f} MB at the most.",
    ]
    lines += ["", verdict(next(iter(results["systems"])), first), "", measured_on(results, packages), ""]
    return "\n".join(lines)


def verdict(system: str, measured: dict[str, dict[str, Any]]) -> str:
    """Write in words what int8 changes in ONNX.

    Args:
        system: its name.
        measured: runtime to facts.
    """
    exact = measured["float32"]
    change = {name: 100 * (facts["test"]["eer"] - exact["test"]["eer"]) for name, facts in measured.items()}
    time = {name: facts["milliseconds"] / exact["milliseconds"] for name, facts in measured.items()}
    size = {name: facts["bytes"] / exact["bytes"] for name, facts in measured.items()}
    name = SYSTEMS[system].partition(",")[0]
    return (
        f"Against ONNX float32 the {name} in ONNX int8 has {size['int8']:.0%} of the size and takes "
        f"{time['int8']:.0%} of the time, at {change['int8']:+z.2f} points of EER. "
        f"With no convolution in two parts it has {size['int8_every']:.0%} of the size, "
        f"takes {time['int8_every']:.0%} of the time and changes by {change['int8_every']:+z.2f} points: "
        "the front end's activations follow the loudness of the speech, and eight bits do not span it. "
        "What becomes of each convolution is measured at every export ([how](../deployment.md))."
    )


if __name__ == "__main__":
    main()
