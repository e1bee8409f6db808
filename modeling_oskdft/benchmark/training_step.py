"""Compare the joint step (both paths, forward and backward) with two separate full passes of the same student.

The student has two layers, HuBERT-base's size and random weights. The bound by multiply-adds (backward counts as two
forward passes): front end and first layer up to its adapter are shared, so about 0.55 of the separate work is left.
"""

from typing import Any

import torch
from torch import Tensor

from ..evaluation.cost import alternating_medians
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTModel

BATCH, SECONDS, ROUNDS = 2, 3, 7


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure both; return a row for each, and the ratio of their times."""
    torch.manual_seed(0)
    encoder = OSKDFTModel(OSKDFTConfig()).train()
    waveforms = torch.randn(BATCH, SECONDS * 16000)

    def backward(*states: Tensor) -> None:
        encoder.zero_grad()
        torch.stack([state.square().mean() for state in states]).sum().backward()

    def joint() -> None:
        outputs = encoder(waveforms, path="both")
        backward(outputs.last_hidden_state, outputs.kd_last_hidden_state)

    def separate() -> None:
        for path in ("kd", "ft"):
            backward(encoder(waveforms, path=path).last_hidden_state)

    seconds = alternating_medians({"two separate passes": separate, "joint step": joint}, ROUNDS)
    rows = [{"step": name, "seconds": value, "crops": f"{BATCH} x {SECONDS} s"} for name, value in seconds.items()]
    return rows, {"joint / separate (at most 0.62)": seconds["joint step"] / seconds["two separate passes"]}
