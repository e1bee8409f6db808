"""Run Python programs in processes that are forked from one which has torch: its import is half of their time.

Nothing is imported beforehand that reads the variables of the Hub, so a program has its own from the start, and its
PYTHONPATH; other variables that Python reads at its start have no effect. Programs that must begin with nothing
imported are run by `subprocess` itself.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

TEMPLATE = """
import json, os, runpy, sys
import scipy.optimize, sympy, torch, torch._dynamo, torch.distributed.tensor, torch.export

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    os._exit(0)

os.environ.clear()
os.environ.update(job["environment"])
os.chdir(job["folder"])
sys.path[1:1] = filter(None, job["environment"].get("PYTHONPATH", "").split(os.pathsep))
for number, name in enumerate((os.devnull, job["out"], job["err"])):
    os.dup2(os.open(name, os.O_RDWR), number)
sys.stdin, sys.stdout = open(0), open(1, "w")
sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")
option, *others = job["arguments"]
sys.orig_argv = [sys.executable, *job["arguments"]]
if option == "-c":
    code, *words = others
    sys.argv = ["-c", *words]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
elif option == "-m":
    module, *words = others
    sys.argv = ["-m", *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
else:
    sys.argv, sys.path[0] = [option, *others], os.path.dirname(option)
    runpy.run_path(option, run_name="__main__")
"""


def run_python(
    *arguments: object, environment: Mapping[str, str], folder: Path, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run a program as `python ARGUMENTS` would: `-c CODE`, `-m MODULE` or a file, and words."""
    words = [*map(str, arguments)]
    if sys.platform != "linux":
        command = [sys.executable, *words]
        settings = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": timeout}
        return subprocess.run(command, env=dict(environment), cwd=folder, **settings)
    with tempfile.TemporaryDirectory() as place:
        out, err = (Path(place, name) for name in ("out", "err"))
        out.touch()
        err.touch()
        job = {"arguments": words, "environment": dict(environment), "folder": str(folder)}
        code = _template().run(job | {"out": str(out), "err": str(err)}, timeout)
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


class _Template:
    """The process that has torch, and forks another one for each job."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a fork has one thread
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", TEMPLATE]
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    def run(self, job: Mapping[str, object], timeout: float) -> int:
        watch = threading.Timer(timeout, os.killpg, (self.process.pid, 9))
        watch.start()
        try:
            print(json.dumps(job), file=self.process.stdin, flush=True)
            return int(self.process.stdout.readline())
        except (OSError, ValueError) as error:  # the template has ended
            _template.cache_clear()
            ended = f"The process that {job['arguments']} is forked from has ended, with {self.process.wait()}"
            raise RuntimeError(f"{ended}; the program had {timeout:g} s.") from error
        finally:
            watch.cancel()


@cache
def _template() -> _Template:
    return _Template()
