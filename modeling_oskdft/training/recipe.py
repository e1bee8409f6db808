"""Read a recipe: flat YAML, and overrides of the command line.

`base: ../base.yaml` is read first, then the file, then `--field value` of the command line. Every value passes the
parser of its type, so `1e-3` is a number wherever it stands.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from transformers import HfArgumentParser

from ..data.manifest import COLUMNS
from ..files import read_text
from ..model.configuration_oskdft import nearest_name
from .arguments import DataArguments, StudentArguments, TeacherArguments
from .objectives.building import ObjectiveArguments
from .training_arguments import CLASS_METRICS, METRICS, TEXT_METRICS, OSKDFTTrainingArguments

GROUPS = (StudentArguments, ObjectiveArguments, DataArguments, OSKDFTTrainingArguments)
PATHS = {"train_data", "test_data", "test_trials", "data_root", "test_root", "noise_root", "rir_root"}
DESCRIBED = [
    *("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate"),
    *("adapter_lr_multiplier", "backbone_lr_multiplier", "backbone_schedule", "weight_decay", "freeze"),
    *("ema_decay", "bf16"),
]


class OtherTask(NamedTuple):
    """What a column makes of a recipe.

    Args:
        what: name of such models.
        column: what the column holds.
        objective: the loss of the ft path.
        metrics: those that may select the best checkpoint, the first by default.
        greater_is_better: whether a larger metric is better.
    """

    what: str
    column: str
    objective: str
    metrics: tuple[str, ...]
    greater_is_better: bool


OTHER_TASKS = {
    "label_column": OtherTask("classifiers", "classes", "class_softmax", CLASS_METRICS, True),
    "text_column": OtherTask("recognisers", "texts", "ctc", TEXT_METRICS, False),
}


@dataclass
class Recipe:
    """The four groups of fields of a run.

    Args:
        student: fields of the student and of its teacher.
        objectives: fields of both losses.
        data: fields of training, selection and test data.
        training: fields of the training itself.
    """

    student: Any
    objectives: ObjectiveArguments
    data: DataArguments
    training: OSKDFTTrainingArguments

    def student_config_fields(self) -> dict[str, Any]:
        """Return the fields that `OSKDFTConfig.from_teacher` takes."""
        of_teacher = {each.name for each in fields(TeacherArguments)}
        names = [each.name for each in fields(self.student) if each.name not in of_teacher]
        return {name: getattr(self.student, name) for name in names}

    @property
    def learns_speakers(self) -> bool:
        """Whether the run trains a head; the head of distillation alone has no error rate."""
        return self.objectives.speaker_objective != "none" or self.objectives.distil_embeddings

    @property
    def distils(self) -> bool:
        """Whether the run has a distillation of either kind."""
        return self.objectives.distil_states or self.objectives.distil_embeddings

    @property
    def verifies(self) -> bool:
        """Whether the run trains a verifier, and no model of another task."""
        return not (self.data.label_column or self.data.text_column)

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide the run, for a results file or a card, without any path."""
        data = {name: value for name, value in asdict(self.data).items() if name not in PATHS}
        data |= {"noise": bool(self.data.noise_root), "rooms": bool(self.data.rir_root)}
        start = {"student_start": self.student.student_start}
        return asdict(self.objectives) | data | start | {name: getattr(self.training, name) for name in DESCRIBED}


class RecipeParser(HfArgumentParser):
    """A parser whose errors are sentences, without the usage of two hundred options before them."""

    def error(self, message: str) -> NoReturn:
        """Raise `ValueError` instead of ending the process."""
        raise ValueError(f"The recipe or command line is wrong in {message.removeprefix('argument ')}: see --help.")


def recipe_parser() -> HfArgumentParser:
    """Build the parser of every field; abbreviations are errors."""
    return RecipeParser(GROUPS, allow_abbrev=False, prog="train_oskdft.py RECIPE.yaml")


def read_recipe(arguments: Sequence[str]) -> Recipe:
    """Read a recipe and its overrides.

    Args:
        arguments: optionally the path of a recipe, then `--field value` or `--field=value`.

    Raises:
        FileNotFoundError: when the recipe is not there.
        ValueError: for a name that does not exist (with the nearest one), a value of the wrong type, and a file that
            is not flat YAML.
    """
    paths = [argument for argument in arguments[:1] if not argument.startswith("--")]
    overrides = list(arguments[len(paths) :])
    known = {each.name for group in GROUPS for each in fields(group)}
    command_line: list[str] = []
    for path in paths:
        for name, value in read_values(Path(path)).items():
            if name not in known:
                raise ValueError(f"'{path}' has no field '{name}' to set: {nearest_name(name, known)}")
            command_line += _as_arguments(name, value)
    for override in overrides:
        name = override.removeprefix("--").split("=")[0].replace("-", "_")
        if override.startswith("--") and name not in (*known, "help", *(f"no_{each}" for each in known)):
            raise ValueError(f"There is no option '--{name}': {nearest_name(name, known)}")
    recipe = Recipe(*recipe_parser().parse_args_into_dataclasses(command_line + overrides))
    return as_verifier(recipe) if recipe.verifies else as_other_task(recipe)


def as_verifier(recipe: Recipe) -> Recipe:
    """Refuse the losses and the metrics of other tasks without their column.

    Raises:
        ValueError: naming the field.
    """
    metric = str(recipe.training.metric_for_best_model).removeprefix("eval_")
    for name, value in (("speaker_objective", recipe.objectives.speaker_objective), ("metric_for_best_model", metric)):
        for column, task in OTHER_TASKS.items():
            if value in (task.objective, *task.metrics):
                raise ValueError(f"{name} is {value} without {column}: it is for {task.what}; name their column.")
    return recipe


def as_other_task(recipe: Recipe) -> Recipe:
    """Give the recipe of a classifier or of a recogniser its loss and its selecting metric.

    Raises:
        ValueError: for a field that belongs to a verifier, or to the other task.
    """
    data, training = recipe.data, recipe.training
    if data.label_column and data.text_column:
        raise ValueError("label_column and text_column are set: a run learns one task; leave one of them out.")
    column = "label_column" if data.label_column else "text_column"
    task, name_of_column = OTHER_TASKS[column], data.label_column or data.text_column
    for name, empty in (("labelled_fraction", 1.0), ("speed_perturbation", None), ("cohort_utterances", 0)):
        if getattr(data, name) != empty:
            raise ValueError(f"{name} is {getattr(data, name)} with {column}: it is for verifiers; leave it out.")
    given = {"test_trials": data.test_trials, "push_to_hub": training.push_to_hub, "start_from": training.start_from}
    for name in filter(given.get, given):
        raise ValueError(f"{name} is set with {column}: it is for verifiers; leave it out.")
    if name_of_column in COLUMNS:
        raise ValueError(
            f"{column} is {name_of_column}, which every recording has: leave it out for a verifier, or name a column "
            f"of {task.column}."
        )
    objective = recipe.objectives.speaker_objective
    if objective == "none":
        raise ValueError(f"speaker_objective is none with {column}: no loss would read the labels; leave it out.")
    if objective not in (ObjectiveArguments.speaker_objective, task.objective):
        raise ValueError(
            f"speaker_objective is {objective} with {column}, whose loss is {task.objective}: leave it out."
        )
    metric = str(training.metric_for_best_model).removeprefix("eval_")
    if metric != METRICS[0] and metric not in task.metrics:  # the first one is the default of every recipe
        raise ValueError(f"metric_for_best_model is {metric} with {column}: use {', '.join(task.metrics)}.")
    if metric not in task.metrics:
        training.metric_for_best_model, training.greater_is_better = task.metrics[0], task.greater_is_better
    return replace(recipe, objectives=replace(recipe.objectives, speaker_objective=task.objective))


def read_values(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read the values of a recipe file and of its bases, each as text.

    Args:
        path: the file.
        seen: files that name it as their base.

    Raises:
        FileNotFoundError, ValueError: as `read_recipe` does.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe at '{path}': give a YAML file, such as examples/recipes/*.yaml.")
    if path.resolve() in seen:
        raise ValueError(f"'{path}' is its own base: take the base line out.")
    try:
        # BaseLoader keeps every scalar as text: the parser decides the types, and `no` stays a word.
        values = yaml.load(read_text(path), Loader=yaml.BaseLoader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"'{path}' is not YAML ({str(error).splitlines()[0]}): write 'field: value' lines.") from None
    if not isinstance(values, dict):
        raise ValueError(f"'{path}' holds a {type(values).__name__}: a recipe is 'field: value' lines.")
    base = values.pop("base", None)
    inherited = read_values(path.parent / base, (*seen, path.resolve())) if base else {}
    return inherited | values


def _as_arguments(name: str, value: str | list[str] | dict[str, object]) -> list[str]:
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict | list) for item in value)):
        raise ValueError(f"{name} is a mapping or a nested list: recipes are flat, one value or list a field.")
    if value in ("", "null", "~"):  # an empty value takes back what a base has set
        return []
    return [f"--{name}", *(value if isinstance(value, list) else [value])]
