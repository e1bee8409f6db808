"""Lock the folder of a run for one process."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_NAME = ".oskdft.lock"
_held: set[str] = set()  # the system's locks hold between processes, not within one


@contextlib.contextmanager
def locked_folder(folder: str | Path) -> Iterator[None]:
    """Lock the folder of a run until the block ends.

    The system releases the lock when the process ends, killed or not, and forked workers do not hold it. The text in
    the file is for people. A disk without locks is not locked.

    Raises:
        ValueError: naming the process that holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(os.path.realpath(folder), LOCK_NAME)
    if str(path) in _held:
        raise ValueError(
            f"'{folder}' is in use by another run of this process: wait for it, or give another output_dir."
        )
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ValueError(
                f"'{folder}' is in use by {_owner(path)}: wait for it, or give another output_dir."
            ) from None
        except OSError:
            yield
            return
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "started": started}))
        file.flush()
        _held.add(str(path))
        try:
            yield
        finally:
            _held.remove(str(path))
            file.truncate(0)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"a run of process {owner['process']} on {owner['host']}, since {owner['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
