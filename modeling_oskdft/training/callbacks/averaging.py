"""Average the weights of the student over the steps, which removes noise of the last steps from the result."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ...model.modeling_tasks_oskdft import Student

Tensors = list[Tensor] | tuple[Tensor, ...]


class WeightAverage(TrainerCallback):
    """Exponential moving average of the student, batch-norm statistics included, after every step.

    The average is torch's `AveragedModel`. In the first steps the decay is (1 + step) / (10 + step) where that is
    less, so that the random start of the head has soon no weight.

    Args:
        student: the student that the optimiser changes.
        decay: in (0, 1); 0.999 is usual.

    Raises:
        ValueError: for a decay outside its range.
    """

    def __init__(self, student: Student, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay is {decay}: use a value between 0 and 1, such as 0.999; 0 for no average.")
        self._tracked = student
        self._average = AveragedModel(student, multi_avg_fn=self._mix, use_buffers=True)
        self._decay = decay
        self._step = 0

    @property
    def student(self) -> Student:
        """The averaged student."""
        return cast(Student, self._average.module)

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
        """Start the average of a new run at its first weights."""
        if state.global_step == 0:
            self.student.load_state_dict(self._tracked.state_dict())
        self.student.to(next(self._tracked.parameters()).device)
        self._average.n_averaged.fill_(1)  # 0 would copy the weights instead of mixing them in

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the new weights to the average."""
        self._step = state.global_step
        self._average.update_parameters(self._tracked)
