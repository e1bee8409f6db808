"""Render the summary (JSON), the page (Markdown) and the plots of the study from its stored results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.one_step_or_two.plots import draw
from modeling_oskdft import OSKDFTConfig, OSKDFTModel
from modeling_oskdft.evaluation.cost import encoder_seconds
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.likelihood_ratios import min_cllr
from modeling_oskdft.scoring.metrics import (
    bootstrap_rates,
    equal_error_rate,
    interval_of,
    min_detection_cost,
    speaker_weights,
)

REFERENCE = "11_oskdft"
# The systems with which the title compares OS-KDFT, and those of as many steps beside OS-KDFT with more steps.
RIVALS = ("04_cut_finetuned", "06_distilled_frozen", "07_distilled_finetuned", "09_distilled_finetuned_twice")
LONGER = {
    "50_oskdft_longer": ("51_cut_finetuned_longer", "52_embedding_longer", "54_distilled_finetuned_longer"),
    "60_oskdft_ten_times": (
        *("61_cut_finetuned_ten_times", "62_embedding_ten_times", "64_distilled_finetuned_ten_times"),
        "66_single_path_ten_times",
    ),
}
ROUNDS = 15
HALF_A_POINT = 0.005
CLLR_DRAWS = 200  # of the bootstrap; it sorts all scores anew for each
COLUMNS = (
    *("#", "system", "EER, %", "less OS-KDFT's, points", "each seed", "best Cllr", "less OS-KDFT's"),
    *("steps", "minutes", "encoder, M", "encoder, ms (of the slowest)"),
)
RULE = ("---", "---", "---:", "---:", "---", *["---:"] * 6)
TRIALS_NAME, NOTES_NAME, LOG_NAME = "trials.json", "notes.md", "log.json"
Draws = NDArray[np.float64]
Stored = dict[str, dict[int, dict[str, Any]]]  # system, seed, the result that study.py stores


def render(results: Path) -> None:
    """Write summary, page and plots.

    Args:
        results: folder of the stored results; the plots are written there, summary and page beside it, as
            `results`.json and `results`.md.

    Raises:
        ValueError: nothing is stored yet, or results were made with different settings.
    """
    stored = read(results)
    if not stored:
        raise ValueError(f"There is no result in '{results}' to render: run the study with at least one seed.")
    trials = json.loads((results / TRIALS_NAME).read_text(encoding="utf-8"))
    summary_file, notes = results.with_suffix(".json"), results / NOTES_NAME
    before = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.is_file() else {}
    log = results.parent / LOG_NAME
    tried = json.loads(log.read_text(encoding="utf-8")) if log.is_file() else []
    rivals = {rival: longer for longer, names in LONGER.items() for rival in names}
    rivals |= {entry["system"]: entry["beside"] for entry in tried}
    summary = summarise(stored, trials["labels"], trials["speakers"], rivals)
    summary |= {"name": results.name, "times": encoder_times(stored, before.get("times"))}
    for system, facts in summary["systems"].items():
        facts["encoder_milliseconds"] = summary["times"]["milliseconds"][shape_of(stored[system])]
    write_json(summary, summary_file)
    for theme in ("light", "dark"):
        draw(summary, stored, results, theme)
    with whole_file(results.with_suffix(".md")) as file:
        text = page(summary, notes.read_text(encoding="utf-8") if notes.is_file() else "")
        file.write_text(text, encoding="utf-8")


def read(results: Path) -> Stored:
    """Read every stored result, by system and seed, in the order of their names.

    Raises:
        ValueError: the seeds of a system were run with different settings.
    """
    stored: Stored = {}
    for file in sorted(results.glob("*-*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        seeds = stored.setdefault(result["system"], {})
        if any(result["digest"] != other["digest"] for other in seeds.values()):
            raise ValueError(f"'{file}' was made with other settings than the seeds before it: remove what is old.")
        seeds[result["seed"]] = result
    return stored


def summarise(
    stored: Stored,
    labels: Sequence[int],
    speakers: Sequence[tuple[str, str]],
    rivals: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compute the error rates of every system, and their differences from OS-KDFT and from rivals of their own.

    Args:
        stored: the results, by system and seed.
        labels: 1 for a target trial, 0 for a non-target trial.
        speakers: both speakers of each trial.
        rivals: a further system for some of the systems, as the log of experiments names them.

    Returns:
        `systems`, with means over seeds and their intervals, and the facts that all systems share.
    """
    runs = [(system, seed) for system, seeds in stored.items() for seed in seeds]
    scores = [stored[system][seed]["scores"] for system, seed in runs]
    rates = {
        "eer": [equal_error_rate(of_run, labels).value for of_run in scores],
        "min_dcf": [min_detection_cost(of_run, labels) for of_run in scores],
        "min_cllr": [min_cllr(of_run, labels) for of_run in scores],
    }
    of_cllr = [
        [min_cllr(of_run, labels, weights) for of_run in scores]
        for weights in speaker_weights(np.asarray(labels), speakers, CLLR_DRAWS, seed=0)
    ]
    draws = dict(zip(rates, (*bootstrap_rates(scores, labels, speakers), np.asarray(of_cllr)), strict=True))
    column = {run: number for number, run in enumerate(runs)}
    systems = {}
    for system, seeds in stored.items():
        facts = _facts(seeds)
        pairs = _pairs(column, system, REFERENCE)
        for name, values in rates.items():
            facts[name] = rate(values, draws[name], [column[system, seed] for seed in seeds])
            if pairs:
                facts[f"{name}_difference"] = difference(values, draws[name], pairs)
        if beside := _pairs(column, system, (rivals or {}).get(system, system)):
            facts["rival_difference"] = difference(rates["eer"], draws["eer"], beside)
        systems[system] = facts
    first = next(iter(next(iter(stored.values())).values()))
    return {
        "systems": systems,
        "trials": len(labels),
        "speakers": len({speaker for pair in speakers for speaker in pair}),
        "teacher": first["config"].get("teacher_name_or_path"),
        "train": first["train"],
    }


def _pairs(column: Mapping[tuple[str, int], int], system: str, other: str) -> list[tuple[int, int]]:
    """Pair the columns of two systems, seed by seed; none of a system with itself."""
    seeds = [seed for name, seed in column if name == system and (other, seed) in column]
    return [(column[system, seed], column[other, seed]) for seed in seeds if system != other]


def _facts(seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of a system that need no trials."""
    results = list(seeds.values())
    seconds = [result["seconds"] for result in results if result["seconds"] is not None]
    return {
        "label": results[0]["label"],
        "seeds": list(seeds),
        **{name: results[0][name] for name in ("steps", "parameters", "encoder_parameters")},
        "minutes": min(seconds) / 60 if seconds else None,  # other work on a machine only adds to a run's time
        "trained_on": " ".join(sorted({measured_on(result, ("torch", "transformers")) for result in results})),
        "selection_eer": float(np.mean([result["selection_eer"] for result in results])),
    }


def rate(values: Sequence[float], draws: Draws, runs: Sequence[int]) -> dict[str, Any]:
    """Compute the mean of a rate over the seeds of a system, with its interval.

    Args:
        values: (all runs,) the rate of every run.
        draws: (draws, all runs) the rates of the bootstrap.
        runs: the columns of the system.
    """
    low, high = interval_of(draws[:, runs].mean(1))
    each = [values[run] for run in runs]
    return {"mean": float(np.mean(each)), "low": low, "high": high, "each": each}


def difference(values: Sequence[float], draws: Draws, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Subtract OS-KDFT's rate from a system's, seed by seed; the result is above 0 where OS-KDFT is better.

    Args:
        values: (all runs,) the rate of every run.
        draws: (draws, all runs) the rates of the bootstrap.
        pairs: (run of the system, run of OS-KDFT) of each common seed.
    """
    of_system, of_reference = zip(*pairs, strict=True)
    low, high = interval_of(draws[:, of_system].mean(1) - draws[:, of_reference].mean(1))
    each = [values[run] - values[reference] for run, reference in pairs]
    return {"mean": float(np.mean(each)), "low": low, "high": high, "each": each}


def shape_of(seeds: Mapping[int, Mapping[str, Any]]) -> str:
    """Write the fields on which the encoder's time depends as a text, which is equal for systems of one shape."""
    config = next(iter(seeds.values()))["config"]
    names = ("conv_dim", "conv_stride", "conv_kernel", "hidden_size", "intermediate_size", "num_hidden_layers")
    shape = [config["encoder_config"][name] for name in (*names, "num_attention_heads")]
    return json.dumps([*shape, config["time_reduction"], config["adapter_size"]])


def encoder_times(stored: Stored, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Measure the milliseconds of every encoder shape for 3 s on one thread, all in one run.

    Args:
        stored: the results, by system and seed.
        known: times that were measured before; they are returned where no shape is missing.
    """
    configs = {shape_of(seeds): next(iter(seeds.values()))["config"] for seeds in stored.values()}
    if known and set(configs) <= set(known["milliseconds"]):
        return dict(known)
    encoders = {shape: OSKDFTModel(OSKDFTConfig.from_dict(config)) for shape, config in configs.items()}
    seconds = encoder_seconds(encoders, rounds=ROUNDS)
    milliseconds = {shape: 1000 * value for shape, value in seconds.items()}
    return {"milliseconds": milliseconds, "machine": machine(), "versions": versions()}


def points(gap: Mapping[str, float], scale: float = 100, digits: int = 1) -> str:
    """Write a difference with its interval: "+1.2 (+0.3 to +2.1)"; fractions become points of per cent."""
    mean, low, high = (f"{scale * gap[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def direction(gap: Mapping[str, Any]) -> int:
    """Return 1 where OS-KDFT is better, -1 where it is worse, by an interval without 0 and by every seed; else 0."""
    if gap["low"] > 0 and min(gap["each"]) > 0:
        return 1
    return -1 if gap["high"] < 0 and max(gap["each"]) < 0 else 0


def verdict(facts: Mapping[str, Any], name: str = "eer_difference") -> str:
    """Write a system's difference in words.

    Args:
        facts: as `summarise` returns them.
        name: of the difference: that from OS-KDFT, or from OS-KDFT with more steps.
    """
    gap = facts[name]
    word = {1: "worse than OS-KDFT", -1: "better than OS-KDFT", 0: "undecided"}[direction(gap)]
    return f"{facts['label']}: {points(gap)} points, {word}"


def findings(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """Write how many rivals OS-KDFT is better and worse than, and each difference."""
    rivals = [systems[name] for name in RIVALS if "eer_difference" in systems.get(name, {})]
    if not rivals:
        return "OS-KDFT or its rivals have no result yet: nothing can be said."
    directions = [direction(rival["eer_difference"]) for rival in rivals]
    head = (
        f"Of {len(rivals)} rivals OS-KDFT is better than {directions.count(1)} and worse than {directions.count(-1)}, "
        "by an interval without 0 and by every seed; the others are undecided:"
    )
    lines = [head, "", *(f"- {verdict(rival)}" for rival in rivals)]
    for reference, names in LONGER.items():
        of_as_many = [systems[name] for name in names if name in systems and reference in systems]
        if of_as_many:
            lines += ["", f"Beside OS-KDFT of {systems[reference]['steps']:,} steps, with as many steps:", ""]
            lines += [f"- {verdict(rival, 'rival_difference')}" for rival in of_as_many]
    return "\n".join(lines)


def frontier(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the EER of the fastest encoder beside OS-KDFT's; an empty text without results of both.

    Where several systems have that shape, the first one is taken and not the best: the trials choose nothing.
    """
    fastest = min(systems.values(), key=lambda facts: facts["encoder_milliseconds"])
    if REFERENCE not in systems or "eer_difference" not in fastest:
        return ""
    slowest = max(facts["encoder_milliseconds"] for facts in systems.values())
    eer = systems[REFERENCE]["eer"]
    where = "within" if eer["low"] <= fastest["eer"]["mean"] <= eer["high"] else "outside"
    return (
        f"The fastest shape takes {fastest['encoder_milliseconds'] / slowest:.2f} of the slowest encoder's time, with "
        f"{fastest['encoder_parameters'] / 1e6:.2f} M parameters. Its EER ({fastest['label']}) is "
        f"{100 * fastest['eer']['mean']:.1f} %, {where} the interval of OS-KDFT; the difference is "
        f"{points(fastest['eer_difference'])} points."
    )


def row(name: str, facts: Mapping[str, Any], slowest: float) -> str:
    """Write the row of a system.

    Args:
        name: its folder.
        facts: as `summarise` returns them.
        slowest: milliseconds of the slowest encoder.
    """
    number = name.split("_")[0]
    eer, cost = facts["eer"], facts["min_cllr"]
    gaps = [
        points(facts["eer_difference"]) if "eer_difference" in facts else "–",
        points(facts["min_cllr_difference"], 1, 3) if "min_cllr_difference" in facts else "–",
    ]
    each = ", ".join(f"{100 * value:.1f}" for value in eer["each"])
    minutes = "–" if facts["minutes"] is None else f"{facts['minutes']:.1f}"
    return (
        f"| {number} | {facts['label']} | {100 * eer['mean']:.1f} ({100 * eer['low']:.1f}–{100 * eer['high']:.1f}) "
        f"| {gaps[0]} | {each} | {cost['mean']:.3f} ({cost['low']:.3f}–{cost['high']:.3f}) | {gaps[1]} "
        f"| {facts['steps']} | {minutes} | {facts['encoder_parameters'] / 1e6:.2f} "
        f"| {facts['encoder_milliseconds']:.1f} ({facts['encoder_milliseconds'] / slowest:.2f}) |"
    )


def power(systems: Mapping[str, Mapping[str, Any]], speakers: int) -> str:
    """Write how many speakers would decide a difference of half a point: intervals shrink by the root of speakers."""
    gaps = [facts["eer_difference"] for facts in systems.values() if "eer_difference" in facts]
    if not gaps:
        return ""
    width = float(np.median([gap["high"] - gap["low"] for gap in gaps])) / 2
    needed = round(speakers * (width / HALF_A_POINT) ** 2, -1)
    return (
        f"The median paired interval of EER is ±{100 * width:.1f} points: to decide {100 * HALF_A_POINT:g} points, "
        f"about {needed:,.0f} speakers would be needed."
    )


def machines(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """Write where the runs of each row were trained: minutes of two machines say nothing about each other."""
    rows: dict[str, list[str]] = {}
    for name, facts in systems.items():
        rows.setdefault(facts["trained_on"], []).append(name.split("_")[0])
    if len(rows) == 1:
        return next(iter(rows))
    return " ".join(f"Rows {', '.join(numbers)}: {machine}" for machine, numbers in rows.items())


def page(summary: Mapping[str, Any], notes: str) -> str:
    """Write the page as Markdown.

    Args:
        summary: as `render` writes it; the plots are in a folder of its name.
        notes: Markdown that no result contains, written by hand.
    """
    systems, folder, times = summary["systems"], summary["name"], summary["times"]
    slowest = max(facts["encoder_milliseconds"] for facts in systems.values())
    rows = "\n".join(row(name, facts, slowest) for name, facts in systems.items())
    train, seeds = summary["train"], sorted({seed for facts in systems.values() for seed in facts["seeds"]})
    pictures = "\n\n".join(
        f"<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{folder}/{name}_dark.png">\n'
        f'  <img alt="{alt}" src="{folder}/{name}_light.png">\n'
        f"</picture>"
        for name, alt in (
            ("rates", "EER of every system with its interval, and each seed."),
            ("curves", "Speaker loss, distillation loss, and EER on the speakers set aside, over the epochs."),
            ("frontier", "Encoder time against EER."),
        )
    )
    return f"""# One step or two

<!-- Written by examples/one_step_or_two from the stored results: change those, not this. -->

By `python -m examples.one_step_or_two.study` ({summary["teacher"]} as the teacher). Every system is a folder of
`examples/one_step_or_two` with a few lines over the common `base.yaml`: the same {train["speakers"]} training
speakers ({train["utterances"]:,} utterances, {train["hours"]} h), augmentation, batches and schedules. The checkpoint
was chosen on other speakers set aside; the {summary["trials"]:,} trials of {summary["speakers"]} further speakers were
read once, for this table. Seeds {", ".join(map(str, seeds))}. Rates are means over the seeds; intervals are 95 %, by
bootstrap over speakers, with the same draws for all systems, so that the differences from OS-KDFT (11) are paired.
They hold the trials' speakers for random, not the training: the column "each seed" shows that. Best Cllr is the cost
of the log-likelihood ratios, in bits, after the best calibration of these trials: it reads every score, and not one
threshold.
{power(systems, summary["speakers"])}

| {" | ".join(COLUMNS)} |
| {" | ".join(RULE)} |
{rows}

{findings(systems)}

{frontier(systems)}

{notes.strip()}

{pictures}

Equal steps are not equal time: a distilled system also pays for its teacher. The minutes are those of the quickest
seed, other runs beside it; those of different machines do not compare. {machines(systems)}
Encoder times: 3 s of audio, one thread, medians of {ROUNDS} alternating runs in one process; {measured_on(times)}
"""
