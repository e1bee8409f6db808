"""The joint step at real size on a GPU: steps a second, share of the card's arithmetic, memory, waiting for data.

The same variants as the benchmark `training`, which runs on any device; without a GPU this one says so instead.
"""

from typing import Any

import torch

from . import training


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios. Raises `ValueError` without a GPU."""
    if not torch.cuda.is_available():
        raise ValueError("There is no GPU that torch can use: run the benchmark 'training', which measures a CPU.")
    return training.measure()


def explain(rows: list[dict[str, Any]]) -> str:
    """What the rows were measured on."""
    return f"{torch.cuda.get_device_name()}, bf16 autocast, crops of noise, random weights of the published shapes."
