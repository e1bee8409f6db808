"""A moving average of the weights: less noise of the last steps in what is evaluated and published."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ..model.modeling_oskdft import OSKDFTForXVector

Tensors = list[Tensor] | tuple[Tensor, ...]


class WeightAverage(TrainerCallback):
    """Exponential moving average of the student, batch-norm statistics included, after every step.

    decay: in (0, 1), 0.999 is usual; in the first steps (1 + step) / (10 + step) where that is less, so that the
    random start of the head is soon forgotten. The average is torch's `AveragedModel`.
    """

    def __init__(self, student: OSKDFTForXVector, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay is {decay}: use a value between 0 and 1, such as 0.999; 0 for no average.")
        self._tracked = student
        self._average = AveragedModel(student, multi_avg_fn=self._mix, use_buffers=True)
        self._decay = decay
        self._step = 0

    @property
    def student(self) -> OSKDFTForXVector:
        """The averaged student."""
        return cast(OSKDFTForXVector, self._average.module)

    @torch.no_grad()
    def _mix(self, averages: Tensors, values: Tensors, count: Tensor | int) -> None:
        if not averages[0].is_floating_point():  # the batch norms' counters
            torch._foreach_copy_(averages, values)
            return
        share = min(self._decay, (1 + self._step) / (10 + self._step))
        torch._foreach_lerp_(averages, values, 1 - share)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A run that starts anew averages from its first weights on."""
        if state.global_step == 0:
            self.student.load_state_dict(self._tracked.state_dict())
        self.student.to(next(self._tracked.parameters()).device)
        self._average.n_averaged.fill_(1)  # 0 would copy the weights instead of mixing them in

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mix the new weights in."""
        self._step = state.global_step
        self._average.update_parameters(self._tracked)
