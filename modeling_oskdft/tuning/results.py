"""Write the results of a search: JSON, a page with the front as a plot, and the best recipe."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..benchmark.plotting import figure
from ..files import read_json, whole_file, write_json
from ..provenance import machine, measured_on, versions
from .search import HAND_CHOSEN, Measured, Search, words_of
from .trial import relative_to

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

RESULTS_NAME, PAGE_NAME, BEST_NAME = "tuning.json", "tuning.md", "best.yaml"
PICTURE = """<picture>
  <source media="(prefers-color-scheme: dark)" srcset="front_dark.png">
  <img alt="EER over encoder time of every trial, and the front." src="front_light.png">
</picture>
"""
STATES = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "unfinished"}


def write_results(search: Search, finals: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Write `tuning.json`, `tuning.md` and both plots, and after the finals `best.yaml`.

    Args:
        search: the search.
        finals: as `Search.finals` returns them.

    Returns:
        The content of `tuning.json`.
    """
    rows = [_row(search, trial) for trial in search.trials(*STATES) if "values" in trial.user_attrs]
    front = {row["number"] for row in front_of(rows)}
    path = search.folder / RESULTS_NAME
    earlier = read_json(path)["finals"] if path.is_file() and not finals else []
    results = {
        "name": "tuning",
        "recipe": search.file.name,
        "seed": search.recipe.training.seed,
        "space": {name: values.describe() for name, values in search.space.items()},
        "trials": [row | {"front": row["number"] in front} for row in rows],
        "finals": list(finals) or earlier,
        "machine": machine(),
        "versions": versions(),
    }
    write_json(results, path)
    if any(row["eer"] is not None for row in rows):
        for theme in ("light", "dark"):
            plot_front(results, search.folder / f"front_{theme}.png", theme)
    with whole_file(search.folder / PAGE_NAME) as file:
        file.write_text(page(results), encoding="utf-8")
    if finals and all(len(row["eers"]) == len(finals[0]["eers"]) > 0 for row in finals):
        write_best(search.folder / BEST_NAME, search.file, finals[0])
    return results


def _row(search: Search, trial: "FrozenTrial") -> dict[str, Any]:
    row = {"number": trial.number, "state": STATES[trial.state.name], "values": trial.user_attrs["values"]}
    row |= Measured(*trial.values)._asdict() if trial.values else {"eer": None, "encoder_share": None}
    return row | (search.outcome(trial) if row["state"] != "unfinished" else {})


def front_of(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the trials that no other one beats in both objectives, by their EER."""
    measured = [(Measured(row["eer"], row["encoder_share"]), row) for row in rows if row["eer"] is not None]
    front = [pair for pair in measured if not any(other.beats(pair[0]) for other, _ in measured)]
    return [row for _, row in sorted(front, key=lambda pair: pair[0])]


def plot_front(results: Mapping[str, Any], path: Path, theme: str) -> None:
    """Plot EER over encoder time: every finished trial, the front, and the recipe as it is."""
    done = [row for row in results["trials"] if row["eer"] is not None]
    front, own = front_of(done), [row for row in done if not row["values"]]
    with figure(path, theme, 6.4, 4.2) as (axes, _):
        kinds = [("trials", done, "o", "#3987e5"), ("front", front, "o-", "#e5732a")]
        for label, rows, marker, colour in [*kinds, (HAND_CHOSEN, own, "D", "#1d9a6c")]:
            shares = [row["encoder_share"] for row in rows]
            axes.plot(shares, [100 * row["eer"] for row in rows], marker, color=colour, markersize=5, label=label)
        for row in front:
            place = (row["encoder_share"], 100 * row["eer"])
            axes.annotate(row["number"], place, xytext=(5, 4), textcoords="offset points", fontsize=8)
        axes.set(xlabel="encoder time, share of the whole encoder's", ylabel="EER on the speakers set aside, %")
        axes.grid(alpha=0.25)


def page(results: Mapping[str, Any]) -> str:
    """Write the results as Markdown."""
    head = ["| trial | fields | EER, % | encoder's share | |", "| --- | --- | ---: | ---: | --- |"]
    lines = []
    for row in sorted(results["trials"], key=lambda row: (row["eer"] is None, row["eer"], row["number"])):
        numbers = ["–", "–"] if row["eer"] is None else [f"{100 * row['eer']:.2f}", f"{row['encoder_share']:.3f}"]
        note = "front" if row["front"] else row.get("reason") or ("" if row["state"] == "finished" else row["state"])
        lines.append(f"| {row['number']} | {words_of(row['values'])} | {' | '.join(numbers)} | {note} |")
    space = "\n".join(f"- `{name}`: {_range(values)}" for name, values in results["space"].items())
    return f"""# The search around {results["recipe"]}

<!-- Written by `oskdft tune` from {RESULTS_NAME}: change that, not this. -->

EER on the speakers set aside, with seed {results["seed"]}, and the time of the student's encoder as a share of that of
the encoder that it was cut from, timed in turn in the same run. The lowest of many EERs is too low: the finals have
other seeds.
{measured_on(results)}

{space}

{chr(10).join([*head, *lines])}

{PICTURE if any(row["eer"] is not None for row in results["trials"]) else ""}{_finals(results["finals"])}"""


def _range(values: list[Any] | dict[str, Any]) -> str:
    if isinstance(values, list):
        return ", ".join(" ".join(value) if isinstance(value, list) else str(value) for value in values)
    return f"{values['low']:.4g} to {values['high']:.4g}" + (", equal ratios alike" if values["log"] else "")


def _finals(finals: Sequence[Mapping[str, Any]]) -> str:
    if not finals:
        return ""
    lines = ["| | EER by seed, % | mean, % | encoder's share |", "| --- | --- | ---: | ---: |"]
    for row in finals:
        if not row["eers"]:
            lines.append(f"| {row['name']} | – | – | – |")
            continue
        eers = row["eers"].values()
        by_seed = ", ".join(f"{100 * eer:.2f}" for eer in eers)
        mean = 100 * statistics.mean(eers)
        lines.append(f"| {row['name']} | {by_seed} | {mean:.2f} | {row['encoder_share']:.3f} |")
    return "\n## Finals\n\n" + "\n".join(lines) + "\n"


def write_best(path: Path, recipe: Path, row: Mapping[str, Any]) -> None:
    """Write the best recipe, with a comment that says where it came from.

    Args:
        path: file to write.
        recipe: the recipe that was searched, which becomes its base.
        row: of the finals.
    """
    import yaml

    eers = ", ".join(f"{100 * eer:.2f} % (seed {seed})" for seed, eer in row["eers"].items())
    base = {"base": relative_to(recipe, path.parent)}
    fields = yaml.safe_dump(base | row["values"], sort_keys=False)
    with whole_file(path) as file:
        file.write_text(
            f"# Found by `oskdft tune {recipe.name}`: {row['name']}, the lowest mean EER on the speakers set\n"
            f"# aside in the finals: {eers}. {RESULTS_NAME} has the rest.\n{fields}",
            encoding="utf-8",
        )
