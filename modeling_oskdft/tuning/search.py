"""Search a space by Optuna: a journal on disk, one process a trial, two objectives, and finals over seeds."""

import hashlib
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from ..data.sources import load_manifest
from ..errors import first_line
from ..files import read_json, write_json
from ..training.locking import locked_folder
from ..training.recipe import read_recipe, read_values
from ..training.summary import say
from .space import SHAPE, Space, Value
from .trial import Curve, Outcome, finished, run_trial, write_recipe

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

JOURNAL_NAME, DATA_NAME, OUTCOME_NAME = "journal.log", "data.parquet", "outcome.json"
CLAIM = "claim"  # folder inside a trial's, locked by the search that works on it
OPENING = 600.0  # seconds that other searches may take to open the folder, and to read the data
ENOUGH = 4  # finished trials of a shape until others are stopped by comparison with them
FIRST_SHARE = 0.25  # of a run, in which no trial is stopped
NOT_EVALUATED = "it was never evaluated; lower eval_steps"
MOST_FAILURES = 3  # in a row, until the search ends
HAND_CHOSEN = "the recipe as it is"
Values = dict[str, Value | None]


class Measured(NamedTuple):
    """Both objectives of a trial; smaller is better.

    Args:
        eer: on the speakers set aside, a fraction.
        encoder_share: time of the student's encoder as a share of that of the encoder that it was cut from, timed in
            turn in one run.
    """

    eer: float
    encoder_share: float

    def beats(self, other: "Measured") -> bool:
        """Whether no objective is worse than the other's, and one is better."""
        return self != other and self.eer <= other.eer and self.encoder_share <= other.encoder_share


class Search:
    """A search in a folder. Several processes and machines may work on one folder at a time.

    The first trial is the recipe as it is. The test trials of the recipe are never read.

    Args:
        recipe: file of the recipe.
        space: fields and their ranges.
        folder: place of the journal, the trials and the results.
        runner: what runs a trial, see `run_trial`.

    Raises:
        ImportError: without Optuna.
        ValueError: for a recipe without a validation curve, a range that it does not take, and a folder with the
            search of another recipe or space.
    """

    def __init__(
        self, recipe: str | Path, space: Space, folder: str | Path, runner: Callable[..., Outcome] = run_trial
    ) -> None:
        self.optuna = import_optuna()
        self.file, self.space, self.folder, self.runner = Path(recipe), space, Path(folder), runner
        self.recipe = read_recipe([str(recipe)])
        if not self.recipe.verifies:
            raise ValueError(
                "The recipe has label_column or text_column: the search compares verifiers; leave it out."
            )
        if self.recipe.training.eval_strategy == "no" or not self.recipe.learns_speakers:
            raise ValueError("The recipe has no validation curve (eval_strategy no, or no head): nothing to compare.")
        check_values(self.file, space)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "opening.lock", timeout=OPENING):
            self.study = self._open_study()
            self.data = self._prepare_data()

    def _open_study(self) -> "Study":
        storages = self.optuna.storages
        backend = storages.journal.JournalFileBackend(str(self.folder / JOURNAL_NAME))
        study: Study = self.optuna.create_study(
            study_name="oskdft",
            storage=storages.JournalStorage(backend),
            directions=["minimize", "minimize"],
            load_if_exists=True,
        )
        wanted = digest(self.file, self.space)
        stored = study.user_attrs.get("digest")
        if stored is None:
            study.set_user_attr("digest", wanted)
            study.enqueue_trial({}, user_attrs={"values": {}})
        elif stored != wanted:
            raise ValueError(
                f"'{self.folder}' holds the search of another recipe or space: give another --out, or go on with the "
                "files that it was begun with."
            )
        return study

    def _prepare_data(self) -> Values:
        """Read the data once for all trials; returns the fields with which each of them reads them."""
        data, training = self.recipe.data, self.recipe.training
        seed = training.seed if training.data_seed is None else training.data_seed
        fields: Values = {"data_seed": str(seed), "test_trials": None, "push_to_hub": "false", "report_to": "none"}
        path = self.folder / DATA_NAME
        if not path.is_file():
            source = (data.train_data, data.train_split, data.data_root, data.max_damaged_files, data.layout)
            manifest = load_manifest(*source)
            if manifest.recordings is not None:
                return fields  # a dataset, which every process opens as it is
            manifest.save(path)
        return fields | {"train_data": str(path), "train_split": None, "data_root": None}

    def run(self, trials: int, deadline: float | None = None) -> None:
        """Run trials until the study has a number of them, or the time is over.

        Args:
            trials: number of finished and stopped trials, those of earlier calls and of other machines included.
            deadline: time on `time.monotonic`; a trial that is under way then is interrupted, and the next call goes
                on with it.

        Raises:
            ValueError: when trials fail one after the other.
        """
        failures = 0
        while len(self.trials("COMPLETE", "PRUNED")) < trials and (deadline is None or time.monotonic() < deadline):
            with self._claimed() as (number, values):
                say([f"trial {number}: {words_of(values)}"])
                outcome = self.runner(self._write(f"trial-{number:04d}", values), self._rule(values), deadline)
                self._tell(number, outcome)
            failures = failures + 1 if number in {trial.number for trial in self.trials("FAIL")} else 0
            if failures == MOST_FAILURES:
                raise ValueError(f"{failures} trials failed one after the other, the last with: {outcome.reason}")

    def _write(self, name: str, values: Values) -> Path:
        (self.folder / name).mkdir(exist_ok=True)
        return write_recipe(self.folder / name, self.file, {**self.data, **values})

    def _ask(self) -> tuple[int, Values]:
        """Let Optuna choose the fields of a new trial."""
        # A seed by the number of trials: the same search twice chooses the same, and goes on as if never interrupted.
        known = len(self.study.get_trials(deepcopy=False))
        seed = self.recipe.training.seed + known
        with warnings.catch_warnings(action="ignore"):  # Optuna calls `group` experimental
            # In groups, because the first trial has no values: fields together need trials that have all of them.
            self.study.sampler = self.optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
        trial = self.study.ask()
        if "values" not in trial.user_attrs:
            values: Values = {name: ranged.suggest(trial, name) for name, ranged in self.space.items()}
            if values.get("kd_objective") not in (None, self.recipe.objectives.kd_objective):
                values["kd_target_layers"] = None  # those of the recipe belong to its own objective
            trial.set_user_attr("values", values)
        return trial.number, trial.user_attrs["values"]

    @contextmanager
    def _claimed(self) -> Iterator[tuple[int, Values]]:
        """Claim a trial that was interrupted, or else a new one, for this search alone."""
        begun = [(trial.number, trial.user_attrs.get("values")) for trial in self.trials("RUNNING")]
        new = iter(self._ask, None)  # without end: another search may claim a trial that this one has asked for
        for number, values in chain(begun, new):
            with ExitStack() as stack:
                folder = self.folder / f"trial-{number:04d}"
                try:
                    stack.enter_context(locked_folder(folder / CLAIM))
                    with locked_folder(folder):  # by a training whose search was killed
                        pass
                except ValueError:  # another process works on it
                    continue
                # Nor has another search just ended it, or not chosen its fields yet.
                if values is not None and number in {trial.number for trial in self.trials("RUNNING")}:
                    yield number, values
                    return

    def _rule(self, values: Values) -> Callable[[Curve], bool]:
        """Make the rule that stops a trial by its curve, among those of its shape."""
        shape = shape_of(values)

        def goes_on(curve: Curve) -> bool:
            same = [trial for trial in self.trials("COMPLETE") if shape_of(trial.user_attrs["values"]) == shape]
            return keeps_up(curve, [self.outcome(trial)["curve"] for trial in same])

        return goes_on

    def outcome(self, trial: "FrozenTrial") -> dict[str, Any]:
        """Read what `_tell` stored of a trial that has ended."""
        return read_json(self.folder / f"trial-{trial.number:04d}" / OUTCOME_NAME)

    def _tell(self, number: int, outcome: Outcome) -> None:
        if outcome.state == "interrupted":
            say([f"trial {number} was interrupted; the next call goes on with it"])
            return
        stored = {"curve": outcome.curve, "reason": outcome.reason}
        write_json(stored, self.folder / f"trial-{number:04d}" / OUTCOME_NAME)
        states = self.optuna.trial.TrialState
        measured = None if outcome.results is None else measured_of(outcome.results)
        if measured is not None:
            self.study.tell(number, measured)
            cost = f"encoder {measured.encoder_share:.3f} of the whole one's time"
            say([f"trial {number}: EER {measured.eer:.2%}, {cost}"])
        elif outcome.state == "stopped":
            self.study.tell(number, state=states.PRUNED)
            say([f"trial {number} was stopped: half of the trials of its shape were better at that time"])
        else:
            self.study.tell(number, state=states.FAIL)
            say([f"trial {number} failed: {outcome.reason or NOT_EVALUATED}"])

    def trials(self, *names: str) -> list["FrozenTrial"]:
        """List the trials in some of Optuna's states."""
        states = tuple(self.optuna.trial.TrialState[name] for name in names)
        return list(self.study.get_trials(deepcopy=False, states=states))

    def finals(self, seeds: Sequence[int], most: int = 3, deadline: float | None = None) -> list[dict[str, Any]]:
        """Run the recipe as it is and the best trials with other seeds; finished runs are not repeated.

        Args:
            seeds: seeds of the finals. The speakers set aside stay the same.
            most: number of trials.
            deadline: as in `run`.

        Returns:
            A row for each: `name`, `values`, `eers` by seed, `encoder_share`; those with more seeds first, then by
            their mean EER. An empty list while another process runs them.
        """
        best = sorted((t for t in self.trials("COMPLETE") if t.user_attrs["values"]), key=lambda t: t.values)[:most]
        chosen = {HAND_CHOSEN: {}} | {f"trial {trial.number}": trial.user_attrs["values"] for trial in best}
        with ExitStack() as stack:
            try:
                stack.enter_context(locked_folder(self.folder / "finals"))
            except ValueError:
                say(["another process runs the finals"])
                return []
            rows = [self._final(name, values, seeds, deadline) for name, values in chosen.items()]
        return sorted(rows, key=lambda row: (-len(row["eers"]), statistics.mean([*row["eers"].values()] or [1.0])))

    def _final(self, name: str, values: Values, seeds: Sequence[int], deadline: float | None) -> dict[str, Any]:
        measured = dict(self._measured_with(name, values, seeds, deadline))
        return {
            "name": name,
            "values": values,
            "eers": {str(seed): result.eer for seed, result in measured.items()},
            "encoder_share": statistics.median([result.encoder_share for result in measured.values()] or [0.0]),
        }

    def _measured_with(
        self, name: str, values: Values, seeds: Sequence[int], deadline: float | None
    ) -> Iterator[tuple[int, Measured]]:
        for seed in seeds:
            recipe = self._write(f"final-{name.replace(' ', '-')}-seed-{seed}", values | {"seed": str(seed)})
            results = finished(recipe.parent)
            if results is None and (deadline is None or time.monotonic() < deadline):
                say([f"final of {name}, seed {seed}"])
                outcome = self.runner(recipe, lambda curve: True, deadline)
                results = outcome.results
                if results is None:
                    say([f"final of {name}, seed {seed}: {outcome.state} {outcome.reason}".strip()])
            measured = None if results is None else measured_of(results)
            if measured is not None:
                yield seed, measured


def import_optuna() -> ModuleType:
    """Import Optuna, and silence the lines that it logs.

    Raises:
        ImportError: when it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ImportError("Tuning needs Optuna: pip install 'modeling-oskdft[tune]'.") from None
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna


def digest(recipe: Path, space: Space) -> str:
    """Hash what a search is about, every field of the recipe and of its bases: 16 hexadecimal digits."""
    ranges = {name: values.describe() for name, values in space.items()}
    fields = {name: value for name, value in read_values(recipe).items() if name != "output_dir"}
    return hashlib.sha256(json.dumps([fields, ranges], sort_keys=True).encode()).hexdigest()[:16]


def check_values(recipe: Path, space: Space) -> None:
    """Read the recipe with the ends of every range, so that no trial fails by them.

    Raises:
        ValueError: naming the field and the value.
    """
    for name, values in space.items():
        for value in filter(None, values.examples()):
            words = [f"--{name}", *(value if isinstance(value, list) else [value])]
            try:
                read_recipe([str(recipe), *words])
            except ValueError as error:
                raise ValueError(
                    f"The search space has {' '.join(words[1:])} for {name}, which is refused: {first_line(error)}"
                ) from None


def keeps_up(curve: Curve, others: Sequence[Curve]) -> bool:
    """Apply the median rule (Golovin et al., 2017): whether a curve is no worse than half of the others so far.

    Args:
        curve: as `read_curve` returns it. One of less than `FIRST_SHARE` of a run keeps up, and one that is whole.
        others: curves of finished trials; fewer than `ENOUGH` say nothing.
    """
    share, best = curve[-1][0], min(eer for _, eer in curve)
    bests = [min(so_far) for other in others if (so_far := [eer for at, eer in other if at <= share + 1e-6])]
    if not FIRST_SHARE <= share < 1 or len(bests) < ENOUGH:
        return True
    return best <= statistics.median(bests)


def measured_of(results: Mapping[str, Any]) -> Measured | None:
    """Take both objectives out of the results of a run; None of one that never evaluated."""
    milliseconds = {name: each["encoder_milliseconds"] for name, each in results["encoders"].items()}
    whole = milliseconds.get("origin", milliseconds["teacher"])
    eer = results["selection_eer"]
    return None if eer is None else Measured(eer, milliseconds["student"] / whole)


def shape_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen fields that decide the size of a student."""
    return {name: values[name] for name in SHAPE if name in values}


def words_of(values: Mapping[str, Any]) -> str:
    """Write chosen fields in one line."""
    words = (f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in values.items())
    return ", ".join(word for word in words if not word.endswith(" None")) or HAND_CHOSEN
