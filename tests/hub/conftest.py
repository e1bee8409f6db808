import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import run_python
from tests.hub.loopback import TOKEN, Hub

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub():
    with Hub() as running:
        yield running


@pytest.fixture
def at_hub(hub, tmp_path):
    """Runs Python as on somebody's machine with this hub: `at_hub(*arguments, token=, home=, VARIABLE=)`."""

    def run(*arguments, token=TOKEN, home="home", **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= (
            hub.environment(tmp_path / home, token)
            | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
            | variables
        )
        if arguments[0] == "-S":
            command = [sys.executable, *map(str, arguments)]
            settings = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
            return subprocess.run(command, env=environment, cwd=ROOT, **settings)
        return run_python(*arguments, environment=environment, folder=ROOT)

    return run


@pytest.fixture
def oskdft(at_hub):
    """Runs the command line on such a machine."""
    return lambda *arguments, **options: at_hub("-m", "modeling_oskdft.commands", *arguments, **options)
