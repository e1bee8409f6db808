"""Write files whole or not at all, and read text and JSON with sentences for errors."""

import hashlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to: it gets the final name when the block ends, and is removed on an error.

    A link is followed: its target is replaced, and the link stays.

    Args:
        path: the final name.

    Raises:
        ValueError: for a folder, a device or a pipe, which must not be replaced.
        OSError: naming `path` when it cannot be written.
    """
    target = _target(path)
    # A short name of its own for every writer: two threads may write one file.
    partial = target.with_name(f".{_short_name(target)}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, target)
    except OSError as error:
        if error.filename in (str(partial), partial):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_partials(path: str | Path) -> None:
    """Remove what processes that were killed within `whole_file` have left beside a file.

    Args:
        path: the final name, which no process may be writing now.
    """
    target = _target(path)
    for partial in target.parent.glob(f".{_short_name(target)}.*.partial"):
        partial.unlink(missing_ok=True)


def _short_name(target: Path) -> str:
    return hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]


def check_writable(path: str | Path) -> None:
    """Raise the errors of `whole_file` before the work instead of after it."""
    target = _target(path)
    with suppress(_Probed), whole_file(target) as partial:
        partial.touch()
        raise _Probed


class _Probed(Exception):
    """Ends the block of a test write, so that no file gets the final name."""


def _target(path: str | Path) -> Path:
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "a device or a pipe"
        raise ValueError(f"'{path}' is {what}, which is not replaced: give the name of a file.")
    return target


def sha256_of(path: str | Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | Path) -> str:
    """Read a text file of UTF-8, with or without a byte order mark.

    Raises:
        ValueError: naming the file and its likely encoding, for UTF-16 and other encodings.
    """
    content = Path(path).read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:100]:
        raise ValueError(f"'{path}' is UTF-16 or no text at all: save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"'{path}' is not UTF-8 (line {line}): save it as UTF-8.") from None


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder inside `path` to write files to; each gets its final place when the block ends without error."""
    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".partial") as aside:
        yield Path(aside)
        for file in sorted(Path(aside).iterdir()):
            os.replace(file, target / file.name)


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder beside `path` to write to: it gets the final name when the block ends, and is removed on an error.

    The folder of that name is replaced as a whole, so that no reader finds files of both. It comes back when the new
    one cannot take its place. A link is followed.
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


MOST_JSON = 64 << 20  # bytes


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object of finite numbers.

    Raises:
        ValueError: for text that is no JSON or not UTF-8, NaN and Infinity (JSON has neither), too deep nesting,
            numbers beyond floating point, and a file of over 64 MB.
    """
    name = os.fsencode(path).decode(errors="backslashreplace")
    try:
        if os.path.getsize(path) > MOST_JSON:
            raise ValueError(f"it has {os.path.getsize(path):,} bytes")
        values = json.loads(Path(path).read_text(encoding="utf-8-sig"), parse_constant=_refuse, parse_float=_finite)
        if not isinstance(values, dict):
            raise ValueError(f"it is a {type(values).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{name}' is no JSON object of finite numbers ({error}): write it again.") from None
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has {constant}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has {text[:20]}")
    return value


def write_json(values: dict[str, Any], path: str | Path) -> None:
    """Write values as JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def looks_like_a_path(name: str) -> bool:
    """Return whether a name means a path: org/name of the Hub has one slash, and no folder org exists."""
    parent = os.path.dirname(name)
    return (
        name in ("", ".", "..")
        or name.startswith((".", "/", "~"))
        or name.count("/") > 1
        or "\\" in name
        or name.endswith("/")
        or os.path.exists(name)
        or (parent != "" and os.path.isdir(parent))
    )
