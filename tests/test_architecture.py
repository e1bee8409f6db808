"""Imports only fall: an import goes down the floors of the house or stays on its own, never up."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "modeling_oskdft"
PARTS = ("adapters", "companions", "configuration", "heads", "layers", "modeling", "modeling_tasks")
TRAVELLING = {f"{name}_oskdft" for name in PARTS}
FLOORS = [
    {"_version", "errors", "files"},
    {"model"},
    {"audio", "provenance", "student"},
    {"data"},
    {"embedding", "scoring"},
    {"evaluation", "export", "verification"},
    {"service"},
    {"hub"},
    {"training"},
    {"renewal"},
    {"benchmark"},
    {"tuning"},
    {"commands"},
    {"train_oskdft"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# standalone/ is data: what an export carries, which runs without this package.
FILES = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "standalone"]
FILES += [ROOT / "train_oskdft.py"]
# The facade opens every door, but only when somebody knocks; a test runs `import modeling_oskdft` alone.
INSIDE = [file for file in FILES if file != PACKAGE / "__init__.py"]


def room(module: tuple[str, ...]) -> str:
    """The folder or file of the house that a module lies in."""
    return module[1] if module[0] == "modeling_oskdft" else module[0]


def module_of(file: Path) -> tuple[str, ...]:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def file_of(names: list[str]) -> Path | None:
    """The file that `from package.module import name` reads, where it is ours."""
    for end in range(len(names), 0, -1):
        place = ROOT.joinpath(*names[:end])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file in FILES:
                return file
    return None


def imported_names(file: Path):
    """The dotted name of every import, also inside functions."""
    package = list(file.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            yield from ([*module, alias.name] for alias in node.names)


def imported_files(file: Path) -> set[Path]:
    found = {file_of(names) for names in imported_names(file) if names[0] in ("modeling_oskdft", "train_oskdft")}
    return {other for other in found if other is not None and other != file}


@pytest.mark.parametrize("file", INSIDE, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_only_fall(file):
    own = room(module_of(file))
    assert own in FLOOR_OF, f"{own} has no floor: give it one here and in the house"
    for other in imported_files(file):
        if other == PACKAGE / "__init__.py":
            assert own == "train_oskdft", f"{file.name} imports the facade, which opens every floor"
            continue
        part = room(module_of(other))
        assert FLOOR_OF[part] < FLOOR_OF[own] or part == own, f"{file}: {part} is above"


def test_no_import_hides_in_a_string():
    """An import inside of `exec` or `eval` is seen by no reader and by no test."""
    for file in INSIDE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("exec", "eval", "__import__"), f"{file}: {node.lineno}"


def test_no_file_imports_itself_by_way_of_others():
    arrows = {file: imported_files(file) & set(INSIDE) for file in INSIDE}
    while free := [file for file, others in arrows.items() if not others & set(arrows)]:
        for file in free:
            del arrows[file]
    assert not arrows, f"a circle among {sorted(str(file.relative_to(ROOT)) for file in arrows)}"


def test_the_root_holds_what_every_stop_uses():
    entries = {entry.name for entry in PACKAGE.iterdir() if entry.name != "__pycache__"}
    folders = {"audio", "benchmark", "commands", "data", "embedding", "evaluation", "export", "hub", "model"}
    folders |= {"renewal", "scoring", "service", "student", "training", "tuning", "verification"}
    assert entries == folders | {"__init__.py", "_version.py", "errors.py", "files.py", "provenance.py", "py.typed"}
    assert {file.stem for file in (PACKAGE / "model").glob("*.py")} == TRAVELLING | {"__init__"}


@pytest.mark.parametrize("name", sorted(TRAVELLING))
def test_what_travels_needs_torch_and_transformers_alone(name):
    standard = {"collections", "dataclasses", "typing", "difflib", "inspect", "math"}
    standard |= {"hashlib", "json", "os", "re", "tempfile", "threading", "warnings", "functools"}
    for module in imported_names(PACKAGE / "model" / f"{name}.py"):
        if module[0] == "modeling_oskdft":
            assert module[1] == "model" and module[2] in TRAVELLING, module
        else:
            assert module[0] in standard | {"safetensors", "torch", "transformers"}, module


def test_the_metrics_need_numpy_alone():
    roots = {module[0] for module in imported_names(ROOT / "modeling_oskdft/scoring/metrics.py")}
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
    # Benchmarks and commands are run by their names: tests/benchmark, tests/commands.
    files = [file for file in FILES if file.parent.name not in ("benchmark", "commands")]
    modules = {file.stem for file in files} - untested
    assert modules <= tests, modules - tests


def test_the_trainer_and_the_script_stay_short():
    (trainer,) = (
        node
        for node in ast.parse((PACKAGE / "training" / "trainer.py").read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert trainer.end_lineno - trainer.lineno + 1 < 250
    assert len((ROOT / "train_oskdft.py").read_text().splitlines()) <= 100
