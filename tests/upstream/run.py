"""Run transformers' and PEFT's own tests on our classes: `make upstream`.

Both suites come with the source distributions of the installed versions; no part of them is kept here. Tests that do
not apply are named with the reason in `oskdft_models.py` and `oskdft_peft.py`; all others have to pass.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = HERE.parents[1] / "runs" / "upstream"
# Modules that transformers' mixin imports and its source distribution lacks: tests of exporters and of generation.
ABSENT = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def source(package: str) -> Path:
    """Download and unpack the source distribution of the installed version of a package; returns its folder."""
    name = f"{package}-{version(package)}"
    if not (PLACE / name).is_dir():
        PLACE.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(PLACE)]
        command = [sys.executable, "-m", "pip", "download", *options, name.replace("-", "==")]
        subprocess.run(command, check=True)
        with tarfile.open(PLACE / f"{name}.tar.gz") as archive:
            archive.extractall(PLACE, filter="data")
    return PLACE / name


def run(folder: Path, file: str) -> int:
    """Run one of our files as a part of an upstream suite.

    Args:
        folder: the unpacked source distribution.
        file: name of our file, beside this one.

    Returns:
        Exit code of pytest.
    """
    tests = folder / "tests"
    for name in ["__init__.py", *(f"{Path(module).parent}/__init__.py" for module in ABSENT)]:
        (tests / name).parent.mkdir(exist_ok=True)
        (tests / name).touch()
    for name, text in ABSENT.items():
        (tests / name).write_text(text)
    (folder / "diffusers.py").write_text("StableDiffusionPipeline = None\n")  # PEFT's helpers import it
    shutil.copy(HERE / file, tests / f"test_{file}")
    arguments = [
        "-m",
        "pytest",
        "-c",
        os.devnull,
        "--rootdir",
        ".",
        "-q",
        "-p",
        "no:cacheprovider",
        "--numprocesses",
        "2",
    ]
    arguments += [*sys.argv[1:], f"tests/test_{file}"]
    return subprocess.run([sys.executable, *arguments], cwd=folder).returncode


def main() -> int:
    """Run both suites; returns 1 where one of them has failed or was killed."""
    codes = [run(source("transformers"), "oskdft_models.py"), run(source("peft"), "oskdft_peft.py")]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
