"""The Trainer: transformers' own, with the joint step, the three learning rates, and trials for selection."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    SequenceFeatureExtractor,
)
from transformers.trainer_utils import TrainOutput

from ..data.crops import Augmentation, CropCollator, CropDataset, EpochSampler
from ..data.manifest import Manifest
from ..evaluation.calibration import Thresholds, measure_thresholds
from ..evaluation.extraction import extract_embeddings
from ..evaluation.metrics import equal_error_rate, min_detection_cost
from ..evaluation.scoring import Trials, score_trials
from ..modeling_oskdft import OSKDFTForXVector, shortest_input
from .arguments import ObjectiveArguments, OSKDFTTrainingArguments
from .averaging import WeightAverage
from .building import build_objectives
from .guards import NonFiniteGuard, SaveOnSigterm
from .joint_model import JointModel, JointOutput, SpecMask, Teacher, same_front_end
from .progress import LogLines, ProgressBarWithLogLines
from .publication import PublishingTrainer
from .schedules import KD_SCHEDULES, Clock, cosine, warmup_then_decay


class OSKDFTTrainer(PublishingTrainer):
    """Distils and fine-tunes a student in one run.

    student: as `init_student_from_teacher` gives it. args: see `OSKDFTTrainingArguments`. train: the training
    manifest; its sorted speakers are the classes. feature_extractor: the teacher's. objective_arguments: which losses.
    teacher: the encoder, None when `kd_weight` is 0; it is taken over, frozen and cut to the deepest state that is
    asked of it. validation, trials: what the EER that selects the best
    checkpoint is measured on; without them nothing is evaluated. augmentation: on the student's input only; the
    teacher hears the clean crop, unless teacher_hears is "augmented". labelled: speakers whose labels are used, None
    for all; the crops of the others are for the distillation. data: crop length and the limit on damaged files.

    Logged: `loss`, `kd_loss` (before its weight), `ft_loss`, `kd_weight`, the three learning rates; `eval_eer` and
    `eval_min_dcf`. A checkpoint holds the student as `save_pretrained` writes it, the objectives, the optimiser, the
    schedules and the random state, never the teacher; it appears under its name when it is complete.
    """

    loss_is_scaled_for_ga = True
    optimizer: Any
    lr_scheduler: Any
    control: Any

    def __init__(
        self,
        student: OSKDFTForXVector,
        args: OSKDFTTrainingArguments,
        train: Manifest,
        feature_extractor: SequenceFeatureExtractor,
        objective_arguments: ObjectiveArguments,
        teacher: PreTrainedModel | None = None,
        validation: Manifest | None = None,
        trials: Trials | None = None,
        augmentation: Augmentation | None = None,
        spec_mask: SpecMask | None = None,
        crop_seconds: float = 2.0,
        max_damaged: int = 100,
        speeds: Sequence[float] = (),
        labelled: Sequence[str] | None = None,
        teacher_hears: str = "clean",
        **kwargs: Any,
    ) -> None:
        dataset = CropDataset(train, crop_seconds, args.seed, augmentation, max_damaged, speeds, labelled)
        counts = dataset.utterances_of_classes()
        objectives = build_objectives(objective_arguments, student, counts, teacher and teacher.config)
        joint = JointModel(student, objectives, args.freeze, spec_mask)
        if labelled is not None and (objectives.kd is None or objectives.speaker is None):
            raise ValueError(
                "labelled_fraction is below 1 without both losses: crops without labels are for the distillation; set "
                "kd_weight, and a speaker_objective that reads the labels."
            )
        if objectives.speaker is None and args.eval_strategy != "no":
            raise ValueError(
                f"speaker_objective is 'none' with eval_strategy '{args.eval_strategy}': a head that does not learn "
                "has no error rate; set eval_strategy to no."
            )
        batch = args.per_device_train_batch_size * args.world_size
        if args.n_gpu > 1:
            raise ValueError(
                f"This process sees {args.n_gpu} GPUs: start one process for each with accelerate launch, or hide all "
                "but one with CUDA_VISIBLE_DEVICES=0."
            )
        if args.per_device_train_batch_size < 2:
            raise ValueError("per_device_train_batch_size is 1: the head's batch norm needs at least 2 crops.")
        if dataset.num_samples < shortest_input(student.config):
            raise ValueError(
                f"crop_seconds is {crop_seconds}: one frame needs {shortest_input(student.config)} samples at 16 kHz."
            )
        if len(dataset) < batch:
            raise ValueError(
                f"The training set has {len(dataset)} utterances and a batch takes {batch}: lower "
                "per_device_train_batch_size."
            )
        if objective_arguments.kd_schedule not in KD_SCHEDULES:
            raise ValueError(
                f"kd_schedule is '{objective_arguments.kd_schedule}': use one of {', '.join(KD_SCHEDULES)}."
            )
        self.teacher = None
        if objectives.kd is not None and teacher is not None:
            hear_the_same = args.freeze == "feature_encoder" and (augmentation is None or teacher_hears == "augmented")
            shared = hear_the_same and same_front_end(student, teacher.feature_extractor)
            own = torch.bfloat16 if args.bf16 else torch.float32
            precision = torch.bfloat16 if args.teacher_in_bfloat16 else torch.float32
            targets = objectives.kd.target_layers
            wanted = objectives.front_end is not None
            self.teacher = Teacher(teacher, targets, precision, own if shared else None, wanted).to(args.device)
        self.objective_arguments = objective_arguments
        self.trials = trials
        # Only what a trial needs is embedded.
        self.validation = validation and trials and validation.where("utterance_id", trials.utterances())
        self._sums: dict[str, Tensor] = {}
        self._thresholds: Thresholds | None = None
        super().__init__(
            model=joint,
            args=args,
            data_collator=CropCollator(feature_extractor, teacher_hears),
            train_dataset=dataset,
            eval_dataset=validation,  # read by our own evaluate
            processing_class=feature_extractor,
            **kwargs,
        )
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(LogLines() if args.disable_tqdm else ProgressBarWithLogLines())
        if not args.fp16:  # there, steps that overflow are how the loss scale is found
            self.add_callback(NonFiniteGuard(args.max_nonfinite_steps))
        self.sigterm = SaveOnSigterm()
        self.add_callback(self.sigterm)
        self.average = WeightAverage(student, args.ema_decay) if args.ema_decay else None
        if self.average is not None:
            self.add_callback(self.average)
        # Both losses are divided by the weight of the whole batch here: transformers must not divide again.
        self.model_accepts_loss_kwargs = True

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in transformers; after SIGTERM, `sigterm.received` is true and a checkpoint was saved."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self.sigterm.stop_listening()

    # ---- the step -------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, JointOutput]:
        """kd_weight(t) * kd_loss + ft_loss, each a mean over all processes and accumulation steps."""
        heard_by_teacher = inputs.pop("teacher_input_values", inputs["input_values"])
        heard = (None, None, None) if self.teacher is None else self.teacher(heard_by_teacher)
        output: JointOutput = model(inputs["input_values"], inputs["labels"], *heard)
        totals = self._batch_totals([inputs]) if num_items_in_batch is None else num_items_in_batch
        # DDP averages gradients over processes; the weights are already those of all of them.
        share = self.args.world_size / totals
        ft_loss = None if output.ft is None else output.ft.total * share[1]
        kd_loss = None if output.kd is None else output.kd.total * share[0]
        front_end = None if output.front_end is None else output.front_end.total * share[0]
        weighted = (ft_loss, None if kd_loss is None else self.kd_weight() * kd_loss)
        loss = torch.stack([one for one in weighted if one is not None]).sum()
        self._remember(ft_loss=ft_loss, kd_loss=kd_loss, front_end_kd_loss=front_end)
        return (loss, output) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        """What the losses of an optimiser step are divided by: crops and class weights of all processes."""
        if not batch_samples:
            return None
        totals = self._batch_totals(batch_samples).to(device)
        return self.accelerator.reduce(totals, "sum") if self.args.world_size > 1 else totals

    def _batch_totals(self, batches: list[dict[str, Tensor]]) -> Tensor:
        labels = torch.cat([batch["labels"] for batch in batches])
        speaker = self.joint.objectives.speaker
        weights = torch.ones(len(labels), device=labels.device) if speaker is None else speaker.item_weights(labels)
        # A batch may have no labels at all: its speaker loss is 0, not 0 / 0.
        return torch.stack([torch.ones_like(weights).sum(), weights.sum().clamp(min=1e-6)])

    def kd_weight(self) -> float:
        """The weight of the distillation loss in the step that comes next."""
        schedule = KD_SCHEDULES[self.objective_arguments.kd_schedule]
        clock = self._clock
        return self.objective_arguments.kd_weight * schedule(clock.epoch(self.state.global_step), clock.num_epochs)

    # ---- learning rates -------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Adam over head, adapters and backbone; every group's rate is its schedule's value itself."""
        if self.optimizer is None:
            groups = self.joint.parameter_groups()
            args = self.args
            self.optimizer = torch.optim.Adam(
                [{"params": parameters, "name": name} for name, parameters in groups.items() if parameters],
                lr=1.0,
                betas=(args.adam_beta1, args.adam_beta2),
                eps=args.adam_epsilon,
                weight_decay=args.weight_decay,
                fused=True,
            )
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """One schedule a group, read from the clock."""
        if self.lr_scheduler is None:
            self._start_clock(num_training_steps)
            chosen = optimizer or self.optimizer
            rates = [self._rate(group["name"]) for group in chosen.param_groups]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, rates)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _start_clock(self, num_training_steps: int) -> None:
        args = self.args
        crops, batch = len(self.train_dataset), args.per_device_train_batch_size * args.world_size
        batches = crops // batch if args.dataloader_drop_last else -(-crops // batch)
        steps = max(-(-batches // args.gradient_accumulation_steps), 1)
        self._clock = Clock(steps, max(num_training_steps / steps, 1e-9), args.schedule_unit)

    def _rate(self, group: str) -> Callable[[int], float]:
        args, clock = self.args, self._clock

        def head(epoch: float) -> float:
            return cosine(epoch, clock.num_epochs, args.learning_rate, args.min_learning_rate, clock.length)

        def backbone(epoch: float) -> float:
            if args.backbone_schedule == "cosine":
                warmth = min(epoch / args.backbone_warmup_epochs, 1.0) if args.backbone_warmup_epochs else 1.0
                return args.backbone_lr_multiplier * warmth * head(epoch)
            shape = warmup_then_decay(epoch, head, args.backbone_warmup_epochs, args.backbone_decay)
            return args.backbone_lr_multiplier * shape

        def adapters(epoch: float) -> float:
            return args.adapter_lr_multiplier * head(epoch)

        rate = {"head": head, "adapters": adapters, "backbone": backbone}[group]
        return lambda finished_steps: rate(clock.epoch(finished_steps))

    # ---- logging --------------------------------------------------------------------------------------------------

    def _remember(self, **losses: Tensor | None) -> None:
        if not self._sums:
            self._summed_from = self.state.global_step
        for name, value in losses.items():
            if value is not None:
                self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach().nan_to_num(
                    0.0, 0.0, 0.0
                )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds both losses, the weight of the first and the learning rates to every log line of the training loop."""
        if "loss" in logs and self._sums:
            steps = max(self.state.global_step - self._summed_from, 1)
            for name, value in self._sums.items():
                mean = self.accelerator.reduce(value, "mean") if self.args.world_size > 1 else value
                logs[name] = mean.item() / steps
            self._sums = {}
            if self.joint.objectives.kd is not None:
                logs["kd_weight"] = self.kd_weight()
            for group in self.optimizer.param_groups:
                logs[f"learning_rate_{group['name']}"] = group["lr"]
        super().log(logs, start_time)

    # ---- data and evaluation --------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As in transformers, with workers that leave SIGTERM to the process that saves."""
        loader = super().get_train_dataloader()
        self.sigterm.workers.serve(getattr(loader, "base_dataloader", loader))  # over which accelerate iterates
        return loader

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> EpochSampler:
        readers = self.args.world_size * max(self.args.dataloader_num_workers, 1)
        return EpochSampler(
            self.train_dataset.manifest, self.args.seed, readers, self.args.per_device_train_batch_size
        )

    def evaluate(
        self,
        eval_dataset: Dataset[Any] | dict[str, Dataset[Any]] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """EER and minDCF (p_target 0.01) of the ft path on the validation trials, as fractions."""
        scores, trials = self._validation_scores()
        metrics = {
            f"{metric_key_prefix}_eer": equal_error_rate(scores, trials.labels).value,
            f"{metric_key_prefix}_min_dcf": min_detection_cost(scores, trials.labels),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure_thresholds(self) -> Thresholds:
        """Thresholds of the published student on the validation trials, whose speakers it was not trained on."""
        own = self.published.fingerprint()
        if self._thresholds is not None and self._thresholds.fingerprint == own:
            return self._thresholds
        scores, trials = self._validation_scores()
        speakers = len(self.validation.speakers) if self.validation is not None else 0
        data = f"{speakers} speakers set aside from the training data"
        self._thresholds = measure_thresholds(scores, trials.labels, speakers, data, own)
        return self._thresholds

    def _validation_scores(self) -> tuple[Any, Trials]:
        if self.validation is None or self.trials is None:
            raise ValueError("evaluate was called without validation data: give the Trainer validation and trials.")
        embeddings = extract_embeddings(
            self.published,
            self.processing_class,
            self.validation,
            progress=not self.args.disable_tqdm,
            num_workers=self.args.dataloader_num_workers,
            max_damaged=self.train_dataset.max_damaged,
        )
        trials = self.trials.among(embeddings)
        return score_trials(trials, embeddings), trials
