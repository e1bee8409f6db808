"""The Trainer: transformers' own, with the joint step, the three learning rates, and trials for selection."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    SequenceFeatureExtractor,
    Trainer,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, get_last_checkpoint, rotate_checkpoints

from ..data.crops import Augmentation, CropCollator, CropDataset, EpochSampler
from ..data.manifest import Manifest
from ..evaluation.calibration import Thresholds, measure_thresholds
from ..evaluation.extraction import extract_embeddings
from ..evaluation.metrics import equal_error_rate, min_detection_cost
from ..evaluation.scoring import Trials, score_trials
from ..files import whole_folder
from ..hub.model_card import Statements, write_card, written_by_hand
from ..hub.publishing import create_repository, push_model
from ..modeling_oskdft import OSKDFTForXVector, shortest_input
from .arguments import ObjectiveArguments, OSKDFTTrainingArguments
from .averaging import WeightAverage
from .building import build_objectives
from .guards import NonFiniteGuard, SaveOnSigterm
from .joint_model import JointModel, JointOutput, SpecMask, Teacher, same_front_end
from .progress import LogLines, ProgressBarWithLogLines
from .schedules import KD_SCHEDULES, Clock, cosine, warmup_then_decay

OBJECTIVES_NAME = "objectives.safetensors"
EMA_NAME = "ema.safetensors"
INCOMPLETE = ".incomplete"


class OSKDFTTrainer(Trainer):
    """Distils and fine-tunes a student in one run.

    student: as `init_student_from_teacher` gives it. args: see `OSKDFTTrainingArguments`. train: the training
    manifest; its sorted speakers are the classes. feature_extractor: the teacher's. objective_arguments: which losses.
    teacher: the encoder, None when `kd_weight` is 0; it is taken over, frozen and cut to the deepest state that is
    asked of it. validation, trials: what the EER that selects the best
    checkpoint is measured on; without them nothing is evaluated. augmentation: on the student's input only; the
    teacher hears the clean crop. data: crop length and the limit on damaged files.

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
        **kwargs: Any,
    ) -> None:
        dataset = CropDataset(train, crop_seconds, args.seed, augmentation, max_damaged, speeds)
        counts = dataset.utterances_of_classes()
        objectives = build_objectives(objective_arguments, student, counts, teacher and teacher.config)
        joint = JointModel(student, objectives, args.freeze, spec_mask)
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
            hear_the_same = args.freeze == "feature_encoder" and augmentation is None
            shared = hear_the_same and same_front_end(student, teacher.feature_extractor)
            own = torch.bfloat16 if args.bf16 else torch.float32
            precision = torch.bfloat16 if args.teacher_in_bfloat16 else torch.float32
            targets = objectives.kd.target_layers
            self.teacher = Teacher(teacher, targets, precision, own if shared else None).to(args.device)
        self.objective_arguments = objective_arguments
        self.trials = trials
        # Only what a trial needs is embedded.
        self.validation = validation and trials and validation.where("utterance_id", trials.utterances())
        self._sums: dict[str, Tensor] = {}
        self._thresholds: Thresholds | None = None
        super().__init__(
            model=joint,
            args=args,
            data_collator=CropCollator(feature_extractor),
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

    @property
    def student(self) -> OSKDFTForXVector:
        """The student that the optimiser moves, out of any wrapper."""
        return self.joint.student

    @property
    def published(self) -> OSKDFTForXVector:
        """The student that is evaluated and published: the moving average where there is one."""
        return self.student if self.average is None else self.average.student

    def train(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (transformers' own)
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
    ) -> Any:  # noqa: ANN401  (transformers' own return)
        """kd_weight(t) * kd_loss + ft_loss, each a mean over all processes and accumulation steps."""
        heard_by_teacher = inputs.pop("teacher_input_values", inputs["input_values"])
        states, features = (None, None) if self.teacher is None else self.teacher(heard_by_teacher)
        output: JointOutput = model(inputs["input_values"], inputs["labels"], states, features)
        totals = self._batch_totals([inputs]) if num_items_in_batch is None else num_items_in_batch
        # DDP averages gradients over processes; the weights are already those of all of them.
        share = self.args.world_size / totals
        ft_loss = output.ft.total * share[1]
        loss, kd_loss = ft_loss, None
        if output.kd is not None:
            kd_loss = output.kd.total * share[0]
            loss = loss + self.kd_weight() * kd_loss
        self._remember(ft_loss=ft_loss, kd_loss=kd_loss)
        return (loss, output) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        """What the losses of an optimiser step are divided by: crops and class weights of all processes."""
        if not batch_samples:
            return None
        totals = self._batch_totals(batch_samples).to(device)
        return self.accelerator.reduce(totals, "sum") if self.args.world_size > 1 else totals

    def _batch_totals(self, batches: list[dict[str, Tensor]]) -> Tensor:
        labels = torch.cat([batch["labels"] for batch in batches])
        weights = self.joint.objectives.speaker.item_weights(labels)
        return torch.stack([torch.ones_like(weights).sum(), weights.sum()])

    @property
    def joint(self) -> JointModel:
        """The joint model, out of any wrapper."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

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

    def _rate(self, group: str) -> Any:  # noqa: ANN401  (a function of the finished steps)
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

    def get_train_dataloader(self) -> Any:  # noqa: ANN401  (transformers' own)
        """As in transformers, with workers that leave SIGTERM to the process that saves."""
        loader = super().get_train_dataloader()
        begin = self.sigterm.workers.initialiser(loader.worker_init_fn)
        for one in (loader, getattr(loader, "base_dataloader", loader)):  # accelerate iterates over the second
            one.worker_init_fn = begin
        return loader

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:  # noqa: ANN401  (transformers' own)
        readers = self.args.world_size * max(self.args.dataloader_num_workers, 1)
        return EpochSampler(
            self.train_dataset.manifest, self.args.seed, readers, self.args.per_device_train_batch_size
        )

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ANN401  (transformers' own)
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

    # ---- the Hub --------------------------------------------------------------------------------------------------

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
    ) -> Any:  # noqa: ANN401  (an address, or a future of one)
        """Send the published student with its thresholds and its card, and nothing else of the run.

        To be called by every process. Returns the address, or with `blocking=False` a future of it.
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

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = output_dir or self.args.output_dir
        is_checkpoint = Path(folder).name.startswith(PREFIX_CHECKPOINT_DIR)
        with whole_folder(folder) as aside:
            (self.student if is_checkpoint else self.published).save_pretrained(aside)
            self.processing_class.save_pretrained(aside)
            if is_checkpoint:
                metadata = {"speakers": self._speakers_digest(), "order": self._order()}
                _save_state(self.joint.objectives, aside / OBJECTIVES_NAME, **metadata)
            if is_checkpoint and self.average is not None:
                _save_state(self.average.student, aside / EMA_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Read through `from_pretrained`, because key names on disk depend on where a model was first loaded from."""
        checkpoint = Path(resume_from_checkpoint)
        order = self._stored(checkpoint, "order")
        if order != self._order():
            raise ValueError(
                f"'{checkpoint}' was made with {order} and this run has {self._order()}: crops would be seen twice or "
                "not at all; resume with as many."
            )
        student = OSKDFTForXVector.from_pretrained(checkpoint, dtype=torch.float32)
        self.student.load_state_dict(student.state_dict())
        try:
            if self._stored(checkpoint, "speakers") != self._speakers_digest():
                raise RuntimeError  # vectors of as many other people
            self.joint.objectives.load_state_dict(load_file(checkpoint / OBJECTIVES_NAME))
            if self.average is not None:
                self.average.student.load_state_dict(load_file(checkpoint / EMA_NAME))
        except (RuntimeError, FileNotFoundError):
            raise ValueError(
                f"The objectives in '{checkpoint}' are not those of this recipe: resume with the recipe and the data "
                "that the run was started with."
            ) from None

        self._share_only_what_is_the_same()

    def _share_only_what_is_the_same(self) -> None:
        """Other weights were loaded: the student's convolutions may no longer be the teacher's."""
        shared = None if self.teacher is None else self.teacher.front_end
        if self.teacher is not None and shared is not None and not same_front_end(self.student, shared.front_end):
            self.teacher.stop_sharing()

    def start_from(self, run: str | Path) -> None:
        """Begin with the weights of another run instead of the teacher's: of its best checkpoint, averaged if it is.

        Its class vectors are taken as well where the speakers are the same, else they start anew. Raises
        `FileNotFoundError` for a folder without a checkpoint, `ValueError` for a student of another shape.
        """
        checkpoint = best_checkpoint(run)
        student = OSKDFTForXVector.from_pretrained(checkpoint, dtype=torch.float32)
        if (checkpoint / EMA_NAME).is_file():
            student.load_state_dict(load_file(checkpoint / EMA_NAME))
        try:
            self.student.load_state_dict(student.state_dict())
        except RuntimeError:
            raise ValueError(
                f"The student in '{checkpoint}' has another shape than this recipe's: start from a run whose student "
                "fields are the same."
            ) from None
        if self.average is not None:
            self.average.student.load_state_dict(self.student.state_dict())
        self._share_only_what_is_the_same()
        stored = load_file(checkpoint / OBJECTIVES_NAME)
        own = self.joint.objectives.speaker.state_dict(prefix="speaker.")
        if self._stored(checkpoint, "speakers") == self._speakers_digest() and all(
            name in stored and stored[name].shape == value.shape for name, value in own.items()
        ):
            self.joint.objectives.load_state_dict({name: stored[name] for name in own}, strict=False)
        else:
            warnings.warn(f"The class vectors start anew: '{checkpoint}' has other speakers.", stacklevel=2)

    @staticmethod
    def _stored(checkpoint: Path, what: str) -> str:
        with safe_open(checkpoint / OBJECTIVES_NAME, "pt") as file:
            return (file.metadata() or {}).get(what, "")

    def _order(self) -> str:
        """What the order of the crops depends on beside seed and epoch: with shards, who reads them."""
        if self.train_dataset.manifest.row_groups() is None:
            return "rows"
        return f"{self.args.world_size} processes, {self.args.dataloader_num_workers} workers"

    def _speakers_digest(self) -> str:
        """Of the classes in their order: class vectors mean nothing to other speakers."""
        classes = [f"{speed:g} {one}" for speed in self.train_dataset.speeds for one in self.train_dataset.speakers]
        return hashlib.sha256("\n".join(classes).encode()).hexdigest()

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _get_output_dir(self, trial: Any) -> str:  # noqa: ANN401  (transformers' own)
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, INCOMPLETE) if getattr(self, "_is_saving", False) else folder

    @contextlib.contextmanager
    def _saving_aside(self) -> Iterator[None]:
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving = False

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ANN401  (transformers' own)
        """Write beside, then rename: a checkpoint under its own name is whole, however the run dies."""
        with self._saving_aside():
            staging = Path(self._get_output_dir(trial))
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            try:
                super()._save_checkpoint(model, trial)
            except (OSError, RuntimeError, SafetensorError) as error:
                shutil.rmtree(staging, ignore_errors=True)  # half a checkpoint would keep a full disk full
                raise OSError(
                    f"The checkpoint of step {self.state.global_step} could not be written to '{staging.parent}' "
                    f"({str(error).splitlines()[0]}): make room; the last one is whole, go on with "
                    "--resume_from_checkpoint last."
                ) from error
            self.accelerator.wait_for_everyone()  # every process has written its random state
        run, name = staging.parent, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}")
        if self.args.should_save:
            self.state.save_to_json(str(staging / name / "trainer_state.json"))
            if (run / name).exists():  # of the same step, saved once more with what evaluation has found
                os.replace(run / name, staging / "earlier")
            os.replace(staging / name, run / name)
            shutil.rmtree(staging)
            rotate_checkpoints(
                output_dir=str(run),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )
        self.accelerator.wait_for_everyone()


def _save_state(module: nn.Module, path: Path, **metadata: str) -> None:
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path, metadata or None)


def best_checkpoint(run: str | Path) -> Path:
    """The checkpoint that a run selected, or its last one; a checkpoint itself is its own.

    Raises `FileNotFoundError` when there is none.
    """
    folder = Path(run)
    if (folder / OBJECTIVES_NAME).is_file():
        return folder
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last is None:
        raise FileNotFoundError(f"There is no checkpoint in '{run}': give the output_dir of a run, or a checkpoint.")
    best = TrainerState.load_from_json(str(Path(last, TRAINER_STATE_NAME))).best_model_checkpoint
    chosen = folder / Path(best).name if best else Path(last)  # the run may have moved since
    return chosen if chosen.is_dir() else Path(last)
