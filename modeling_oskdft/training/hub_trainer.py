"""Send the student of a run to the Hub, with its measurements and its card."""

from abc import ABC, abstractmethod
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from transformers.trainer_utils import HubStrategy

from ..hub.upload import create_repository
from . import publishing
from .publishing import Measurement
from .upstream import PatchedTrainer


class HubTrainer(PatchedTrainer, ABC):
    """The part of the trainer that publishes."""

    @abstractmethod
    def measurements(self) -> tuple[Measurement | None, ...]:
        """Measure what is published beside the weights; every process of a launch calls this."""

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository before the run, so that a wrong name or token is an error now."""
        if self.is_world_process_zero():
            name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
            private = self.args.hub_private_repo if private is None else private
            self.hub_model_id = create_repository(name, private=private, token=token or self.args.hub_token).repo_id

    def create_model_card(self, **_: Any) -> None:
        """Write the card of the published student; a page that was written by hand stays."""
        if self.is_world_process_zero():
            publishing.write_card_of_run(self.args, self.hub_model_id)

    def push_to_hub(
        self, commit_message: str | None = None, blocking: bool = True, token: str | None = None, **options: Any
    ) -> str | Future[str] | None:
        """Send the published student with its thresholds and its card, and nothing else of the run.

        Every process calls it; the sending one returns the address, or with `blocking=False` a future of it. `options`
        are `revision` and `private`.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token, options.get("private"))
        self.save_model(_internal_call=True)
        measured = self.measurements()
        if not self.is_world_process_zero():
            return None
        publishing.save_measurements(self.args.output_dir, *measured)
        self.create_model_card()
        revision = options.get("revision")
        return publishing.push_run(self.args, self.hub_model_id, commit_message, token, revision, blocking)

    def push_step(self) -> None:
        """Send the student of a checkpoint, with `hub_strategy: every_save`."""
        if self.args.hub_strategy != HubStrategy.END and self.is_world_process_zero():
            publishing.push_checkpoint(self.args, self.hub_model_id, self.state.global_step, self.save_weights)
