"""Override private methods of transformers' Trainer, each for a stated reason.

Read against transformers 5.17 and 5.23. tests/training/test_upstream.py fails when the source of an overridden method
changes: read the change, adapt the override, and record the new digest there.
"""

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer
from transformers.trainer_utils import BestRun

from .checkpoints import StagedCheckpoint

Batch = dict[str, Tensor]


class PatchedTrainer(Trainer, ABC):
    """transformers' Trainer, whose private steps call public hooks.

    A subclass defines every hook below, else it cannot be constructed; this class reads nothing else of it.
    """

    optimizer: Any
    lr_scheduler: Any
    control: Any
    _staged: StagedCheckpoint | None = None  # the checkpoint that is being written

    @abstractmethod
    def save_weights(self, folder: str) -> None:
        """Write the weights into the folder of a checkpoint, or into the final one."""

    @abstractmethod
    def load_weights(self, checkpoint: Path) -> None:
        """Load the weights of a checkpoint."""

    @abstractmethod
    def loss_weights(self, batches: list[Batch]) -> Tensor:
        """Return the weights that divide the losses of these batches of one process."""

    @abstractmethod
    def train_sampler(self) -> Sampler[Any]:
        """Build the sampler of training crops."""

    @abstractmethod
    def becomes_best(self, metrics: dict[str, float]) -> bool | None:
        """Return whether this checkpoint becomes the best; None leaves the decision to transformers."""

    @abstractmethod
    def push_step(self) -> None:
        """Send the student of the checkpoint that was written last to the Hub."""

    @abstractmethod
    def start_run(self) -> None:
        """Follow the training arguments and the model of a run; both may be others in each run with `model_init`."""

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> BestRun | list[BestRun]:
        """Search by transformers, on one process; needs `model_init`. `oskdft tune` runs one process a trial.

        Raises:
            ValueError: on several processes, where only the first one would learn that a trial is stopped.
        """
        if self.args.world_size > 1:
            raise ValueError("hyperparameter_search was started on several processes: use one, or `oskdft tune`.")
        return super().hyperparameter_search(*args, **kwargs)

    def _hp_search_setup(self, trial: object) -> None:
        # transformers makes the model of a run, and then sets the arguments of a trial. It counts the steps of the run
        # afterwards; our schedules count them before.
        super()._hp_search_setup(trial)
        if self.model_init is not None:
            self.start_run()

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor | None:
        # transformers counts tokens; the two losses are divided by crops and by class weights.
        if not batch_samples:
            return None
        weights = self.loss_weights(batch_samples).to(device)
        return self.accelerator.reduce(weights, "sum") if self.args.world_size > 1 else weights

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any]:
        # transformers draws rows from torch's global random state; ours are a function of seed and epoch.
        return self.train_sampler()

    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
        # transformers keeps the earlier of two equal EERs, and lets the last bits of a division choose.
        decision = self.becomes_best(metrics)
        if decision is None:
            return super()._determine_best_metric(metrics, trial)
        if decision:
            self.state.best_metric = metrics[f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"]
            self.state.best_global_step = self.state.global_step
        return decision

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        # transformers would write the joint model, with class vectors, as one model.
        self.save_weights(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # transformers would look for the joint model.
        self.load_weights(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        # transformers would look for the joint model.
        self.load_weights(Path(self.state.best_model_checkpoint))

    def _get_output_dir(self, trial: object) -> str:
        # The folder in which _save_checkpoint writes.
        return super()._get_output_dir(trial) if self._staged is None else str(self._staged.staging)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        # transformers writes into the final folder: a run that is killed leaves half a checkpoint under a whole name.
        run = Path(super()._get_output_dir(trial))
        args = self.args
        staged = StagedCheckpoint(run, self.state, self.accelerator, args.should_save, args.save_total_limit)
        self._staged = staged
        try:
            staged.write(partial(super()._save_checkpoint, model, trial))
        finally:
            self._staged = None

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # transformers sends optimiser states as well.
        self.push_step()
