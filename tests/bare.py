"""Python with nothing installed but some packages and what they need: `python -S -P`, and this as PYTHONPATH."""

import importlib.metadata as metadata
import re
from pathlib import Path

from packaging.requirements import Requirement

WANTED = ("torch", "transformers")


def bare_site(folder: Path, wanted: tuple[str, ...] = WANTED) -> Path:
    """A folder of links to the packages that installing `wanted` would bring, and to no other."""
    folder.mkdir()
    for name in _closure(wanted):
        for file in metadata.distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(metadata.distribution(name).locate_file(top)).resolve())
    return folder


def _closure(names):
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            needed = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        requirements = [Requirement(text) for text in needed]
        waiting += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found
