"""transformers' and PEFT's own tests on our classes: `make upstream`.

Both suites come with the source distributions of the versions that are installed; nothing of them is kept here. What
does not apply is named, with the reason, in `oskdft_models.py` and `oskdft_peft.py`; everything else has to pass.
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
# What transformers' mixin imports and its source distribution lacks: tests of exporters and of generating text.
ABSENT = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def source(package: str) -> Path:
    """The unpacked source distribution of a package, as old as the one that is installed."""
    name = f"{package}-{version(package)}"
    if not (PLACE / name).is_dir():
        PLACE.mkdir(parents=True, exist_ok=True)
        words = [
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--dest",
            str(PLACE),
            name.replace("-", "=="),
        ]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        with tarfile.open(PLACE / f"{name}.tar.gz") as archive:
            archive.extractall(PLACE, filter="data")
    return PLACE / name


def run(folder: Path, file: str) -> int:
    """Run one of our files as a part of an upstream suite."""
    tests = folder / "tests"
    for name in ["__init__.py", *(f"{Path(one).parent}/__init__.py" for one in ABSENT)]:
        (tests / name).parent.mkdir(exist_ok=True)
        (tests / name).touch()
    for name, text in ABSENT.items():
        (tests / name).write_text(text)
    (folder / "diffusers.py").write_text("StableDiffusionPipeline = None\n")  # PEFT's helpers import it
    shutil.copy(HERE / file, tests / f"test_{file}")
    words = ["-m", "pytest", "-c", os.devnull, "--rootdir", ".", "-q", "-p", "no:cacheprovider", "--numprocesses", "2"]
    words += [*sys.argv[1:], f"tests/test_{file}"]
    return subprocess.run([sys.executable, *words], cwd=folder).returncode


def main() -> int:
    """Both suites; an exit code that is not 0 where one of them has failed or was killed."""
    codes = [run(source("transformers"), "oskdft_models.py"), run(source("peft"), "oskdft_peft.py")]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
