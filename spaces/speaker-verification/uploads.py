"""Keep visitors' recordings in a folder of this process, and remove old ones.

Import this before Gradio: Gradio reads the folder's name when it is imported.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

# In memory where the system has a folder there.
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
_UPLOADS = tempfile.TemporaryDirectory(prefix=f"oskdft-{os.getpid()}-", dir=_MEMORY)
FOLDER = Path(_UPLOADS.name)
os.environ["GRADIO_TEMP_DIR"] = _UPLOADS.name
MOST_MINUTES = 10  # that a recording stays in the folder
SECONDS_BETWEEN_LOOKS = 30


def remove_old_recordings(folder: Path, seconds: float) -> None:
    """Remove every file that is older, also the remains of an upload that broke off.

    Args:
        folder: files at any depth in it are removed.
        seconds: age from which a file is removed.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            try:
                if time.time() - file.stat().st_mtime > seconds:
                    file.unlink()
            except OSError:  # another process removed it first
                continue


def start_removing_old_recordings() -> None:
    """Start a thread that removes old recordings twice a minute, as long as the page runs."""
    threading.Thread(target=_remove_again_and_again, daemon=True).start()


def _remove_again_and_again() -> None:
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        try:
            remove_old_recordings(FOLDER, 60 * MOST_MINUTES)
        except Exception as error:  # the thread has to live: the next round may succeed
            print(f"Recordings could not be removed ({error}).", file=sys.stderr, flush=True)
