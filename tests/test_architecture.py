"""Imports only fall: an import goes down the floors of the house or stays on its own, never up."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAVELLING = {"adapters", "companions", "configuration", "heads", "layers", "modeling"}
TRAVELLING = {f"{name}_oskdft" for name in TRAVELLING}
FLOORS = [
    TRAVELLING,
    {"errors", "standalone", "ffmpeg", "registration"},
    {"audio", "files"},
    {"locations"},
    {"data", "evaluation", "opening"},
    {"conversion", "runtimes", "two_part_convolutions"},
    {"verification", "quantization"},
    {"export", "hub"},
    {"training"},
    {"cli", "quickstart", "train_oskdft", "benchmark", "spaces"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# standalone/ is data: what an export carries, which runs without this package.
FILES = [file for file in (ROOT / "modeling_oskdft").rglob("*.py") if file.parent.name != "standalone"]
FILES += [ROOT / "train_oskdft.py"]


def own_part(file: Path) -> str:
    """The module or subpackage of the house that a file belongs to."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "modeling_oskdft" else parts[0]


def imported_parts(file: Path):
    """(part of the package, absolute module) of every import, also inside functions."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            yield from ([*module, alias.name] for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_only_fall(file):
    own = own_part(file)
    if own in ("__init__", "_version"):
        return
    assert own in FLOOR_OF, f"{own} has no floor: give it one here and in the house"
    for module in imported_parts(file):
        if module[0] == "train_oskdft":
            part = "train_oskdft"
        elif module[0] == "modeling_oskdft" and len(module) > 1:
            part = module[1]
        else:
            continue
        if part in FLOOR_OF:
            assert FLOOR_OF[part] <= FLOOR_OF[own], f"{file.name} imports {'.'.join(module)}, which lies above it"


@pytest.mark.parametrize("name", sorted(TRAVELLING))
def test_what_travels_needs_torch_and_transformers_alone(name):
    standard = {"collections", "dataclasses", "typing", "difflib", "inspect", "math"}
    standard |= {"hashlib", "json", "os", "re", "tempfile", "threading", "warnings", "functools"}
    for module in imported_parts(ROOT / "modeling_oskdft" / f"{name}.py"):
        if module[0] == "modeling_oskdft":
            assert module[1] in TRAVELLING, module
        else:
            assert module[0] in standard | {"torch", "transformers"}, module


def test_the_metrics_need_numpy_alone():
    roots = {module[0] for module in imported_parts(ROOT / "modeling_oskdft/scoring/metrics.py")}
    assert roots <= {"numpy", "collections", "typing", "math", "warnings"}


def test_heavy_packages_are_imported_where_they_are_used():
    heavy = {"datasets", "gradio", "onnx", "onnxruntime", "onnxscript", "evaluate", "matplotlib"}
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {name.split(".")[0] for name in names}, file


def test_every_module_has_a_test_of_its_name():
    untested = {"__init__", "__main__", "_version"}
    tests = {file.stem.removeprefix("test_") for file in (ROOT / "tests").rglob("test_*.py")}
    modules = {file.stem for file in FILES if file.parent.name != "benchmark"} - untested  # tests/test_benchmark.py
    assert modules <= tests, modules - tests
