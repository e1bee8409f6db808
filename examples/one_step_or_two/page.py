"""From stored results to the summary (JSON), the page (Markdown) and the plots of the study."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.one_step_or_two.plots import draw
from modeling_oskdft import OSKDFTConfig, OSKDFTModel
from modeling_oskdft.benchmark.measure import encoder_seconds, machine, measured_on, versions, write_json
from modeling_oskdft.evaluation.metrics import bootstrap_rates, equal_error_rate, interval_of, min_detection_cost
from modeling_oskdft.files import whole_file

REFERENCE = "11_oskdft"
# What the question of the title is about: against these OS-KDFT has to win.
RIVALS = ("04_cut_finetuned", "06_distilled_frozen", "07_distilled_finetuned", "09_distilled_finetuned_twice")
ROUNDS = 15
COLUMNS = (
    *("#", "system", "EER, %", "EER less OS-KDFT's, points", "each seed", "minDCF", "steps", "minutes"),
    *("encoder, M", "encoder, ms (of the slowest)"),
)
RULE = ("---", "---", "---:", "---:", "---", *["---:"] * 5)
Draws = NDArray[np.float64]
Stored = dict[str, dict[int, dict[str, Any]]]  # system, seed, what study.py stores


def render(results: Path, labels: Sequence[int], speakers: Sequence[tuple[str, str]]) -> None:
    """Write `results`.json, `results`.md and the plots in `results`. labels, speakers: of the trials, in order.

    Raises `ValueError` where nothing is stored yet.
    """
    stored = read(results)
    if not stored:
        raise ValueError(f"There is no result in '{results}' to render: run the study with at least one seed.")
    summary_file = results.with_suffix(".json")
    before = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.is_file() else {}
    summary = summarise(stored, labels, speakers) | {"times": encoder_times(stored, before.get("times"))}
    for system, told in summary["systems"].items():
        told["encoder_milliseconds"] = summary["times"]["milliseconds"][shape_of(stored[system])]
    write_json(summary, summary_file)
    for theme in ("light", "dark"):
        draw(summary, stored, results, theme)
    with whole_file(results.with_suffix(".md")) as file:
        file.write_text(page(summary, results.name), encoding="utf-8")


def read(results: Path) -> Stored:
    """Every stored result, by system and seed, in order."""
    stored: Stored = {}
    for file in sorted(results.glob("*.json")):
        one = json.loads(file.read_text(encoding="utf-8"))
        stored.setdefault(one["system"], {})[one["seed"]] = one
    return stored


def summarise(stored: Stored, labels: Sequence[int], speakers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Error rates of every system, as means over its seeds, and its differences from OS-KDFT over common seeds."""
    runs = [(system, seed) for system, seeds in stored.items() for seed in seeds]
    scores = [stored[system][seed]["scores"] for system, seed in runs]
    eers, costs = bootstrap_rates(scores, labels, speakers)
    column = {run: number for number, run in enumerate(runs)}
    systems = {}
    for system, seeds in stored.items():
        own = [column[system, seed] for seed in seeds]
        common = [seed for seed in seeds if seed in stored.get(REFERENCE, {})]
        told = {
            "label": next(iter(seeds.values()))["label"],
            "seeds": list(seeds),
            "eer": rate([equal_error_rate(scores[one], labels).value for one in own], eers[:, own]),
            "min_dcf": rate([min_detection_cost(scores[one], labels) for one in own], costs[:, own]),
            **{name: next(iter(seeds.values()))[name] for name in ("steps", "parameters", "encoder_parameters")},
            "minutes": float(np.mean([one["seconds"] for one in seeds.values()])) / 60,
            "selection_eer": float(np.mean([one["selection_eer"] for one in seeds.values()])),
        }
        if common and system != REFERENCE:
            told["difference"] = difference(system, common, stored, column, eers)
        systems[system] = told
    first = next(iter(next(iter(stored.values())).values()))
    return {
        "name": "one_step_or_two",
        "systems": systems,
        "trials": len(labels),
        "speakers": len({one for pair in speakers for one in pair}),
        "train": first["train"],
        "machine": first["machine"],
        "versions": first["versions"],
    }


def rate(values: Sequence[float], draws: Draws) -> dict[str, Any]:
    """The mean over seeds with its interval. values: one a seed; draws: (draws, seeds)."""
    low, high = interval_of(draws.mean(1))
    return {"mean": float(np.mean(values)), "low": low, "high": high, "each": list(values)}


def difference(
    system: str, seeds: Sequence[int], stored: Stored, column: Mapping[tuple[str, int], int], eers: Draws
) -> dict[str, float]:
    """EER of the system less that of OS-KDFT, over these seeds; above 0 where OS-KDFT is better."""
    own = [column[system, seed] for seed in seeds]
    theirs = [column[REFERENCE, seed] for seed in seeds]
    low, high = interval_of(eers[:, own].mean(1) - eers[:, theirs].mean(1))
    gaps = [stored[system][seed]["eer"] - stored[REFERENCE][seed]["eer"] for seed in seeds]
    return {"mean": float(np.mean(gaps)), "low": low, "high": high}


def shape_of(seeds: Mapping[int, Mapping[str, Any]]) -> str:
    """What the encoder's time depends on, as a text: equal for systems of one shape."""
    config = next(iter(seeds.values()))["config"]
    names = ("conv_dim", "conv_stride", "conv_kernel", "hidden_size", "intermediate_size", "num_hidden_layers")
    shape = [config["encoder_config"][name] for name in (*names, "num_attention_heads")]
    return json.dumps([*shape, config["time_reduction"], config["adapter_size"]])


def encoder_times(stored: Stored, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Milliseconds of every encoder shape for 3 s on one thread, of one run; measured anew where one is missing."""
    configs = {shape_of(seeds): next(iter(seeds.values()))["config"] for seeds in stored.values()}
    if known and set(configs) <= set(known["milliseconds"]):
        return dict(known)
    encoders = {shape: OSKDFTModel(OSKDFTConfig.from_dict(config)) for shape, config in configs.items()}
    seconds = encoder_seconds(encoders, rounds=ROUNDS)
    milliseconds = {shape: 1000 * value for shape, value in seconds.items()}
    return {"milliseconds": milliseconds, "machine": machine(), "versions": versions()}


def points(told: Mapping[str, float], digits: int = 1) -> str:
    """A difference in points of EER with its interval: "+1.2 (+0.3 to +2.1)"."""
    mean, low, high = (f"{100 * told[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def verdict(told: Mapping[str, Any]) -> str:
    """A difference in words."""
    gap = told["difference"]
    direction = "worse than OS-KDFT" if gap["low"] > 0 else "better than OS-KDFT" if gap["high"] < 0 else "undecided"
    return f"{told['label']}: {points(gap)} points, {direction}"


def findings(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """What the numbers show about the title."""
    rivals = [systems[name] for name in RIVALS if "difference" in systems.get(name, {})]
    if not rivals:
        return "OS-KDFT or its rivals have no result yet: nothing can be said."
    beaten = sum(one["difference"]["low"] > 0 for one in rivals)
    lost = sum(one["difference"]["high"] < 0 for one in rivals)
    head = f"Of {len(rivals)} rivals OS-KDFT is better than {beaten} and worse than {lost}, by intervals without 0; "
    return head + "the others are undecided. " + "; ".join(verdict(one) for one in rivals) + "."


def row(name: str, told: Mapping[str, Any], teacher_milliseconds: float) -> str:
    """One system of the table."""
    number = name.split("_")[0]
    eer, cost = told["eer"], told["min_dcf"]
    gap = points(told["difference"]) if "difference" in told else "–"
    each = ", ".join(f"{100 * one:.1f}" for one in eer["each"])
    return (
        f"| {number} | {told['label']} | {100 * eer['mean']:.1f} ({100 * eer['low']:.1f}–{100 * eer['high']:.1f}) "
        f"| {gap} | {each} | {cost['mean']:.2f} ({cost['low']:.2f}–{cost['high']:.2f}) | {told['steps']} "
        f"| {told['minutes']:.1f} | {told['encoder_parameters'] / 1e6:.2f} | {told['encoder_milliseconds']:.1f} "
        f"({told['encoder_milliseconds'] / teacher_milliseconds:.2f}) |"
    )


def page(summary: Mapping[str, Any], folder: str) -> str:
    """The page in Markdown. folder: where the plots lie beside it."""
    systems = summary["systems"]
    slowest = max(one["encoder_milliseconds"] for one in systems.values())
    rows = "\n".join(row(name, told, slowest) for name, told in systems.items())
    train, seeds = summary["train"], sorted({seed for told in systems.values() for seed in told["seeds"]})
    pictures = "\n\n".join(
        f"<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{folder}/{name}_dark.png">\n'
        f'  <img alt="{alt}" src="{folder}/{name}_light.png">\n'
        f"</picture>"
        for name, alt in (
            ("rates", "EER of every system with its interval, and each seed."),
            ("curves", "Losses, and EER on the speakers set aside, over the steps."),
            ("frontier", "Encoder time against EER."),
        )
    )
    return f"""# One step or two

<!-- Written by examples/one_step_or_two from the stored results: change those, not this. -->

    python -m examples.one_step_or_two.study --jobs 2

Every system is a folder of `examples/one_step_or_two` with a few lines over the common `base.yaml`: the same
{train["speakers"]} training speakers ({train["utterances"]:,} utterances, {train["hours"]} h), augmentation, batches
and schedules. The checkpoint was chosen on other speakers set aside; the {summary["trials"]:,} trials of
{summary["speakers"]} further speakers were read once, for this table. Seeds {", ".join(map(str, seeds))}. Rates are
means over the seeds, intervals are 95 % by bootstrap over speakers, with the same draws for all systems, so that the
differences are paired. They hold the trials' speakers for random, not the training: the column "each seed" shows that.

| {" | ".join(COLUMNS)} |
| {" | ".join(RULE)} |
{rows}

{findings(systems)}

{pictures}

What this does not show: the paper's claim at its own scale. The teacher had an hour of pre-training, a run has a few
hundred steps where the paper's has a hundred thousand, and most trials are of one corpus and one session. Equal steps
are not equal time: the minutes were taken while other runs shared the machine, and a distilled system also pays for
its teacher. With VoxCeleb and a real teacher the same command runs the same systems: `--help` says how.

{measured_on(summary, ("torch", "transformers"))} Encoder times: 3 s of audio, one thread, medians of {ROUNDS}
alternating runs, all in one process.
"""
