"""Describe which fields of a recipe are searched, and in which ranges."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_text
from ..model.configuration_oskdft import nearest_name
from ..training.recipe import GROUPS, Recipe

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = str | list[str] | None  # as a recipe writes it; None takes back what its base has set
# Fields that a trial gets from the search itself, or that must be the same in all trials.
FIXED = (
    *("output_dir", "seed", "data_seed", "train_data", "train_split", "data_root", "validation_fraction"),
    *("validation_trials", "test_data", "test_split", "test_root", "test_trials", "resume_from_checkpoint"),
    *("eval_strategy", "eval_steps", "save_strategy", "save_steps", "load_best_model_at_end", "metric_for_best_model"),
    *("greater_is_better", "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "report_to"),
)
# Fields that decide the size of the student: trials are stopped early by comparison with those of one shape.
SHAPE = (
    *("layers", "evenly_spaced_layers", "front_end_width", "front_end_stride", "hidden_size"),
    *("intermediate_size", "num_attention_heads", "time_reduction", "student_from", "head_type"),
)


@dataclass(frozen=True)
class Interval:
    """A range of numbers.

    Args:
        low: smallest value.
        high: largest value.
        log: whether equal ratios are equally likely, instead of equal differences.
        whole: whether the values are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: "Trial", name: str) -> Value:
        """Let a trial choose a value."""
        if self.whole:
            return str(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return f"{trial.suggest_float(name, self.low, self.high, log=self.log):.4g}"

    def examples(self) -> list[Value]:
        """Return both ends."""
        return [f"{end:.10g}" for end in (self.low, self.high)]

    def describe(self) -> dict[str, Any]:
        """Return the range as JSON."""
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Choices:
    """A list of values, each as a recipe writes it.

    Args:
        values: texts, lists of texts, or None.
    """

    values: tuple[Any, ...]

    def suggest(self, trial: "Trial", name: str) -> Value:
        """Let a trial choose a value."""
        chosen: Value = json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in self.values]))
        return chosen

    def examples(self) -> list[Value]:
        """Return every value."""
        return list(self.values)

    def describe(self) -> list[Any]:
        """Return the values as JSON."""
        return list(self.values)


Space = dict[str, Interval | Choices]


def default_space(recipe: Recipe, depth: int) -> Space:
    """Make a small space around a recipe, of values that go together.

    Rates from a third to three times the recipe's; where it distils, the weight from a tenth to ten times, the
    schedule, and of hidden states alone the objective; the width of the adapters, where it has some; one layer more or
    fewer.

    Args:
        recipe: the recipe.
        depth: layers of the encoder that the student is cut from.
    """
    training, objectives, student = recipe.training, recipe.objectives, recipe.student
    space: Space = {"learning_rate": _around(training.learning_rate, 3)}
    if training.freeze not in ("trunk", "encoder"):
        space["backbone_lr_multiplier"] = _around(training.backbone_lr_multiplier, 3)
    if objectives.kd_weight:
        space |= {"kd_weight": _around(objectives.kd_weight, 10), "kd_schedule": Choices(("constant", "linear"))}
    if objectives.distil_states and not student.embedding_teachers:
        kd = (objectives.kd_objective, "layerwise_heads", "layerwise_projection")
        space["kd_objective"] = Choices(tuple(dict.fromkeys(kd)))
    if student.adapter_size:
        space["adapter_size"] = Choices(("0", "16", "64", "128"))
    layers = student.layers or [0, 1]
    if student.evenly_spaced_layers is None and student.adapter_layers is None and layers == list(range(len(layers))):
        numbers = [number for number in (len(layers) - 1, len(layers), len(layers) + 1) if 0 < number <= depth]
        space["layers"] = Choices(tuple([str(layer) for layer in range(number)] for number in numbers))
    return space


def _around(value: float, factor: float) -> Interval:
    value = value or 1.0
    return Interval(value / factor, value * factor, log=True)


def read_space(path: str | Path) -> Space:
    """Read a space from YAML: `field: [value, ...]`, or `field: {low: 1e-4, high: 1e-2, log: true}`.

    Raises:
        FileNotFoundError: when the file is not there.
        ValueError: for a name that is no field, with the nearest one, a field that the search sets itself, and a range
            that is none.
    """
    import yaml

    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no search space at '{path}': give a YAML file of fields and their ranges.")
    try:
        values = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"'{path}' is not YAML ({str(error).splitlines()[0]}): write 'field: range' lines.") from None
    if not isinstance(values, dict) or not values:
        raise ValueError(f"'{path}' names no fields: write 'field: [value, ...]' or 'field: {{low: …, high: …}}'.")
    known = {each.name: each for group in GROUPS for each in fields(group)}
    for name in values:
        if name not in known:
            raise ValueError(f"'{path}' searches '{name}', which is no field: {nearest_name(name, known)}")
        if name in FIXED:
            raise ValueError(f"'{path}' searches '{name}', which is the same in every trial: take it out.")
    return {name: _read_range(name, value, _is_whole(known[name].type)) for name, value in values.items()}


def _is_whole(annotation: object) -> bool:
    text = getattr(annotation, "__name__", str(annotation))
    return "int" in text and "float" not in text


def _is_value(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _read_range(name: str, value: object, whole: bool) -> Interval | Choices:
    if isinstance(value, list) and value and all(map(_is_value, value)):
        return Choices(tuple(None if each in ("", "null", "~") else each for each in value))
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        raise ValueError(f"The range of {name} is {value!r}: give [value, ...] or {{low: …, high: …, log: true}}.")
    try:
        low, high = float(value["low"]), float(value["high"])
    except (TypeError, ValueError):
        raise ValueError(f"The range of {name} is {dict(value)}: low and high are numbers.") from None
    log = {"true": True, "false": False}.get(str(value.get("log", "false")).lower())
    if log is None or not low < high or (log and low <= 0):
        raise ValueError(f"The range of {name} is {dict(value)}: low is below high, and above 0 with log: true.")
    return Interval(low, high, log, whole)
