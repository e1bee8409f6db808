"""Describe a study: its systems, their runs, and the settings that decide a run."""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from modeling_oskdft.model.configuration_oskdft import nearest_name

BASE, RECIPE = "base.yaml", "recipe.yaml"
# Fields that the study itself sets for each run.
RESERVED = {"output_dir", "seed", "train_data", "start_from", "num_train_epochs", "resume_from_checkpoint"}
RESERVED |= {"test_data", "test_trials", "test_split", "test_root", "push_to_hub", "report_to", "base"}
Fields = dict[str, Any]  # name of a recipe's field to a text, or to a list of texts


@dataclass
class Study:
    """Hold the places and the common settings of a study.

    Args:
        folder: has a folder for each system.
        results: where stored results are written.
        runs: where the training runs are written.
        data: training data, as `train_data` of a recipe.
        test_data: data of the trials.
        test_split: the rows of `test_data` with this split; None: all.
        trials: trial list of the table.
        epochs: of a system whose recipe has no number of epochs; the others change in proportion.
        common: fields for all systems; they replace base.yaml's, and a system's own recipe replaces them.
        locks: of each run, so that two systems do not train the same first step.
    """

    folder: Path
    results: Path
    runs: Path
    data: str
    test_data: str
    test_split: str | None
    trials: Path
    epochs: float
    common: Fields
    locks: dict[tuple[str, int], threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def __post_init__(self) -> None:
        reserved = sorted(RESERVED & set(self.common))
        if reserved:
            raise ValueError(f"The option {reserved[0]} was given for all systems: the study decides it; see --help.")

    def systems(self) -> list[str]:
        """List the folders with a recipe, in order."""
        return sorted(recipe.parent.name for recipe in self.folder.glob(f"*/{RECIPE}"))

    def with_a_row(self, wanted: list[str] | None) -> list[str]:
        """List the systems that have a row in the table: a first step has not learnt to verify, and has none.

        Args:
            wanted: names of systems; None: all.

        Raises:
            ValueError: a name is no system, or a first step.
        """
        known = [name for name in self.systems() if self.recipe_of(name).get("speaker_objective") != "none"]
        for name in wanted or []:
            if name not in known:
                raise ValueError(f"There is no system '{name}' with a row: {nearest_name(name, known)}")
        return wanted or known

    def recipe_of(self, system: str) -> Fields:
        """Read the fields of a system's own recipe, without its base."""
        fields = read_yaml(self.folder / system / RECIPE)
        return {name: value for name, value in fields.items() if name != "base"}

    def label(self, system: str) -> str:
        """Return the first line of a system's recipe, which is its name in the table."""
        return (self.folder / system / RECIPE).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")

    def chain(self, system: str) -> Iterator[str]:
        """Yield the systems that a system starts from, in their order, and then the system itself."""
        earlier = self.recipe_of(system).get("start_from")
        if earlier:
            yield from self.chain(earlier)
        yield system

    def teachers_of(self, system: str, seed: int) -> list[tuple[str, int]]:
        """List the runs whose embeddings a system learns, as (system, seed).

        A recipe names them as `embedding_teachers`: the name of a system for its run of the same seed, and with +1 for
        that of the next seed.
        """
        names = self.recipe_of(system).get("embedding_teachers", [])
        parts = (name.partition("+") for name in names)
        return [(name, seed + int(further or 0)) for name, _, further in parts]

    def epochs_of(self, system: str) -> float:
        """Compute the epochs of a system, in proportion to base.yaml's."""
        base = float(read_yaml(self.folder / BASE)["num_train_epochs"])
        return self.epochs * float(self.recipe_of(system).get("num_train_epochs", base)) / base

    def options_of(self, system: str) -> list[str]:
        """Write the common fields that a system's recipe does not set, as options of the training script."""
        recipe = self.recipe_of(system)
        options: list[str] = []
        for name, value in self.common.items():
            if name not in recipe:
                options += [f"--{name}", *(value if isinstance(value, list) else [value])]
        return options

    def digest(self, system: str) -> str:
        """Compute a digest of everything that decides a result, without the seed and the paths of this machine."""
        base = read_yaml(self.folder / BASE)
        steps = [
            _without_places(base | self.common | self.recipe_of(step)) | {"num_train_epochs": self.epochs_of(step)}
            for step in self.chain(system)
        ]
        taught = {name for step in self.chain(system) for name, _ in self.teachers_of(step, 0)}
        steps += [{"embedding_teacher": self.digest(name)} for name in sorted(taught)]
        trials = hashlib.sha256(self.trials.read_bytes()).hexdigest()
        settings = [steps, Path(self.data).name, Path(self.test_data).name, self.test_split, trials]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def run_of(self, system: str, seed: int) -> Path:
        """Return the folder of a run."""
        return self.runs / f"seed-{seed}" / system

    def result_of(self, system: str, seed: int) -> Path:
        """Return the file of a run's stored result."""
        return self.results / f"{system}-{seed}.json"


def read_yaml(path: Path) -> Fields:
    """Read the fields of a recipe as texts, as the training script does."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) or {}


def as_fields(arguments: list[str]) -> Fields:
    """Read options of a command line as fields of a recipe.

    Raises:
        ValueError: an argument belongs to no option.
    """
    fields: Fields = {}
    for argument in arguments:
        if argument.startswith("--"):
            name, _, value = argument.removeprefix("--").partition("=")
            fields[name] = [value] if value else []
        elif not fields:
            raise ValueError(f"'{argument}' belongs to no option: give fields of a recipe as --field value.")
        else:
            fields[next(reversed(fields))].append(argument)
    return fields


def _without_places(fields: Fields) -> Fields:
    """Replace paths by names, and a list of one value by the value.

    A recipe and a command line write the same setting differently, and its digest must be equal.
    """
    named = {
        name: [_name_of(item) for item in (value if isinstance(value, list) else [value])]
        for name, value in fields.items()
    }
    return {name: values[0] if len(values) == 1 else values for name, values in named.items()}


def _name_of(value: str) -> str:
    return Path(value).name if value and Path(value).exists() else value
