"""The three plots of the study: rates, curves, and the frontier of time against error."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeling_oskdft.benchmark.plotting import figure

COLOURS = {"teacher": "#888888", "two": "#3987e5", "one": "#e5732a", "shape": "#8a63d2"}
CURVES = {  # system, colour
    "02_teacher_finetuned": COLOURS["teacher"],
    "04_cut_finetuned": "#2da44e",
    "07_distilled_finetuned": COLOURS["two"],
    "11_oskdft": COLOURS["one"],
}


def colour_of(system: str) -> str:
    """By the number that a system's name begins with: teachers, no step or two, one step, one step in other shapes."""
    number = system.split("_")[0]
    if not number.isdigit() or int(number) < 3:
        return COLOURS["teacher"]
    return COLOURS["two" if int(number) < 10 else "one" if int(number) < 20 else "shape"]


def draw(summary: Mapping[str, Any], stored: Mapping[str, Any], folder: Path, theme: str) -> None:
    """All three, in one theme."""
    systems = summary["systems"]
    draw_rates(systems, folder / f"rates_{theme}.png", theme)
    draw_curves(stored, folder / f"curves_{theme}.png", theme)
    draw_frontier(systems, folder / f"frontier_{theme}.png", theme)


def draw_rates(systems: Mapping[str, Any], path: Path, theme: str) -> None:
    """EER with its interval, and each seed as a small dot."""
    with figure(path, theme, 9, 0.9 + 0.3 * len(systems)) as (axes, ink):
        for place, (name, told) in enumerate(systems.items()):
            eer, colour = told["eer"], colour_of(name)
            axes.plot([100 * eer["low"], 100 * eer["high"]], [place, place], color=colour, linewidth=2)
            axes.plot(100 * eer["mean"], place, "o", color=colour, markersize=7)
            axes.plot([100 * one for one in eer["each"]], [place] * len(eer["each"]), "|", color=ink, markersize=8)
        labels = [f"{told['label']}  {name.split('_')[0]}" for name, told in systems.items()]
        axes.set_yticks(range(len(systems)), labels, fontsize=8.5)
        axes.invert_yaxis()
        axes.set(xlabel="EER, % (dot: mean; line: 95 % over speakers; ticks: each seed)")
        axes.grid(axis="x", alpha=0.25)


def draw_curves(stored: Mapping[str, Any], path: Path, theme: str) -> None:
    """Both losses, and the EER on the speakers set aside, of the first seed; of two steps those of the second."""
    with figure(path, theme, 12, 3.6, columns=3) as (all_axes, _):
        for name, colour in CURVES.items():
            if name not in stored:
                continue
            first = next(iter(stored[name].values()))
            curves, label = first["curves"], first["label"]
            for axes, curve, factor in zip(all_axes, ("ft_loss", "kd_loss", "eval_eer"), (1, 1, 100), strict=True):
                values = [(epoch, factor * value) for epoch, value in curves.get(curve, [])]
                if values:  # a run shorter than a log line has none
                    axes.plot(*zip(*values, strict=True), "o-", color=colour, markersize=3, label=label)
        for axes, name in zip(
            all_axes, ("Speaker loss", "Distillation loss", "EER on speakers set aside, %"), strict=True
        ):
            axes.set(xlabel="epoch", title=name)


def draw_frontier(systems: Mapping[str, Any], path: Path, theme: str) -> None:
    """Encoder time against EER; numbers are those of the table."""
    with figure(path, theme, 8, 4.6) as (axes, ink):
        for name, told in systems.items():
            eer, time, colour = told["eer"], told["encoder_milliseconds"], colour_of(name)
            axes.plot(time, 100 * eer["mean"], "o", color=colour, markersize=6)
            axes.annotate(
                name.split("_")[0],
                (time, 100 * eer["mean"]),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=8,
                color=ink,
            )
        axes.set(xlabel="encoder, ms for 3 s on one thread", ylabel="EER, %", xlim=(0, None))
        axes.grid(alpha=0.25)
