"""Measure the joint step on a GPU at real size: steps a second, share of the card's arithmetic, memory, waiting.

It is the benchmark `training`, which runs on any device, but ends with an error where there is no GPU.
"""

from typing import Any

import torch

from . import training


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Run the benchmark `training` on the GPU.

    Returns:
        Its rows and ratios.

    Raises:
        ValueError: torch finds no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("There is no GPU that torch can use: run the benchmark 'training', which measures a CPU.")
    return training.measure()


def explain(rows: list[dict[str, Any]]) -> str:
    """Write the conditions under which the rows were measured."""
    return f"{torch.cuda.get_device_name()}, bf16 autocast, crops of noise, random weights of the published shapes."
