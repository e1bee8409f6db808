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
    """The processor and how much of it there is."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    found: dict[str, Any] = {"cpu": names[0] if names else platform.processor() or platform.machine()}
    found |= {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Of everything that can move a number."""
    names = ("torch", "transformers", "numpy", "soundfile")
    found = {"python": platform.python_version()} | {name: version(name) for name in names}
    if find_spec("onnxruntime"):
        found["onnxruntime"] = version("onnxruntime")
    return found | {"modeling-oskdft": __version__}


def measured_on(result: Mapping[str, Any], packages: tuple[str, ...] = ("torch",)) -> str:
    """The line below a table: the card or the processor, its cores, and the versions of these packages."""
    where, known = result["machine"], result["versions"]
    parts = [
        where.get("gpu", where["cpu"]),
        f"{where['cores']} cores",
        *(f"{name} {known[name]}" for name in packages),
    ]
    return f"{', '.join(parts)}."


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []
