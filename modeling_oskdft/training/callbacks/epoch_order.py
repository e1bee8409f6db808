"""Set the epoch of the order of crops, also in a run of several processes that resumes within an epoch."""

from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ...data.crops import EpochSampler


class EpochOrder(TrainerCallback):
    """Sets the sampler's epoch before each epoch.

    The Trainer sets the epoch of the loader, and the loader that of its sampler. With several processes, a resumed
    epoch has one wrapper more (accelerate 1.15: `SkipBatchSampler` around `BatchSamplerShard`) than
    `DataLoaderShard.set_epoch` unwraps: the sampler would stay at the first epoch, some crops would be drawn twice and
    others not at all.

    Args:
        steps_per_epoch: optimiser steps of an epoch.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.sampler: EpochSampler | None = None

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch in which the next step falls."""
        if self.sampler is not None:
            self.sampler.set_epoch(state.global_step // self.steps_per_epoch)
