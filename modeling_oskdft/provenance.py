"""Record the machine and the versions behind a number."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ._version import __version__


def machine() -> dict[str, Any]:
    """Describe this machine: `cpu`, `cores`, `system`, and `gpu` where torch finds one."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    facts: dict[str, Any] = {"cpu": names[0] if names else platform.processor() or platform.machine()}
    facts |= {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def versions() -> dict[str, str]:
    """Return the version of every package that can change a number, and Python's."""
    names = ("torch", "transformers", "numpy", "soundfile")
    installed = {"python": platform.python_version()} | {name: version(name) for name in names}
    installed |= {name: version(name) for name in ("onnxruntime", "openvino", "executorch") if find_spec(name)}
    return installed | {"modeling-oskdft": __version__}


def measured_on(result: Mapping[str, Any], packages: tuple[str, ...] = ("torch",)) -> str:
    """Write the line below a table: the GPU or else the processor, the cores, and the versions of some packages.

    Args:
        result: has `machine` and `versions`, as the functions of those names return them.
        packages: keys of `versions`.
    """
    computer, installed = result["machine"], result["versions"]
    facts = [
        computer.get("gpu", computer["cpu"]),
        f"{computer['cores']} cores",
        *(f"{name} {installed[name]}" for name in packages),
    ]
    return f"{', '.join(facts)}."


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []
