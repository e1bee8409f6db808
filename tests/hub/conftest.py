import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.loopback import TOKEN, Hub

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub():
    with Hub() as running:
        yield running


@pytest.fixture
def at_hub(hub, tmp_path):
    """Runs Python as on somebody's machine with this hub: `at_hub(*words, token=, home=, VARIABLE=)`."""

    def run(*words, token=TOKEN, home="home", **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= (
            hub.environment(tmp_path / home, token)
            | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
            | variables
        )
        return subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def oskdft(at_hub):
    """The command line there."""
    return lambda *words, **options: at_hub("-m", "modeling_oskdft.commands", *words, **options)
