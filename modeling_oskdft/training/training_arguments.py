"""Name the fields of a recipe about the training itself, and refuse those of transformers that have no effect."""

import sys
from collections.abc import Collection
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar

import torch
from transformers import TrainingArguments

from ..errors import MOST_WORKERS
from .joint_model import FREEZABLE
from .ranges import ABOVE_0, AT_LEAST_0, AT_LEAST_1, Range, check_choices, check_ranges

METRICS = ("eer", "min_dcf")
CLASS_METRICS = ("uar", "macro_f1", "accuracy")  # of a classifier; larger is better
TEXT_METRICS = ("cer", "wer")  # of a recogniser


@dataclass
class OSKDFTTrainingArguments(TrainingArguments):
    """Fields of the training: those of transformers' TrainingArguments, and the schedules of the method.

    `learning_rate` is the head's. Rates, epochs and batch are the paper's by default. The optimiser is Adam with L2
    `weight_decay`, as in both generations of the authors' code, and keeps its state through the whole run.

    Raises:
        ValueError: for a value outside its range, and for a field of transformers that has no effect here.
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "head: start of its cosine"})
    min_learning_rate: float = field(default=1e-6, metadata={"help": "head: end of its cosine"})
    adapter_lr_multiplier: float = field(
        default=10.0, metadata={"help": "rate of the adapters, as a multiple of the head's"}
    )
    backbone_lr_multiplier: float = field(default=1.0, metadata={"help": "factor on the rate of the shared layers"})
    backbone_warmup_epochs: float = field(
        default=10.0, metadata={"help": "shared layers: epochs of the warm-up to the head's rate"}
    )
    backbone_schedule: str = field(default="decay", metadata={"help": "shared layers: decay, or cosine as the head's"})
    backbone_decay: float = field(default=0.93, metadata={"help": "shared layers: factor an epoch after the warm-up"})
    schedule_unit: str = field(default="step", metadata={"help": "step, or epoch as the authors do"})
    freeze: str = field(
        default="none", metadata={"help": "part of the student that does not learn, one of: " + ", ".join(FREEZABLE)}
    )
    start_from: str | None = field(
        default=None, metadata={"help": "run or checkpoint whose student and class vectors this run begins with"}
    )
    ema_decay: float = field(default=0.0, metadata={"help": "moving average of the weights, e.g. 0.999; 0: none"})
    teacher_dtype: str = field(
        default="auto", metadata={"help": "float32, bfloat16, or auto: bfloat16 in a run with bf16"}
    )
    num_train_epochs: float = field(default=100.0, metadata={"help": "epochs"})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "crops a process and step"})
    eval_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch"})
    save_strategy: str = field(default="epoch", metadata={"help": "no, steps, epoch or best"})
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept beside the best; 0: all"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "end with the best checkpoint"})
    metric_for_best_model: str | None = field(
        default="eer", metadata={"help": "metric that selects the best checkpoint: eer or min_dcf"}
    )
    greater_is_better: bool | None = field(default=None, metadata={"help": "follows from the metric"})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "batch norm needs full batches"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "fixed, because crops have no columns"})
    max_nonfinite_steps: int = field(default=10, metadata={"help": "steps with a NaN or infinity until the run stops"})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "every parameter is used"})
    hub_strategy: str = field(default="end", metadata={"help": "when push_to_hub sends: end, or every_save as well"})
    hub_license: str | None = field(
        default=None, metadata={"help": "identifier of the student's licence, for its card"}
    )
    hub_teacher_license: str | None = field(default=None, metadata={"help": "the teacher's licence, for the card"})
    hub_data_license: str | None = field(default=None, metadata={"help": "the data's licence, for the card"})
    logging_steps: float = field(default=50, metadata={"help": "steps between two log lines"})
    ddp_timeout: int = field(
        default=600, metadata={"help": "seconds without an answer of a process until the run ends"}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "last, auto (last where there is one), or the folder of a checkpoint"}
    )

    RANGES: ClassVar[dict[str, Range]] = {
        **dict.fromkeys(
            ("learning_rate", "num_train_epochs", "logging_steps", "save_steps", "eval_steps", "adam_epsilon"), ABOVE_0
        ),
        **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps", "ddp_timeout"), AT_LEAST_1),
        **dict.fromkeys(("min_learning_rate", "adapter_lr_multiplier", "backbone_lr_multiplier"), AT_LEAST_0),
        **dict.fromkeys(("backbone_warmup_epochs", "weight_decay", "max_grad_norm"), AT_LEAST_0),
        **dict.fromkeys(("save_total_limit", "max_nonfinite_steps", "seed", "data_seed"), AT_LEAST_0),
        **dict.fromkeys(("ema_decay", "adam_beta1", "adam_beta2"), Range(0, 1, high_open=True)),
        "backbone_decay": Range(0, 1, low_open=True),
        "dataloader_num_workers": Range(0, MOST_WORKERS),
    }
    CHOICES: ClassVar[dict[str, Collection[str]]] = {
        "schedule_unit": ("step", "epoch"),
        "backbone_schedule": ("decay", "cosine"),
        "freeze": FREEZABLE,
        "teacher_dtype": ("auto", "float32", "bfloat16"),
    }

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        check_choices(self, self.CHOICES)
        self._check_selection()
        refuse_without_effect(self)
        if self.max_steps != -1 and self.max_steps < 1:
            raise ValueError(f"max_steps is {self.max_steps}: at least 1 is needed, or -1 for num_train_epochs.")
        if self.fp16 and not torch.accelerator.is_available():
            raise ValueError("fp16 is true and there is no GPU: leave it out, or use bf16.")
        if self.hub_strategy not in ("end", "every_save"):
            raise ValueError(
                f"hub_strategy is '{self.hub_strategy}': use end or every_save; optimiser states are not for the Hub."
            )
        if not torch.accelerator.is_available():
            self.use_cpu = True  # transformers refuses bf16 otherwise, though a CPU can compute in it
            self.dataloader_pin_memory = False
        if not sys.stderr.isatty():
            self.disable_tqdm = True
        super().__post_init__()

    def _check_selection(self) -> None:
        """Fill in the metric that selects the best checkpoint; refuse others."""
        if self.metric_for_best_model is None:
            self.metric_for_best_model = METRICS[0]
        of_classes = self.metric_for_best_model.removeprefix("eval_") in CLASS_METRICS
        if self.greater_is_better is None or of_classes:  # transformers maximises what does not end in "loss"
            self.greater_is_better = of_classes
        if not of_classes and self.metric_for_best_model.removeprefix("eval_") not in METRICS + TEXT_METRICS:
            raise ValueError(
                f"metric_for_best_model is '{self.metric_for_best_model}': use {' or '.join(METRICS)}, or with "
                f"label_column {', '.join(CLASS_METRICS)}, or with text_column {' or '.join(TEXT_METRICS)}."
            )
        if self.greater_is_better and not of_classes:
            raise ValueError(
                "greater_is_better is true: of error rates and minDCF the lower one is better; leave it out."
            )
        if self.eval_strategy == "no":
            self.load_best_model_at_end = False

    @property
    def teacher_in_bfloat16(self) -> bool:
        """Whether the teacher computes in bfloat16."""
        return self.teacher_dtype == "bfloat16" or (self.teacher_dtype == "auto" and bool(self.bf16))


# Fields of transformers' TrainingArguments without effect on this trainer, and the setting that has it.
WITHOUT_EFFECT = {
    "lr_scheduler_type": "the rates follow backbone_schedule and the cosine of the head",
    "lr_scheduler_kwargs": "the rates follow backbone_schedule and the cosine of the head",
    "warmup_steps": "set backbone_warmup_epochs",
    "warmup_ratio": "set backbone_warmup_epochs",
    "optim": "the optimiser is Adam",
    "optim_args": "the optimiser is Adam",
    "optim_target_modules": "the optimiser is Adam over all that learns",
    "label_smoothing_factor": "the speaker objectives have a margin instead",
    "group_by_length": "crops have one length",
    "train_sampling_strategy": "the order of crops is a function of the seed and the epoch",
    "length_column_name": "crops have one length",
    "neftune_noise_alpha": "there are no token embeddings; adapter_noise is a field of the student",
    "use_liger_kernel": "it has no kernels for speech encoders",
    "liger_kernel_config": "it has no kernels for speech encoders",
    "use_cache": "an encoder has no cache of keys and values",
    "auto_find_batch_size": "batch norm and schedules want the batch that the recipe says",
    "average_tokens_across_devices": "both losses are always averaged over all processes",
    "include_num_input_tokens_seen": "crops have no tokens; an epoch is counted in crops",
    "per_device_eval_batch_size": "evaluation batches by seconds of audio",
    "eval_accumulation_steps": "evaluation keeps embeddings only",
    "eval_do_concat_batches": "evaluation keeps embeddings only",
    "eval_use_gather_object": "evaluation gathers embeddings by name",
    "prediction_loss_only": "evaluation has no loss",
    "batch_eval_metrics": "evaluation is of all trials at once",
    "include_for_metrics": "EER and minDCF are what is measured",
    "fp16_full_eval": "evaluation is in float32",
    "bf16_full_eval": "evaluation is in float32",
    "label_names": "crops have one label, the speaker",
    "remove_unused_columns": "crops have no columns",
    "enable_jit_checkpoint": "SIGTERM always ends with a checkpoint, between two steps",
    "hub_always_push": "hub_strategy every_save sends at every checkpoint",
    "fsdp": "start one process for each GPU with accelerate launch; the student is small enough for DDP",
    "fsdp_config": "start one process for each GPU with accelerate launch; the student is small enough for DDP",
    "deepspeed": "start one process for each GPU with accelerate launch; the student is small enough for DDP",
    "parallelism_config": "start one process for each GPU with accelerate launch; the student is small enough for DDP",
}


def refuse_without_effect(arguments: OSKDFTTrainingArguments) -> None:
    """Refuse a field that was set and would change nothing.

    Raises:
        ValueError: naming the field and the setting that has its effect.
    """
    defaults: dict[str, tuple[object, ...]] = {each.name: (_default(each),) for each in fields(arguments)}
    defaults["include_num_input_tokens_seen"] = ("no", False)  # the parser of transformers turns one into the other
    defaults["fsdp"] = (*defaults.get("fsdp", ()), "", [])
    for name, instead in WITHOUT_EFFECT.items():
        if name in defaults and getattr(arguments, name) not in defaults[name]:
            raise ValueError(
                f"{name} is {getattr(arguments, name)}, which nothing here reads: {instead}; take it out."
            )


def _default(each: Field[Any]) -> object:
    return each.default_factory() if each.default_factory is not MISSING else each.default
