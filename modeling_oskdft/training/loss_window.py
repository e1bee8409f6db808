"""Sum the losses between two log lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import TrainingArguments

from ..files import read_json
from .joint_model import WEIGHTED


class LossWindow:
    """Sums of losses since the last log line.

    The sums stay on the device, so that a step does not wait for the host.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._first_step = 0

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a batch; a loss that is not finite adds nothing.

        Args:
            step: optimiser steps that are finished.
            losses: scalars by name.
        """
        if not self._sums:
            self._first_step = step
        for name, value in losses.items():
            finite = value.detach().nan_to_num(0.0, 0.0, 0.0)
            self._sums[name] = self._sums.get(name, torch.zeros_like(finite)) + finite

    def pop_means(self, step: int, accelerator: Accelerator) -> dict[str, float]:
        """Return the mean of each loss over the steps since the last call and over processes, and start anew.

        The mean weight of a distillation is `weighted_kd_loss` / `kd_loss`, so that loss = ft_loss + kd_weight *
        kd_loss holds for the means as well. `kd_weight` replaces `weighted_kd_loss`; it is absent where kd_loss is 0.
        `embedding_kd_weight` likewise.
        """
        steps = max(step - self._first_step, 1)
        sums, self._sums = self._sums, {}
        if accelerator.num_processes > 1:
            sums = {name: accelerator.reduce(value, "mean") for name, value in sums.items()}
        means = {name: value.item() / steps for name, value in sums.items()}
        for name in WEIGHTED:
            loss = name.removeprefix("weighted_")
            weighted = means.pop(name, None)
            if weighted is not None and means[loss]:
                means[loss.removesuffix("loss") + "weight"] = weighted / means[loss]
        return means

    def state(self) -> dict[str, Any]:
        """Return the sums for a checkpoint, as JSON."""
        return {"from": self._first_step, "sums": {name: value.item() for name, value in self._sums.items()}}

    def restore(self, file: Path, args: TrainingArguments) -> None:
        """Go on from the sums of a checkpoint; several processes, whose sums differ, start anew.

        Args:
            file: `run.json` of the checkpoint.
            args: settings of the training.
        """
        window = read_json(file).get("window", {}) if file.is_file() and args.world_size == 1 else {}
        self._first_step = int(window.get("from", 0))
        sums = window.get("sums", {})
        self._sums = {name: torch.tensor(value, device=args.device) for name, value in sums.items()}
