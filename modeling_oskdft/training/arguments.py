"""What a recipe can say: four dataclasses, one name each, and the reading of recipes and overrides.

A recipe is flat YAML. `base: ../base.yaml` is read first, then the file, then `--field value` of the command line;
every value passes the parser of its type, so `1e-3` is a number wherever it stands.
"""

import inspect
import math
import numbers
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, make_dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

import torch
from transformers import HfArgumentParser, TrainingArguments

from ..audio.folders import LAYOUTS
from ..errors import MOST_WORKERS
from ..files import read_text
from ..model.configuration_oskdft import SHAPE_FIELDS, OSKDFTConfig, nearest_name
from ..scoring.cosine import SCORINGS
from ..student.initialization import STARTS
from .joint_model import FREEZABLE
from .schedules import KD_SCHEDULES

KD_OBJECTIVES = ("last_layer_mse", "layerwise_heads", "layerwise_projection")
SPEAKER_OBJECTIVES = ("aam_softmax", "linear_softmax", "none")
TEACHER_HEARS = ("clean", "augmented")
METRICS = ("eer", "min_dcf")
Annotation = type | types.GenericAlias | types.UnionType


def _with_lists(annotation: Annotation) -> Annotation:
    """The same type with lists for tuples, which the argument parser does not know."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        return types.GenericAlias(list, inner[:1])
    if isinstance(annotation, types.UnionType) and typing.get_origin(inner[0]) is tuple:
        return _with_lists(inner[0]) | None
    return annotation


def _student_fields() -> list[tuple[str, Any, Any]]:
    """The student's fields are those of `OSKDFTConfig`, but for what the teacher decides."""
    result: list[tuple[str, Any, Any]] = []
    decided = ("encoder_config", "teacher_name_or_path", "teacher_layers")
    for name, parameter in inspect.signature(OSKDFTConfig.__init__).parameters.items():
        if name in ("self", "kwargs", *decided):
            continue
        default, metadata = parameter.default, {"help": "see OSKDFTConfig"}
        value: Any = field(default=default, metadata=metadata)
        if isinstance(default, tuple):
            value = field(default_factory=partial(list, default), metadata=metadata)
        result.append((name, _with_lists(parameter.annotation), value))
    return result


class Range(NamedTuple):
    """Which numbers a field takes: from `low` to `high`, without an end that is open."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            return False
        number = float(value)
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return above and below

    def __str__(self) -> str:
        least = f"above {self.low:g}" if self.low_open else f"at least {self.low:g}"
        most = f"below {self.high:g}" if self.high_open else f"at most {self.high:g}"
        return " and ".join(text for text, end in ((least, self.low), (most, self.high)) if math.isfinite(end))


AT_LEAST_0, AT_LEAST_1, ABOVE_0 = Range(0), Range(1), Range(0, low_open=True)
SHARE, OPEN_SHARE = Range(0, 1), Range(0, 1, True, True)


def check_ranges(arguments: object, ranges: dict[str, Range]) -> None:
    """Raise `ValueError` naming the first field whose value lies outside its range; None is no value."""
    for name, allowed in ranges.items():
        value = getattr(arguments, name)
        if value is not None and value not in allowed:
            raise ValueError(f"{name} is {value}: a number of {allowed} is needed.")


def check_choices(arguments: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Raise `ValueError` naming the first field whose value is none of its choices."""
    for name, allowed in choices.items():
        value = getattr(arguments, name)
        if value not in allowed:
            raise ValueError(f"{name} is '{value}': use one of {', '.join(allowed)}.")


@dataclass
class TeacherArguments:
    """The teacher, and which of its layers the student keeps."""

    teacher: str = field(default="", metadata={"help": "folder or repository of the teacher's encoder"})
    layers: list[int] | None = field(
        default=None, metadata={"help": "teacher layers of the student, from 0 (default: 0 1)"}
    )
    evenly_spaced_layers: int | None = field(
        default=None, metadata={"help": "instead of layers: this many, from the first to the last; 0: all"}
    )
    front_end_width: list[float] | None = field(
        default=None,
        metadata={"help": "channels of the widest convolution, or of each; below 1 a share (default: the teacher's)"},
    )
    front_end_stride: list[int] | None = field(
        default=None, metadata={"help": "stride of each convolution (default: the teacher's)"}
    )
    hidden_size: float | None = field(
        default=None, metadata={"help": "width of the layers; below 1 a share (default: the teacher's)"}
    )
    intermediate_size: int | None = field(
        default=None, metadata={"help": "of the feed-forward blocks (default: in the teacher's proportion)"}
    )
    num_attention_heads: int | None = field(
        default=None, metadata={"help": "default: heads of the teacher's width that fill hidden_size"}
    )
    student_start: str = field(default="importance", metadata={"help": "one of: " + ", ".join(STARTS)})

    def __post_init__(self) -> None:
        if self.student_start not in STARTS:
            raise ValueError(f"student_start is '{self.student_start}': use one of {', '.join(STARTS)}.")

    def shape_fields(self) -> dict[str, Any]:
        """What `OSKDFTConfig.from_teacher` takes beside the configuration's own fields."""
        return {name: getattr(self, name) for name in SHAPE_FIELDS}


StudentArguments = make_dataclass("StudentArguments", _student_fields(), bases=(TeacherArguments,))
StudentArguments.__doc__ = "The student: its teacher and the fields of OSKDFTConfig."


@dataclass
class ObjectiveArguments:
    """Both losses of the one step."""

    kd_objective: str = field(default="last_layer_mse", metadata={"help": "one of: " + ", ".join(KD_OBJECTIVES)})
    kd_target_layers: list[int] | None = field(
        default=None, metadata={"help": "teacher hidden states, 0 the input of layer 0 (default: thirds, e.g. 4 8 12)"}
    )
    kd_weight: float = field(default=1.0, metadata={"help": "factor on kd_loss before its schedule; 0: no kd path"})
    kd_schedule: str = field(default="linear", metadata={"help": "one of: " + ", ".join(KD_SCHEDULES)})
    mse_scale: float = field(default=100.0, metadata={"help": "factor inside last_layer_mse (the paper's 100)"})
    cos_lambda: float = field(default=1.0, metadata={"help": "weight of the cosine term of layerwise_heads"})
    kd_reduction: str = field(default="mean", metadata={"help": "cosine term over frames: mean, or the authors' sum"})
    hint_lambda: float = field(default=0.1, metadata={"help": "weight of all but the last layer_projection"})
    front_end_kd_lambda: float = field(
        default=0.0, metadata={"help": "weight, in kd_loss, of the convolutions' own distillation; 0: none"}
    )
    speaker_objective: str = field(
        default="aam_softmax",
        metadata={"help": "one of: " + ", ".join(SPEAKER_OBJECTIVES) + " (distillation alone)"},
    )
    margin: float = field(default=0.2, metadata={"help": "angular margin of aam_softmax (the paper's 0.2)"})
    scale: float = field(default=30.0, metadata={"help": "scale of aam_softmax (the paper's 30)"})
    class_weight_cap: float = field(default=10.0, metadata={"help": "largest weight of a rare speaker; 0: no weights"})
    penalty_top_k: int = field(default=0, metadata={"help": "how many impostors aam_softmax penalises"})
    penalty_margin: float = field(default=0.1, metadata={"help": "angle of that penalty"})
    sub_centres: int = field(default=1, metadata={"help": "vectors a speaker in aam_softmax; 3 is usual"})

    RANGES: ClassVar[dict[str, Range]] = {
        **dict.fromkeys(
            ("kd_weight", "cos_lambda", "hint_lambda", "front_end_kd_lambda", "class_weight_cap"), AT_LEAST_0
        ),
        **dict.fromkeys(("mse_scale", "scale"), ABOVE_0),
        **dict.fromkeys(("margin", "penalty_margin"), Range(0, math.pi / 2, high_open=True)),
        "penalty_top_k": AT_LEAST_0,
        "sub_centres": AT_LEAST_1,
    }
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {"kd_schedule": tuple(KD_SCHEDULES)}

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        check_choices(self, self.CHOICES)


@dataclass
class DataArguments:
    """What is trained on, what selects, and what the table is made of."""

    train_data: str = field(default="", metadata={"help": "folder, manifest, or dataset with an audio column"})
    layout: str = field(default="auto", metadata={"help": "of a folder: auto, speaker/session, speaker"})
    train_split: str | None = field(default=None, metadata={"help": "rows whose split is this one"})
    validation_fraction: float = field(
        default=0.1, metadata={"help": "train speakers set aside; their trials choose the best checkpoint"}
    )
    test_data: str | None = field(default=None, metadata={"help": "data of test_trials (default: train_data)"})
    test_split: str | None = field(default=None, metadata={"help": "rows of test_data whose split is this one"})
    test_trials: str | None = field(default=None, metadata={"help": "trial list, read once, after training"})
    test_scoring: str = field(default="full", metadata={"help": "one of: " + ", ".join(SCORINGS)})
    validation_trials: int = field(
        default=20000, metadata={"help": "at most so many same-speaker pairs, and as many others, choose"}
    )
    data_root: str | None = field(default=None, metadata={"help": "replaces the root that train_data was made with"})
    test_root: str | None = field(default=None, metadata={"help": "replaces the root that test_data was made with"})
    labelled_fraction: float = field(
        default=1.0,
        metadata={"help": "share of the train speakers with labels; the others are for distillation alone"},
    )
    teacher_hears: str = field(
        default="clean", metadata={"help": "what the student hears augmented: " + " or ".join(TEACHER_HEARS)}
    )
    crop_seconds: float = field(default=2.0, metadata={"help": "length of a training crop (the paper's code: 2)"})
    noise_root: str | None = field(default=None, metadata={"help": "folder laid out like MUSAN"})
    rir_root: str | None = field(default=None, metadata={"help": "folder of room impulse responses"})
    augment_probability: float = field(default=0.6, metadata={"help": "share of crops that are augmented at all"})
    clipping_probability: float = field(default=0.0, metadata={"help": "of these: cut at 0.5 to 0.9 of the peaks"})
    envelope_probability: float = field(default=0.0, metadata={"help": "of these: a slow change of volume"})
    gain_probability: float = field(default=0.0, metadata={"help": "of these: -20 to 6 dB"})
    codec_probability: float = field(default=0.0, metadata={"help": "of these: telephone, mu-law, mp3 or ogg"})
    speed_perturbation: list[float] | None = field(
        default=None, metadata={"help": "other speeds, each making new speakers of all: 0.9 1.1"}
    )
    spec_mask_probability: float = field(default=0.0, metadata={"help": "share of crops masked before the head"})
    spec_mask_features: int = field(default=100, metadata={"help": "widest band of features of that mask"})
    spec_mask_frames: int = field(default=10, metadata={"help": "longest span of frames of that mask"})
    max_damaged_files: int = field(default=100, metadata={"help": "unreadable files until the run stops"})

    RANGES: ClassVar[dict[str, Range]] = {
        **dict.fromkeys(("augment_probability", "clipping_probability", "envelope_probability"), SHARE),
        **dict.fromkeys(("gain_probability", "codec_probability", "spec_mask_probability"), SHARE),
        **dict.fromkeys(("spec_mask_features", "spec_mask_frames", "max_damaged_files"), AT_LEAST_0),
        "validation_fraction": OPEN_SHARE,
        "validation_trials": AT_LEAST_1,
        "labelled_fraction": Range(0, 1, low_open=True),
        "crop_seconds": Range(0, 600, low_open=True),
    }
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {
        "layout": LAYOUTS,
        "test_scoring": SCORINGS,
        "teacher_hears": TEACHER_HEARS,
    }

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        check_choices(self, self.CHOICES)


@dataclass
class OSKDFTTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with the method's schedules; `learning_rate` is the head's.

    Rates, epochs and batch are the paper's by default. The optimiser is Adam with L2 `weight_decay`, as in both
    generations of the authors' code, and lives through the whole run.
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "head: start of its cosine"})
    min_learning_rate: float = field(default=1e-6, metadata={"help": "head: end of its cosine"})
    adapter_lr_multiplier: float = field(default=10.0, metadata={"help": "adapters: times the head's rate"})
    backbone_lr_multiplier: float = field(default=1.0, metadata={"help": "shared layers: times their schedule"})
    backbone_warmup_epochs: float = field(
        default=10.0, metadata={"help": "shared layers: epochs up to the head's rate"}
    )
    backbone_schedule: str = field(default="decay", metadata={"help": "shared layers: decay, or cosine as the head's"})
    backbone_decay: float = field(default=0.93, metadata={"help": "shared layers: factor an epoch after the warm-up"})
    schedule_unit: str = field(default="step", metadata={"help": "step, or epoch as the authors do"})
    freeze: str = field(default="none", metadata={"help": "one of: " + ", ".join(FREEZABLE)})
    start_from: str | None = field(
        default=None, metadata={"help": "run or checkpoint whose student and class vectors to begin with"}
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
    metric_for_best_model: str | None = field(default="eer", metadata={"help": "what selects"})
    greater_is_better: bool | None = field(default=False, metadata={"help": "whether larger is better"})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "batch norm needs full batches"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "fixed: crops have no columns"})
    max_nonfinite_steps: int = field(default=10, metadata={"help": "steps with a NaN or infinity until the run stops"})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "every parameter is used"})
    hub_strategy: str = field(default="end", metadata={"help": "what push_to_hub sends: end, or every_save as well"})
    hub_license: str | None = field(
        default=None, metadata={"help": "identifier of the student's licence, for its card"}
    )
    hub_teacher_license: str | None = field(default=None, metadata={"help": "the teacher's licence, for the card"})
    hub_data_license: str | None = field(default=None, metadata={"help": "the data's licence, for the card"})
    logging_steps: float = field(default=50, metadata={"help": "steps between two log lines"})
    ddp_timeout: int = field(default=600, metadata={"help": "seconds until a process that is not heard ends the run"})
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
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {
        "schedule_unit": ("step", "epoch"),
        "backbone_schedule": ("decay", "cosine"),
        "freeze": FREEZABLE,
        "teacher_dtype": ("auto", "float32", "bfloat16"),
    }

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        if self.max_steps != -1 and self.max_steps < 1:
            raise ValueError(f"max_steps is {self.max_steps}: at least 1 is needed, or -1 for num_train_epochs.")
        if self.greater_is_better is None:
            self.greater_is_better = False  # transformers takes a metric whose name does not end in loss for a gain
        if self.metric_for_best_model is None:
            self.metric_for_best_model = METRICS[0]
        if self.metric_for_best_model.removeprefix("eval_") not in METRICS:
            raise ValueError(f"metric_for_best_model is '{self.metric_for_best_model}': use {' or '.join(METRICS)}.")
        if self.greater_is_better:
            raise ValueError("greater_is_better is true: of EER and minDCF the lower one is better; leave it out.")
        _refuse_unread(self)
        if self.fp16 and not torch.accelerator.is_available():
            raise ValueError("fp16 is true and there is no GPU: leave it out, or use bf16.")
        check_choices(self, self.CHOICES)
        if self.hub_strategy not in ("end", "every_save"):
            raise ValueError(
                f"hub_strategy is '{self.hub_strategy}': use end or every_save; optimiser states are not for the Hub."
            )
        if self.eval_strategy == "no":
            self.load_best_model_at_end = False
        if not torch.accelerator.is_available():
            self.use_cpu = True  # else transformers refuses bf16, which a CPU can do as well
            self.dataloader_pin_memory = False
        if not sys.stderr.isatty():
            self.disable_tqdm = True
        super().__post_init__()

    @property
    def teacher_in_bfloat16(self) -> bool:
        """Whether the teacher's states are computed in bfloat16."""
        return self.teacher_dtype == "bfloat16" or (self.teacher_dtype == "auto" and bool(self.bf16))


# Fields of transformers that nothing here reads, and what does their work.
_UNREAD = {
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
    "auto_find_batch_size": "batch norm and schedules want the batch that the recipe says",
    "per_device_eval_batch_size": "evaluation batches by seconds of audio",
    "eval_accumulation_steps": "evaluation keeps embeddings only",
    "prediction_loss_only": "evaluation has no loss",
    "batch_eval_metrics": "evaluation is of all trials at once",
    "include_for_metrics": "EER and minDCF are what is measured",
    "fp16_full_eval": "evaluation is in float32",
    "bf16_full_eval": "evaluation is in float32",
    "label_names": "crops have one label, the speaker",
    "remove_unused_columns": "crops have no columns",
}


def _refuse_unread(arguments: "OSKDFTTrainingArguments") -> None:
    """Raise `ValueError` for a field that was set and would change nothing."""
    defaults = {one.name: _default(one) for one in fields(arguments)}
    for name, instead in _UNREAD.items():
        if name in defaults and getattr(arguments, name) != defaults[name]:
            raise ValueError(
                f"{name} is {getattr(arguments, name)}, which nothing here reads: {instead}; take it out."
            )


def _default(one: Field[Any]) -> object:
    return one.default_factory() if one.default_factory is not MISSING else one.default


_DESCRIBED = [
    *("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate"),
    *("adapter_lr_multiplier", "backbone_lr_multiplier", "backbone_schedule", "weight_decay", "freeze"),
    *("ema_decay", "bf16"),
]


@dataclass
class Recipe:
    """A recipe, read."""

    student: Any
    objectives: ObjectiveArguments
    data: DataArguments
    training: OSKDFTTrainingArguments

    def student_config_fields(self) -> dict[str, Any]:
        """The fields that `OSKDFTConfig.from_teacher` takes."""
        own = {one.name for one in fields(TeacherArguments)}
        return {one.name: getattr(self.student, one.name) for one in fields(self.student) if one.name not in own}

    def describe(self) -> dict[str, Any]:
        """What decided the run, for a results file or a card: the start, both losses, data, schedules, and no path."""
        paths = {"train_data", "test_data", "test_trials", "data_root", "test_root", "noise_root", "rir_root"}
        said = asdict(self.objectives) | {
            name: value for name, value in asdict(self.data).items() if name not in paths
        }
        said |= {"noise": bool(self.data.noise_root), "rooms": bool(self.data.rir_root)}
        said["student_start"] = self.student.student_start
        return said | {name: getattr(self.training, name) for name in _DESCRIBED}


_GROUPS = (StudentArguments, ObjectiveArguments, DataArguments, OSKDFTTrainingArguments)


class RecipeParser(HfArgumentParser):
    """A parser whose errors are sentences, without the usage of two hundred options before them."""

    def error(self, message: str) -> NoReturn:
        """Raise `ValueError`."""
        raise ValueError(f"The recipe or command line is wrong in {message.removeprefix('argument ')}: see --help.")


def recipe_parser() -> HfArgumentParser:
    """The parser of every name that a recipe or the command line can give; abbreviations are errors."""
    return RecipeParser(_GROUPS, allow_abbrev=False, prog="train_oskdft.py RECIPE.yaml")


def read_recipe(arguments: Sequence[str]) -> Recipe:
    """RECIPE.yaml and `--field value` pairs to the four groups.

    Raises `FileNotFoundError` for a recipe that is not there and `ValueError` for a name that does not exist, naming
    the nearest one, a value of the wrong type, or a file that is not flat YAML.
    """
    recipe = [word for word in arguments[:1] if not word.startswith("--")]
    overrides = list(arguments[len(recipe) :])
    known = {one.name for group in _GROUPS for one in fields(group)}
    words: list[str] = []
    for path in recipe:
        for name, value in _read_yaml(Path(path)).items():
            if name not in known:
                raise ValueError(f"'{path}' has no field '{name}' to set: {nearest_name(name, known)}")
            words += _as_words(name, value)
    for word in overrides:
        name = word.removeprefix("--").split("=")[0].replace("-", "_")
        if word.startswith("--") and name not in (*known, "help", *(f"no_{one}" for one in known)):
            raise ValueError(f"There is no option '--{name}': {nearest_name(name, known)}")
    student, objectives, data, training = recipe_parser().parse_args_into_dataclasses(words + overrides)
    return Recipe(student, objectives, data, training)


def _read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe at '{path}': give a YAML file, such as examples/recipes/*.yaml.")
    if path.resolve() in seen:
        raise ValueError(f"'{path}' is its own base: take the base line out.")
    try:
        # Every scalar stays the text that it is: types are the parser's business, and `no` is a word.
        values = yaml.load(read_text(path), Loader=yaml.BaseLoader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"'{path}' is not YAML ({str(error).splitlines()[0]}): write 'field: value' lines.") from None
    if not isinstance(values, dict):
        raise ValueError(f"'{path}' holds a {type(values).__name__}: a recipe is 'field: value' lines.")
    base = values.pop("base", None)
    inherited = _read_yaml(path.parent / base, (*seen, path.resolve())) if base else {}
    return inherited | values


def _as_words(name: str, value: str | list[str] | dict[str, object]) -> list[str]:
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict | list) for one in value)):
        raise ValueError(f"{name} is a mapping or a nested list: recipes are flat, one value or list a field.")
    if value in ("", "null", "~"):  # an empty value takes back what a base has set
        return []
    return [f"--{name}", *(value if isinstance(value, list) else [value])]
