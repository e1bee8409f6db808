"""Gives the order of crops its epoch, also where a run of several processes goes on in the middle of one."""

from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ..data.crops import EpochSampler


class EpochOrder(TrainerCallback):
    """Sets the sampler's epoch before each epoch.

    The Trainer tells the loader, and the loader its sampler; but with several processes, a resumed epoch has one
    wrapper more (accelerate 1.15: `SkipBatchSampler` around `BatchSamplerShard`) than `DataLoaderShard.set_epoch`
    looks through. The sampler then stays at the first epoch: crops would be seen twice, and others not at all.
    """

    def __init__(self) -> None:
        self.sampler: EpochSampler | None = None
        self.steps_per_epoch = 1

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The epoch in which the next step falls."""
        if self.sampler is not None:
            self.sampler.set_epoch(state.global_step // self.steps_per_epoch)
