import subprocess
import sys

import pytest

from modeling_oskdft.training.locking import locked_folder
from tests.light import LIGHT

HOLD = """
import sys
from modeling_oskdft.training.locking import locked_folder
with locked_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", LIGHT + HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path):
    process = holder(tmp_path)
    with pytest.raises(ValueError, match=rf"is in use by a run of process {process.pid} on .*, since 20"):
        with locked_folder(tmp_path):
            pass
    process.kill()  # nothing is cleaned up by it
    process.wait()
    with locked_folder(tmp_path):
        pass
    process = holder(tmp_path)
    process.communicate("")
    with locked_folder(tmp_path):
        pass


def test_a_folder_is_held_within_a_process_too(tmp_path):
    with locked_folder(tmp_path):
        with pytest.raises(ValueError, match="is in use by"), locked_folder(tmp_path):
            pass
        command = [sys.executable, "-c", LIGHT + HOLD, str(tmp_path)]
        done = subprocess.run(command, input="", capture_output=True, text=True)
        assert done.returncode == 1 and "is in use by a run of process" in done.stderr  # the attempt gave nothing up
