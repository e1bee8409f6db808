"""Open the graph of an export in the runtime that is installed: onnxruntime, OpenVINO or ExecuTorch.

This file stands alone: an exported folder has a copy beside verify.py. It needs numpy and one of the runtimes, whose
packages are imported when a graph is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnxruntime
    import openvino

# onnxruntime >= 1.29 for Linux reports home from its import on: a device id, a database of events, a look-up.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Run = Callable[["np.ndarray", "np.ndarray"], "np.ndarray"]  # waveforms and mask to embeddings


def open_graph(graph: Path) -> tuple[Run, dict[str, str]]:
    """Open a graph on the CPU, with the threads of OMP_NUM_THREADS, or all.

    Args:
        graph: as `graph_in` found it.

    Returns:
        A function from a waveform (1, samples) and its mask to an embedding (1, embedding_size); and facts about the
        graph: fingerprint, sampling_rate, shortest_input and others.

    Raises:
        ImportError: where no runtime of the graph is installed.
        ValueError: for a graph without facts. The errors of runtimes have no common class.
    """
    for _, open_in_runtime in RUNTIMES[graph.name]:
        try:
            run, facts = open_in_runtime(graph)
        except ImportError:
            continue
        if not {"fingerprint", "sampling_rate", "shortest_input"} <= facts.keys():
            raise ValueError(f"{graph.name} was not written by `oskdft export`: export the verifier again.")
        return run, facts
    packages = " or ".join(package for package, _ in RUNTIMES[graph.name])
    raise ImportError(f"{packages} is not installed, and runs {graph.name}")


def graph_in(folder: Path) -> Path:
    """Find the graph of a folder.

    Args:
        folder: an export.

    Raises:
        ValueError: where there is none.
    """
    graph = next((folder / name for name in RUNTIMES if (folder / name).is_file()), None)
    if graph is None:
        raise ValueError(f"None of {', '.join(RUNTIMES)} is beside this program: export the verifier again.")
    return graph


def digest_of_graph(graph: str | Path) -> str:
    """Return the SHA-256 of a graph, with its weights where these lie in a file of their own.

    Args:
        graph: the graph. The weights of a file .xml are in the file .bin of that name.
    """
    digest = hashlib.sha256()
    path = Path(graph)
    weights = path.with_suffix(".bin")
    for part in (path, *([weights] if path.suffix == ".xml" and weights.is_file() else [])):
        with open(part, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def wanted_threads() -> int:
    """Return the first field of OMP_NUM_THREADS, which may be a list such as "4,2"; 0, all, where it is no number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def open_onnxruntime(graph: Path) -> tuple[Run, dict[str, str]]:
    """Open model.onnx in onnxruntime: see `open_graph`."""
    session = open_session(graph)

    def run(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return session.run(None, {"input_values": values, "attention_mask": mask})[0]

    return run, session.get_modelmeta().custom_metadata_map


def open_session(graph: str | Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open a graph in onnxruntime, on the CPU.

    Args:
        graph: model.onnx.
        threads: threads that work on one graph; None: the number in OMP_NUM_THREADS, or all.

    Raises:
        ImportError: without onnxruntime. For a file that holds no graph, onnxruntime raises errors of its own.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # onnxruntime does not read OMP_NUM_THREADS; with 0 it takes all processors.
    options.intra_op_num_threads = wanted_threads() if threads is None else threads
    # A memory plan for each length costs memory and saves no time where lengths are free: docs/deployment.md.
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # errors come as exceptions
    # Not `session.x64quantprecision`: where it takes effect, no graph with two-part convolutions is opened.
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def open_openvino(graph: Path) -> tuple[Run, dict[str, str]]:
    """Open model.xml or model.onnx in OpenVINO: see `open_graph`."""
    model = compiled(graph)

    def run(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return model({"input_values": values, "attention_mask": mask})["embeddings"]

    return run, stored_facts(graph)


def compiled(graph: str | Path) -> openvino.CompiledModel:
    """Compile a graph by OpenVINO, for the CPU and the wanted threads.

    Args:
        graph: model.xml or model.onnx.
    """
    openvino = import_openvino()
    # On processors with bf16 the default is bf16, in which the embeddings are others.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads := wanted_threads():
        settings["INFERENCE_NUM_THREADS"] = threads
    return openvino.Core().compile_model(str(graph), "CPU", settings)


def import_openvino() -> ModuleType:
    """Import OpenVINO without the package that sends usage data to its vendor, from the import on.

    Returns:
        The module `openvino`.

    Raises:
        ImportError: where it is not installed.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)  # it cannot be imported then, and OpenVINO does without it
    import openvino

    return openvino


def open_executorch(graph: Path) -> tuple[Run, dict[str, str]]:
    """Open model.pte in ExecuTorch, which takes multiples of 320 samples up to its longest: see `open_graph`."""
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(graph)
    methods = (program.load_method("forward"), program)  # a program must outlive its method
    facts = stored_facts(graph)
    longest, fixed = (int(facts.get(name, 0)) for name in ("longest_input", "fixed_input"))

    def run(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if values.shape[1] > longest:
            seconds = longest / int(facts["sampling_rate"])
            raise ValueError(f"model.pte takes {seconds:g} s at most: give --max_seconds, or export with --longest.")
        missing = ((0, 0), (0, fixed - values.shape[1] if fixed else -values.shape[1] % 320))
        inputs = [torch.from_numpy(np.pad(part, missing)) for part in (values, mask)]
        return methods[0].execute(inputs)[-1].numpy().copy()  # the next call writes into the same memory

    return run, facts


def stored_facts(graph: Path) -> dict[str, str]:
    """Read model.json, which has the facts about the graph beside it."""
    stored = json.loads(graph.with_name("model.json").read_text(encoding="utf-8"))
    return {name: str(value) for name, value in stored.items()}


# The graphs by name, and the packages that run each, the first one that is installed.
RUNTIMES: dict[str, tuple[tuple[str, Callable[[Path], tuple[Run, dict[str, str]]]], ...]] = {
    "model.onnx": (("onnxruntime", open_onnxruntime), ("openvino", open_openvino)),
    "model.xml": (("openvino", open_openvino),),
    "model.pte": (("executorch", open_executorch),),
}
