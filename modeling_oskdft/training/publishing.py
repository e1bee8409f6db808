"""The student of a run on the Hub, with the card of what the run has measured."""

import tempfile
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.trainer_utils import HubStrategy

from ..data.trials import Trials
from ..hub.model_card import Statements, write_card, written_by_hand
from ..hub.upload import create_repository, push_model
from ..scoring.thresholds import Thresholds
from .checkpoints import CheckpointingTrainer


class PublishingTrainer(CheckpointingTrainer):
    """Sends the published student, and nothing else of the run, at the end or at every checkpoint."""

    trials: Trials | None

    def measure_thresholds(self) -> Thresholds:
        """Of the published student; by the trainer that knows the trials."""
        raise NotImplementedError

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository now: what is wrong with name or token shows before the run, not after it."""
        if not self.is_world_process_zero():
            return
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        private = self.args.hub_private_repo if private is None else private
        self.hub_model_id = create_repository(name, private=private, token=token or self.args.hub_token).repo_id

    def create_model_card(self, **_: Any) -> None:
        """The card of the published student, from what the run has measured; a page written by hand stays."""
        if self.is_world_process_zero() and not written_by_hand(self.args.output_dir):
            write_card(self.args.output_dir, self.hub_model_id, self._statements())

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **_: Any,
    ) -> str | Future[str] | None:
        """Send the published student with its thresholds and its card, and nothing else of the run.

        To be called by every process. Returns the address, or with `blocking=False` a future of it, on the
        process that sends; None on the others.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = token or self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self.save_model(_internal_call=True)
        thresholds = self.measure_thresholds() if self.trials is not None else None
        if not self.is_world_process_zero():
            return None
        if thresholds is not None:
            thresholds.save(self.args.output_dir)
        self.create_model_card()
        words: dict[str, Any] = {"token": token, "message": commit_message or "End of training"}
        words |= {"revision": revision or self.args.hub_revision}
        if blocking:
            return push_model(self.args.output_dir, self.hub_model_id, **words)
        return HfApi().run_as_future(push_model, self.args.output_dir, self.hub_model_id, **words)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """With `hub_strategy: every_save`, the student of every checkpoint, while its run goes on."""
        if self.args.hub_strategy == HubStrategy.END or not self.is_world_process_zero():
            return
        with tempfile.TemporaryDirectory() as folder:
            self._save(folder)
            write_card(folder, self.hub_model_id, self._statements())
            message = f"Training in progress, step {self.state.global_step}"
            try:
                push_model(folder, self.hub_model_id, token=self.args.hub_token, message=message)
            except OSError as error:  # a Hub that is away costs neither the checkpoint nor the run
                warnings.warn(f"Step {self.state.global_step} did not reach the Hub: {error}", stacklevel=2)

    def _statements(self) -> Statements:
        args = self.args
        return Statements(args.hub_license or "", args.hub_teacher_license or "", args.hub_data_license or "")
