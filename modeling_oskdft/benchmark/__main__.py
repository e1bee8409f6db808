"""Run a benchmark and print its table, or one JSON object: `python -m modeling_oskdft.benchmark NAME [--json]`."""

import argparse
import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..provenance import machine, measured_on, versions

NAMES = {
    "training-step": "the joint step against two separate passes of the same student",
    "crop-reading": "a crop read by seeking against decoding its whole file",
    "training": "the joint step at real size: the plain reading of the method, ours, ours with a frozen front end",
    "teachers": "the joint step of one student under other teachers, and with distillation of embeddings",
    "gpu": "the joint step at real size on a GPU, which must be there; not a part of all",
    "header-reading": "a manifest of 100,000 small files: files a second, and whether memory grows",
    "augmentation": "ours against audiomentations, where it is installed",
    "scoring": "as many trials as VoxCeleb1-E has, from names and embeddings to scores",
    "decision": "what a decision costs: verify, identify among many voices, s-norm",
    "compression": "size and time of the paper's system and the released ones, student beside teacher",
    "thin-students": "students with fewer channels, narrower layers and fewer frames, beside their teacher",
    "inference": "a student in PyTorch, compiled, and in onnxruntime, float32 and int8, beside its teacher",
    "long-recording": "an hour of audio with bounded memory",
    "service": "the service under load, with clients on the same machine; and its memory over 20,000 requests",
    "formats": "an exported student in PyTorch, ONNX, OpenVINO and ExecuTorch",
    "browser": "a student in a browser beside onnxruntime in Python; wants Node.js and Chromium, not a part of all",
    "corpus": "100,000 short files embedded in shards: files a second, and whether memory grows",
    "space": "the demonstration page with 50 visitors at once",
}

ALONE = ("gpu", "browser")  # want what not every machine has


def run(name: str) -> dict[str, Any]:
    """Run one benchmark.

    Args:
        name: one of `NAMES`.

    Returns:
        `name`, `machine`, `versions`, `rows`, `ratios`, and a `note` where the numbers need one.
    """
    module = import_module(f".{name.replace('-', '_')}", __package__)
    measure: Callable[[], tuple[list[dict[str, Any]], dict[str, float]]] = module.measure
    rows, ratios = measure()
    result = {"name": name, "machine": machine(), "versions": versions(), "rows": rows, "ratios": ratios}
    explain = getattr(module, "explain", None)
    return result if explain is None else result | {"note": explain(rows)}


def table(result: dict[str, Any]) -> str:
    """Write a result of `run` for people, as Markdown."""
    columns = list(result["rows"][0])
    lines = [f"### {result['name']}: {NAMES[result['name']]}", ""]
    lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in result["rows"]]
    lines += ["", *(f"{label}: **{ratio:.2f}**" for label, ratio in result["ratios"].items())]
    if "note" in result:
        lines += ["", result["note"]]
    return "\n".join([*lines, "", measured_on(result)])


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark that the command line names, and print its result."""
    parser = argparse.ArgumentParser(prog="python -m modeling_oskdft.benchmark", description=__doc__)
    listing = "; ".join(f"{name}: {subject}" for name, subject in NAMES.items())
    parser.add_argument("name", choices=[*NAMES, "all"], help=listing)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args(arguments)
    for name in [name for name in NAMES if name not in ALONE] if chosen.name == "all" else [chosen.name]:
        result = run(name)
        print(json.dumps(result) if chosen.json else table(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
