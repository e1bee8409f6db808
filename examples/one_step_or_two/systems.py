"""What a study consists of: its systems, their runs, and what decides a run."""

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
# What the study itself decides, for each run anew.
RESERVED = {"output_dir", "seed", "train_data", "start_from", "num_train_epochs", "resume_from_checkpoint"}
RESERVED |= {"test_data", "test_trials", "test_split", "test_root", "push_to_hub", "report_to", "base"}
Fields = dict[str, Any]  # of a recipe: text, or a list of texts


@dataclass
class Study:
    """Where everything lies, and what all systems get.

    folder: of the systems; data: as `train_data` of a recipe; test_data, test_split, trials: what the table is made
    of; epochs: those of a system that does not say another number, others change in proportion; common: fields for all
    systems, between base.yaml and a system's own recipe.
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
        """The folders with a recipe, in order."""
        return sorted(recipe.parent.name for recipe in self.folder.glob(f"*/{RECIPE}"))

    def with_a_row(self, wanted: list[str] | None) -> list[str]:
        """The wanted systems, all where None, that verify; a first step has learnt no speakers.

        Raises `ValueError` for a name that is no system, or a first step.
        """
        known = [one for one in self.systems() if self.own(one).get("speaker_objective") != "none"]
        for name in wanted or []:
            if name not in known:
                raise ValueError(f"There is no system '{name}' with a row: {nearest_name(name, known)}")
        return wanted or known

    def own(self, system: str) -> Fields:
        """What a system's own recipe says."""
        fields = read_yaml(self.folder / system / RECIPE)
        return {name: value for name, value in fields.items() if name != "base"}

    def label(self, system: str) -> str:
        """The first line of its recipe."""
        return (self.folder / system / RECIPE).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")

    def chain(self, system: str) -> Iterator[str]:
        """The system itself and, before it, those that it starts from."""
        earlier = self.own(system).get("start_from")
        if earlier:
            yield from self.chain(earlier)
        yield system

    def epochs_of(self, system: str) -> float:
        """In proportion to base.yaml's."""
        base = float(read_yaml(self.folder / BASE)["num_train_epochs"])
        return self.epochs * float(self.own(system).get("num_train_epochs", base)) / base

    def words(self, system: str) -> list[str]:
        """The common fields that a system's recipe leaves open, as options of the training script."""
        own = self.own(system)
        words: list[str] = []
        for name, value in self.common.items():
            if name not in own:
                words += [f"--{name}", *(value if isinstance(value, list) else [value])]
        return words

    def digest(self, system: str) -> str:
        """Of everything that decides a result but the seed, by names and not by places of this machine."""
        base = read_yaml(self.folder / BASE)
        parts = [
            _without_places(base | self.common | self.own(part)) | {"num_train_epochs": self.epochs_of(part)}
            for part in self.chain(system)
        ]
        trials = hashlib.sha256(self.trials.read_bytes()).hexdigest()
        said = [parts, Path(self.data).name, Path(self.test_data).name, self.test_split, trials]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def run_of(self, system: str, seed: int) -> Path:
        """The folder of a run."""
        return self.runs / f"seed-{seed}" / system

    def result_of(self, system: str, seed: int) -> Path:
        """The stored result of a run."""
        return self.results / f"{system}-{seed}.json"


def read_yaml(path: Path) -> Fields:
    """Fields of a recipe as text, as the training script reads them."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) or {}


def as_fields(words: list[str]) -> Fields:
    """Options of a command line as fields. Raises `ValueError` for a word that belongs to no option."""
    fields: Fields = {}
    for word in words:
        if word.startswith("--"):
            name, _, value = word.removeprefix("--").partition("=")
            fields[name] = [value] if value else []
        elif not fields:
            raise ValueError(f"'{word}' belongs to no option: give fields of a recipe as --field value.")
        else:
            fields[next(reversed(fields))].append(word)
    return fields


def _without_places(fields: Fields) -> Fields:
    """Paths as names, and a list of one value as that value: a recipe and a command line say the same differently."""
    named = {
        name: [_name_of(one) for one in (value if isinstance(value, list) else [value])]
        for name, value in fields.items()
    }
    return {name: values[0] if len(values) == 1 else values for name, values in named.items()}


def _name_of(value: str) -> str:
    return Path(value).name if value and Path(value).exists() else value
