"""One run in one folder: a lock that goes with its process, however it ends."""

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
    """Hold the folder of a run for this process alone.

    The system gives the lock back when the process ends, killed or not, and forked workers do not hold it; what the
    file says is for people. Raises `ValueError` naming the process that holds it. A disk that has no locks is not
    locked.
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
        said = json.loads(path.read_text(encoding="utf-8"))
        return f"a run of process {said['process']} on {said['host']}, since {said['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
