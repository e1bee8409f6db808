import contextlib
import gc
import subprocess
import sys
import weakref

import pytest
import torch

from modeling_oskdft.training import processes
from modeling_oskdft.training.processes import ended_process_group, in_a_group, is_a_launch, is_main_process


def test_one_process_is_the_main_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert is_main_process() and not is_a_launch() and not in_a_group()


@pytest.mark.parametrize("way", ["end", "error", "exit"])
def test_the_group_ends_whichever_way_out(tmp_path, way):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    ways = {"error": ValueError("x"), "exit": SystemExit(3)}
    expected = pytest.raises(type(ways[way])) if way in ways else contextlib.nullcontext()
    try:
        with expected, ended_process_group():
            assert in_a_group()
            if way in ways:
                raise ways[way]
        assert not in_a_group()
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_processes_of_a_launch_that_was_killed_end_too(tmp_path):
    code = (
        "import os, signal, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time\\n"
        "from modeling_oskdft.data.parallel import end_with_parent\\n"
        "end_with_parent(signal.SIGKILL); print(1, flush=True); time.sleep(60)'], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux ends children with their parent")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    child = int(done.stdout)
    for _ in range(50):
        try:
            state = open(f"/proc/{child}/stat").read().split()[2]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        __import__("time").sleep(0.1)
    raise AssertionError("the child lives on")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(143)])
def test_no_frame_of_an_error_outlives_the_group(error):
    """A DDP module that does would wait for a thread of gloo at the interpreter's end, and that thread for it."""

    class Trainer:
        def __init__(self):
            self.itself = self

    def fail():
        trainer = Trainer()
        held.append(weakref.ref(trainer))
        raise error

    held, alive = [], []

    def end():
        gc.collect()
        alive.append(held[0]() is not None)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(processes, "end_process_group", end)
        with ended_process_group():
            fail()
    assert alive == [False]
