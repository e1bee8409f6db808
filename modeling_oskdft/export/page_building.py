"""Build the page of `spaces/in-browser` with npm, once for each state of its source."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

SOURCE = Path(__file__).parents[2] / "spaces" / "in-browser"
LEAST_NODE = (20, 19)  # what vite asks for
STATE_NAME = ".source"  # in the built page: digest of what it was built from
READ = (
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
    "src/**/*",
    "public/**/*",
)


def built_page(source: Path = SOURCE) -> Path:
    """Return the folder of the built page; build it where its source has changed since.

    Args:
        source: folder of the page's source.

    Raises:
        FileNotFoundError: where the source is not beside the package, as in an installation from a wheel.
        ImportError: without Node.js and npm, or with a Node.js that is too old.
        OSError: when npm fails.
    """
    if not (source / "package.json").is_file():
        raise FileNotFoundError(
            f"The source of the page is not at '{source}': install the package from a checkout of the project, with "
            "`pip install --editable .`."
        )
    page = source / "dist"
    with FileLock(source / ".lock"):
        state = _state_of(source)
        if not (page / STATE_NAME).is_file() or (page / STATE_NAME).read_text(encoding="utf-8") != state:
            _check_node()
            print("oskdft: building the page with npm ...", file=sys.stderr)
            _npm(source, "ci", "--ignore-scripts")
            _npm(source, "run", "build")
            (page / STATE_NAME).write_text(state, encoding="utf-8")
    return page


def _state_of(source: Path) -> str:
    digest = hashlib.sha256()
    for pattern in READ:
        for file in sorted(source.glob(pattern)):
            if file.is_file():
                digest.update(f"{file.relative_to(source)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _check_node() -> None:
    wanted = f"Node.js {'.'.join(map(str, LEAST_NODE))} or later with npm builds the page"
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise ImportError(f"Node.js is not installed: {wanted}; install it.")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < LEAST_NODE:
        raise ImportError(f"Node.js {version.strip()} was found: {wanted}; install a newer one.")


def _npm(source: Path, *arguments: str) -> None:
    done = subprocess.run(["npm", *arguments], cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
        why = lines[0] if lines else f"exit code {done.returncode}"
        raise OSError(f"`npm {arguments[0]}` failed in '{source}' ({why.rstrip('.')}): run it there to see all.")
