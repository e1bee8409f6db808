"""Files that are whole or not there."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the final name when the block ends, and goes when the block fails."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Short whatever the final name is, and another for every writer: two threads may write one file.
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    partial = target.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """A folder inside `path` to write files to; each takes its final place when the block ends without an error."""
    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".partial") as aside:
        yield Path(aside)
        for file in sorted(Path(aside).iterdir()):
            os.replace(file, target / file.name)


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """A folder beside `path` to write to; it takes the final name when the block ends, and goes when the block fails.

    What had the name before is replaced as a whole: nobody finds files of both, and it comes back where the new one
    cannot take its place. A link is followed.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial") as aside:
        new = Path(aside, "new")
        new.mkdir()
        yield new
        old = Path(aside, "old")
        if target.exists():  # a folder that is not empty cannot be replaced in one step
            os.replace(target, old)
        try:
            os.replace(new, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
