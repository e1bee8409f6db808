"""Train a student by transformers' Trainer: the joint step, three learning rates, trials for selection."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, SequenceFeatureExtractor, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PredictionOutput, TrainOutput

from ..data.crops import SPEAKERS, CropCollator, CropDataset, EpochSampler
from ..data.manifest import Manifest
from ..data.texts import TextDataset
from ..model.modeling_tasks_oskdft import Student
from ..scoring.thresholds import Thresholds
from . import checkpoints
from .callbacks.averaging import WeightAverage
from .callbacks.epoch_order import EpochOrder
from .callbacks.nonfinite import NonFiniteGuard
from .callbacks.progress import log_callback
from .callbacks.signals import SaveOnSignal
from .callbacks.stalls import StallWatch
from .class_validation import ClassScorer
from .columns import ColumnDataset
from .hub_trainer import HubTrainer
from .identity import RUN_NAME, describe_run, order_and_speakers, refuse_another_run
from .joint_model import JointModel, JointOutput
from .loss_window import LossWindow
from .objectives.objectives import KDWeights
from .optimization import build_optimizer, build_scheduler, clock_of_run
from .publishing import Measurement
from .refusals import refuse_another_length, refuse_arguments, refuse_other_targets, refuse_peft, refuse_run
from .targets import compute_targets
from .teacher import Teacher
from .training_arguments import OSKDFTTrainingArguments
from .transcription import TextScorer
from .upstream import Batch
from .validation import TrialDataset, TrialScorer, decided_by_min_dcf
from .verifiers import VerifierTeacher


class OSKDFTTrainer(HubTrainer):
    """Distils and fine-tunes a student in one run.

    A log line has `loss`, `kd_loss` (before its weight), `ft_loss`, `kd_weight` and the three learning rates; an
    evaluation has `eval_eer` and `eval_min_dcf`. `checkpoints` describes the files of a checkpoint.

    Args:
        model: student and objectives.
        args: settings of the training.
        data_collator: makes batches of crops.
        train_dataset: training crops; their speakers are the classes.
        eval_dataset: trials, or recordings with classes or texts, that select the best checkpoint; None for none.
        processing_class: the feature extractor of the student; None for the collator's.
        teacher: gives the target states; None without distillation of hidden states.
        verifiers: give the target embeddings.
        model_init: makes the joint model anew for each run, as `hyperparameter_search` needs it; then `model` is None.
        callbacks: further callbacks.
        arguments: other arguments of transformers' Trainer; those without effect are refused.

    Raises:
        ValueError, TypeError: for settings with which a run cannot work, and for an unknown argument.
    """

    average: WeightAverage | None = None

    def __init__(
        self,
        model: JointModel | None,
        args: OSKDFTTrainingArguments,
        data_collator: CropCollator,
        train_dataset: CropDataset,
        eval_dataset: TrialDataset | ColumnDataset | None = None,
        processing_class: SequenceFeatureExtractor | None = None,
        teacher: Teacher | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        verifiers: Sequence[VerifierTeacher] = (),
        model_init: Callable[..., JointModel] | None = None,
        **arguments: Any,
    ) -> None:
        refuse_arguments(arguments)
        extractor = processing_class or data_collator.feature_extractor
        self.teacher = None if teacher is None else teacher.to(args.device)
        self.verifiers = [verifier.to(args.device) for verifier in verifiers]
        self.changed: dict[str, Any] = {}  # settings that a resumed run has changed
        self.facts = order_and_speakers(args, train_dataset)
        scorer: Any = TrialScorer if train_dataset.label_column == SPEAKERS else ClassScorer
        scorer = TextScorer if isinstance(train_dataset, TextDataset) else scorer
        self.scorer = scorer(extractor, args, train_dataset.max_damaged, eval_dataset)
        self.order = EpochOrder(1)  # until `start_run`
        self.stopper, self.stalls = SaveOnSignal(), StallWatch()
        data = (data_collator, train_dataset, eval_dataset)
        rest = {"processing_class": extractor, "callbacks": list(callbacks or ()), "model_init": model_init}
        super().__init__(model, args, *data, **rest)
        self.remove_callback(PrinterCallback if args.disable_tqdm else ProgressCallback)
        guard = None if args.fp16 else NonFiniteGuard(args.max_nonfinite_steps)  # fp16 skips steps of itself
        for callback in filter(None, (log_callback(args), guard, self.stopper, self.order, self.stalls)):
            self.add_callback(callback)
        self.start_run()  # last, and after super().__init__ has moved the model: an average stays on its device
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = True  # compute_loss divides by the whole batch

    @property
    def joint(self) -> JointModel:
        """The joint model, without wrappers."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    @property
    def averaged(self) -> Student | None:
        """The moving average of the student, where there is one."""
        return None if self.average is None else self.average.student

    @property
    def published(self) -> Student:
        """The student that is evaluated and published: the moving average where there is one, without shut units."""
        gates = self.joint.objectives.gates
        return self.averaged or (self.joint.student if gates is None else gates.cut(self.joint.student))

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train; SIGTERM and Ctrl-C end the run with a checkpoint, and `stopper.received` is true then.

        Raises `ValueError` for a checkpoint that is damaged, or of a run with other settings.
        """
        if self.model is not None:  # between two trials of `hyperparameter_search` there is none
            refuse_peft(self.joint.student)
        checkpoint = checkpoints.find_checkpoint(self.args.output_dir, resume_from_checkpoint)
        if checkpoint is not None:
            checkpoints.check_checkpoint(checkpoint, self.args.world_size, self.average is not None)
            checkpoints.check_facts(checkpoint, self.facts)
            self.changed = refuse_another_run(checkpoint, self.settings)
            self.losses.restore(checkpoint / RUN_NAME, self.args)
            state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            if state.global_step >= self.clock.steps:
                return self._finished(checkpoint, state)
        try:
            output = super().train(resume_from_checkpoint=checkpoint and str(checkpoint), **kwargs)
            self.stopper.agree(self.args)  # one process alone may have received a signal in the last evaluation
            if self.stopper.received and kwargs.get("trial") is not None:
                raise KeyboardInterrupt  # else `hyperparameter_search` would go on with the next trial
            return output
        finally:
            self.stopper.stop_listening()
            self.stalls.stop()

    def start_run(self) -> None:
        """Check and describe a run by its arguments and its model, and average the student where they say so."""
        joint, teacher = self.joint, self.teacher
        refuse_run(self.args, joint, self.train_dataset, teacher is not None, len(self.verifiers))
        self.clock, self.losses = clock_of_run(self.args, len(self.train_dataset)), LossWindow()
        self.order.steps_per_epoch = self.clock.steps_per_epoch
        if teacher is not None:
            refuse_other_targets(joint, teacher.target_layers)
            teacher.stop_sharing_unless_equal(joint.student)
        self.remove_callback(self.average or WeightAverage)
        self.average = WeightAverage(joint.student, self.args.ema_decay) if self.args.ema_decay else None
        if self.average is not None:
            self.add_callback(self.average)
        parts = (self.train_dataset, self.data_collator, self.eval_dataset, self.verifiers)
        self.settings = describe_run(self.args, joint, teacher, *parts)

    def _finished(self, checkpoint: Path, state: TrainerState) -> TrainOutput:
        """Load the state and the weights of a run without steps left."""
        self.state = state
        self.state.init_training_references(self, state.max_steps, state.num_train_epochs, None)
        self.load_weights(checkpoints.chosen_of(checkpoint, state, self.args.load_best_model_at_end))
        return TrainOutput(state.global_step, 0.0, {})

    def start_from(self, run: str | Path) -> None:
        """Begin with the weights of another run instead of the teacher's, see `checkpoints.start_weights`."""
        checkpoints.start_weights(run, self.joint, self.averaged, self.facts["speakers"])
        if self.teacher is not None:
            self.teacher.stop_sharing_unless_equal(self.joint.student)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | None = None
    ) -> Tensor | tuple[Tensor, JointOutput]:
        """Compute the loss of `Objectives`, each of its terms a mean over all processes and accumulation steps."""
        if self.joint.objectives.gates is not None:
            self.joint.objectives.gates.advance(self.state.global_step, self.clock.steps)
        targets = compute_targets(inputs, self.teacher, self.verifiers)
        masks = {"attention_mask": inputs["attention_mask"]} if "attention_mask" in inputs else {}
        output: JointOutput = model(inputs["input_values"], inputs["labels"], *targets, **masks)
        weights = self.loss_weights([inputs]) if num_items_in_batch is None else num_items_in_batch
        shares = self.args.world_size / weights  # DDP averages gradients over processes
        # The penalty belongs to a step: each of its batches adds a part. The last step of an epoch has fewer.
        parts = getattr(self, "current_gradient_accumulation_steps", self.args.gradient_accumulation_steps)
        losses = output.losses(shares[0], shares[1], *self.kd_weights(), 1 / parts)
        self.losses.add(self.state.global_step, losses)
        return (losses["loss"], output) if return_outputs else losses["loss"]

    def loss_weights(self, batches: list[Batch]) -> Tensor:
        """Return (2,): the number of crops, and the sum of their class weights."""
        return self.joint.objectives.batch_weights(torch.cat([batch["labels"] for batch in batches]))

    def kd_weights(self) -> KDWeights:
        """Return the weights of both distillations in the next step."""
        return self.joint.objectives.kd_weights_at(self.clock, self.state.global_step)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Build Adam over head, adapters and backbone, see `optimization`."""
        self.optimizer = self.optimizer or build_optimizer(self.joint.parameter_groups(), self.args)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Build one schedule a group, see `optimization`."""
        refuse_another_length(num_training_steps, self.clock)
        self.lr_scheduler = self.lr_scheduler or build_scheduler(optimizer or self.optimizer, self.args, self.clock)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean losses since the last line and the learning rates of this step to a line of the training."""
        if "loss" in logs and self.losses:
            logs |= self.losses.pop_means(self.state.global_step, self.accelerator)
            logs = self.kd_weights().of_losses(logs) | logs
            logs |= {f"learning_rate_{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        # The gradient of a skipped step has no norm, and JSON has no NaN.
        finite = {name: value for name, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
        super().log(finite, start_time)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Build the loader; its workers leave SIGTERM to the process that saves."""
        loader = super().get_train_dataloader()
        self.stopper.workers.protect(getattr(loader, "base_dataloader", loader))  # accelerate iterates the inner one
        return loader

    def train_sampler(self) -> EpochSampler:
        """Build the sampler, whose order is a function of seed and epoch."""
        args = self.args
        readers, batch = args.world_size * max(args.dataloader_num_workers, 1), args.per_device_train_batch_size
        self.order.sampler = EpochSampler(self.train_dataset.manifest, args.seed, readers, batch)
        return self.order.sampler

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Measure EER and minDCF (p_target 0.01) of the ft path, or the metrics of another task.

        `eval_dataset` is None for the trials of this trainer, a `TrialDataset`, a manifest for balanced trials of its
        speakers, or a dict of data sets. Raises `TypeError` for anything else.
        """
        if isinstance(eval_dataset, dict):
            results: dict[str, float] = {}
            for name, dataset in eval_dataset.items():
                results |= self.evaluate(dataset, ignore_keys, f"{metric_key_prefix}_{name}")
            return results
        self.stalls.pause()
        rates = self.scorer.error_rates(self.published, eval_dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in rates.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(
        self, test_dataset: Manifest, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Embed a manifest, see `TrialScorer.predict`."""
        return self.scorer.predict(self.published, test_dataset, metric_key_prefix)

    def becomes_best(self, metrics: dict[str, float]) -> bool | None:
        """Let minDCF decide between checkpoints of equal EER, see `validation.decided_by_min_dcf`."""
        return decided_by_min_dcf(self.state, metrics, self.args.metric_for_best_model)

    def measure_thresholds(self) -> Thresholds:
        """Measure the thresholds of the published student on the validation trials, once for the same weights."""
        return self.scorer.thresholds(self.published)

    def measurements(self) -> tuple[Measurement | None, ...]:
        """Measure thresholds, calibration and cohort of the published student, see `TrialScorer.measurements`."""
        return () if self.eval_dataset is None else self.scorer.measurements(self.published)

    def save_weights(self, folder: str) -> None:
        """Write a checkpoint with everything to resume from, or the published student alone."""
        if not checkpoints.is_checkpoint(folder):
            return checkpoints.write_student(folder, self.published, self.processing_class)
        run = {"run": self.settings, "window": self.losses.state()}
        return checkpoints.write_checkpoint(folder, self.joint, self.averaged, self.processing_class, run, self.facts)

    def load_weights(self, checkpoint: Path) -> None:
        """Load student, objectives and moving average."""
        checkpoints.load_weights(checkpoint, self.joint, self.averaged)
        if self.teacher is not None:
            self.teacher.stop_sharing_unless_equal(self.joint.student)
