"""The Trainer: transformers' own, with the joint step, the three learning rates, and trials for selection."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    SequenceFeatureExtractor,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PredictionOutput, TrainOutput, get_last_checkpoint

from ..audio.augmentation import WaveformAugmentation
from ..data.crops import Augmentation, CropCollator, CropDataset, EpochSampler
from ..data.manifest import Manifest
from ..data.trials import Trials, make_trials
from ..embedding.corpus import extract_embeddings
from ..evaluation.report import speakers_of
from ..model.companions_oskdft import fingerprint_of
from ..model.modeling_oskdft import OSKDFTForXVector, shortest_input
from ..scoring.cosine import score_trials
from ..scoring.metrics import equal_error_rate, min_detection_cost
from ..scoring.thresholds import SET_ASIDE, Thresholds, measure_thresholds
from .arguments import ObjectiveArguments, OSKDFTTrainingArguments
from .averaging import WeightAverage
from .building import build_objectives
from .callbacks.guards import NonFiniteGuard, SaveOnSignal
from .callbacks.progress import LogLines, ProgressBarWithLogLines
from .callbacks.stalls import StallWatch
from .checkpoints import check_checkpoint
from .epoch_order import EpochOrder
from .identity import (
    ARGUMENTS,
    config_digest,
    digest,
    manifest_digest,
    refuse_another_run,
    trials_digest,
)
from .joint_model import JointModel, JointOutput, SpecMask, Teacher, same_front_end
from .publishing import PublishingTrainer
from .schedules import KD_SCHEDULES, Clock, cosine, warmup_then_decay

TIE = 1e-9  # of error rates: what rounding alone makes of equal ones


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
        _refuse_unread(kwargs, student)
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
        self.facts = {
            **{name: getattr(args, name) for name in ARGUMENTS},
            "objectives": asdict(objective_arguments),
            "student": config_digest(student.config),
            "features": None if feature_extractor is None else config_digest(feature_extractor),
            "teacher": None if teacher is None else fingerprint_of(teacher.state_dict())[:16],
            "utterances": manifest_digest(train),
            "validation": [manifest_digest(validation), trials_digest(trials)],
            "labelled": None if labelled is None else digest(sorted(labelled)),
            "crop_seconds": crop_seconds,
            "speeds": list(speeds),
            "teacher_hears": teacher_hears,
            "augmentation": _facts_of(augmentation),
            "spec_mask": None if spec_mask is None else [spec_mask.probability, spec_mask.features, spec_mask.frames],
        }
        self.facts = json.loads(json.dumps(self.facts))  # as it comes back
        self.changed: dict[str, Any] = {}
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
        self._summed_from = 0
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
        self.stopper = SaveOnSignal()
        self.add_callback(self.stopper)
        self._order_of_epochs = EpochOrder()
        self.add_callback(self._order_of_epochs)
        self.stalls = StallWatch()
        self.add_callback(self.stalls)
        self.average = WeightAverage(student, args.ema_decay) if args.ema_decay else None
        if self.average is not None:
            self.add_callback(self.average)
        # Both losses are divided by the weight of the whole batch here: transformers must not divide again.
        self.model_accepts_loss_kwargs = True

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: object = None, **kwargs: Any
    ) -> TrainOutput:
        """As in transformers; after SIGTERM or Ctrl-C, `stopper.received` is true and a checkpoint was saved.

        A run that is resumed after its last step goes on with what came after it, and trains no further. Raises
        `ValueError` for a checkpoint that is damaged, or of a run that was started with something else.
        """
        _refuse_unread({"trial": trial}, self.student)
        checkpoint = self._checkpoint(resume_from_checkpoint)
        if checkpoint is not None:
            check_checkpoint(checkpoint, self.args.world_size, self.average is not None)
            self._check_order_and_speakers(checkpoint)
            self.changed = refuse_another_run(checkpoint, self.facts)
            self._restore_log_window(checkpoint)
            if (output := self._finished(checkpoint)) is not None:
                return output
        try:
            output = super().train(resume_from_checkpoint=checkpoint and str(checkpoint), **kwargs)
            self.stopper.agree(self.args)  # a signal during the last evaluation is heard by one process
            return output
        finally:
            self.stopper.stop_listening()
            self.stalls.stop()

    def _checkpoint(self, asked: str | bool | None) -> Path | None:
        if asked is None or asked is False:
            return None
        found = get_last_checkpoint(self.args.output_dir) if asked is True else str(asked)
        if found is None or not Path(found).is_dir():
            place = (
                f"in '{self.args.output_dir}': check output_dir" if asked is True else f"at '{asked}': check the path"
            )
            raise ValueError(f"There is no checkpoint to resume from {place}.")
        return Path(found)

    def planned_steps(self) -> int:
        """Optimiser steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * self.steps_per_epoch())

    def _finished(self, checkpoint: Path) -> TrainOutput | None:
        """The state and the weights of a run whose steps were all done; None while there are any left."""
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.global_step < self.planned_steps():
            return None
        self.state = state
        self.state.init_training_references(self, self.state.max_steps, self.state.num_train_epochs, None)
        best = state.best_model_checkpoint
        chosen = checkpoint.parent / Path(best).name if best and self.args.load_best_model_at_end else checkpoint
        self._load_from_checkpoint(str(chosen if chosen.is_dir() else checkpoint))
        return TrainOutput(state.global_step, 0.0, {})

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
        weighted_kd = None if kd_loss is None else self.kd_weight() * kd_loss
        loss = torch.stack([one for one in (ft_loss, weighted_kd) if one is not None]).sum()
        self._remember(
            loss=loss, ft_loss=ft_loss, kd_loss=kd_loss, weighted_kd_loss=weighted_kd, front_end_kd_loss=front_end
        )
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

    def steps_per_epoch(self) -> int:
        """Optimiser steps in which an epoch shows every crop."""
        args = self.args
        crops, batch = len(self.train_dataset), args.per_device_train_batch_size * args.world_size
        batches = crops // batch if args.dataloader_drop_last else -(-crops // batch)
        return max(-(-batches // args.gradient_accumulation_steps), 1)

    def _start_clock(self, num_training_steps: int) -> None:
        steps = self.steps_per_epoch()
        self._clock = Clock(steps, max(num_training_steps / steps, 1e-9), self.args.schedule_unit)

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
        """Adds both losses, the weight of the first and the learning rates to every log line of the training loop.

        Losses and weight are means over the steps since the last line, so that loss = ft_loss + kd_weight * kd_loss
        holds: where the weight moves, it is the mean weighted by kd_loss. The rates are those of now.
        """
        if "loss" in logs and self._sums:
            steps = max(self.state.global_step - self._summed_from, 1)
            for name, value in self._sums.items():
                mean = self.accelerator.reduce(value, "mean") if self.args.world_size > 1 else value
                logs[name] = mean.item() / steps
            self._sums = {}
            if "weighted_kd_loss" in logs:
                weighted = logs.pop("weighted_kd_loss")
                logs["kd_weight"] = weighted / logs["kd_loss"] if logs["kd_loss"] else self.kd_weight()
            for group in self.optimizer.param_groups:
                logs[f"learning_rate_{group['name']}"] = group["lr"]
        # The gradient of a step that was skipped has no norm, and JSON no NaN.
        finite = {name: value for name, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
        super().log(finite, start_time)

    # ---- data and evaluation --------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As in transformers, with workers that leave SIGTERM to the process that saves."""
        loader = super().get_train_dataloader()
        self.stopper.workers.serve(getattr(loader, "base_dataloader", loader))  # over which accelerate iterates
        return loader

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> EpochSampler:
        readers = self.args.world_size * max(self.args.dataloader_num_workers, 1)
        sampler = EpochSampler(
            self.train_dataset.manifest, self.args.seed, readers, self.args.per_device_train_batch_size
        )
        self._order_of_epochs.sampler, self._order_of_epochs.steps_per_epoch = sampler, self.steps_per_epoch()
        return sampler

    def evaluate(
        self,
        eval_dataset: Manifest | dict[str, Manifest] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """EER and minDCF (p_target 0.01) of the ft path, as fractions.

        eval_dataset: None for the validation trials of this trainer; a manifest, of whose speakers balanced trials are
        made (`scoring.make_trials`); or a dict of manifests, each under its name. Raises `TypeError` for anything
        else.
        """
        if isinstance(eval_dataset, dict):
            together: dict[str, float] = {}
            for name, one in eval_dataset.items():
                together |= self.evaluate(one, ignore_keys, f"{metric_key_prefix}_{name}")
            return together
        if eval_dataset is not None and not isinstance(eval_dataset, Manifest):
            raise TypeError(
                f"evaluate was given a {type(eval_dataset).__name__}: a Manifest (data.sources.load_manifest) or a "
                "dict of them is needed, or nothing for the validation trials."
            )
        self.stalls.pause()
        if eval_dataset is None:
            scores, trials = self._validation_scores()
        else:
            scores, trials = self._scores(eval_dataset, make_trials(eval_dataset.by_speaker()))
        metrics = {
            f"{metric_key_prefix}_eer": equal_error_rate(scores, trials.labels).value,
            f"{metric_key_prefix}_min_dcf": min_detection_cost(scores, trials.labels),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(
        self, test_dataset: Manifest, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Embeddings of a manifest: `predictions` (utterances, embedding_size) and, as `label_ids`, their speakers.

        Raises `TypeError` for what is no manifest.
        """
        if not isinstance(test_dataset, Manifest):
            raise TypeError(
                f"predict was given a {type(test_dataset).__name__}: a Manifest (data.sources.load_manifest) is "
                "needed."
            )
        found = extract_embeddings(self.published, self.processing_class, test_dataset)
        speaker_of = speakers_of(test_dataset)
        speakers = np.asarray([speaker_of[name] for name in found])
        return PredictionOutput(
            np.stack(list(found.values())), speakers, {f"{metric_key_prefix}_utterances": len(found)}
        )

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `NotImplementedError`: a trial is a run of the training script."""
        raise NotImplementedError(
            "hyperparameter_search is not supported: start a run of train_oskdft.py for each trial, with --field "
            "value."
        )

    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
        """As in transformers; an EER that is as good as the best one is better with the lower minDCF, or later.

        A few trials make equal rates frequent, and the last bits of a division must not choose.
        """
        name = f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"
        if name != "eval_eer" or self.state.best_metric is None or "eval_min_dcf" not in metrics:
            return super()._determine_best_metric(metrics, trial)
        if abs(metrics[name] - self.state.best_metric) > TIE:
            return super()._determine_best_metric(metrics, trial)
        best = self._of_best("eval_min_dcf")
        if best is not None and metrics["eval_min_dcf"] > best + TIE:
            return False
        self.state.best_metric = metrics[name]
        self.state.best_global_step = self.state.global_step
        return True

    def selection_eer(self) -> float | None:
        """EER of the selected checkpoint on the validation trials; None where none was selected."""
        return self._of_best("eval_eer") if self.state.best_global_step else None

    def _of_best(self, name: str) -> float | None:
        """What was logged last of the checkpoint that is the best so far."""
        step = self.state.best_global_step
        found = [entry[name] for entry in self.state.log_history if entry.get("step") == step and name in entry]
        return found[-1] if found else None

    def measure_thresholds(self) -> Thresholds:
        """Thresholds of the published student on the validation trials, whose speakers it was not trained on."""
        own = self.published.fingerprint()
        if self._thresholds is not None and self._thresholds.fingerprint == own:
            return self._thresholds
        scores, trials = self._validation_scores()
        assert self.validation is not None  # else there are no scores
        speakers, pairs = len(self.validation.speakers), trials.speakers(speakers_of(self.validation))
        data = f"{speakers} {SET_ASIDE}"
        self._thresholds = measure_thresholds(scores, trials.labels, speakers, data, own, pairs)
        return self._thresholds

    def _validation_scores(self) -> tuple[Any, Trials]:
        if self.validation is None or self.trials is None:
            raise ValueError("evaluate was called without validation data: give the Trainer validation and trials.")
        return self._scores(self.validation, self.trials)

    def _scores(self, manifest: Manifest, trials: Trials) -> tuple[Any, Trials]:
        embeddings = extract_embeddings(
            self.published,
            self.processing_class,
            manifest,
            progress=not self.args.disable_tqdm,
            num_workers=self.args.dataloader_num_workers,
            max_damaged=self.train_dataset.max_damaged,
        )
        own = trials.among(embeddings)
        return score_trials(own, embeddings), own


def _facts_of(augmentation: Augmentation | None) -> dict[str, Any] | str | None:
    """What decides how crops change; of a function of somebody's own, its name."""
    if isinstance(augmentation, WaveformAugmentation):
        return augmentation.facts()
    return None if augmentation is None else getattr(augmentation, "__qualname__", type(augmentation).__qualname__)


def _refuse_unread(words: dict[str, Any], student: OSKDFTForXVector) -> None:
    """Raise `ValueError` for what transformers' Trainer takes and this one would not read."""
    unread = {
        "compute_metrics": "EER and minDCF are measured; call evaluate with a manifest of your own, or a callback",
        "compute_loss_func": "the losses are those of objective_arguments",
        "preprocess_logits_for_metrics": "nothing is gathered but embeddings",
        "model_init": "give the student",
        "optimizers": "the optimiser is Adam over three groups; set learning_rate, its multipliers and weight_decay",
        "optimizer_cls_and_kwargs": "the optimiser is Adam; set learning_rate, its multipliers and weight_decay",
        "trial": "start a run of train_oskdft.py for each trial",
        "data_collator": "crops are batched by CropCollator",
        "eval_dataset": "give validation and trials",
        "train_dataset": "give train, a manifest",
    }
    for name, instead in unread.items():
        value = words.get(name)
        if value is not None and value != (None, None):
            raise ValueError(f"{name} was given to OSKDFTTrainer, which would not read it: {instead}.")
    if getattr(student, "_hf_peft_config_loaded", False) or hasattr(student, "peft_config"):
        raise ValueError(
            "The student carries an adapter of PEFT, which a checkpoint could not hold: merge it first, or train it "
            "with PEFT (examples/adapt_to_site.py)."
        )
