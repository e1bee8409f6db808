"""Draw the three plots of the study: rates, curves, and the frontier of time against error."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_oskdft.benchmark.plotting import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]  # milliseconds, percent
COLOURS = {"teacher": "#888888", "two": "#3987e5", "one": "#e5732a", "shape": "#8a63d2"}
GROUPS = {
    "teacher": COLOURS["teacher"],
    "no distillation, or two steps": COLOURS["two"],
    "one step": COLOURS["one"],
    "one step, other shapes": COLOURS["shape"],
}
CURVES = {  # system, colour
    "02_teacher_finetuned": COLOURS["teacher"],
    "04_cut_finetuned": "#2da44e",
    "07_distilled_finetuned": COLOURS["two"],
    "11_oskdft": COLOURS["one"],
}


def colour_of(system: str) -> str:
    """Choose a colour by the number of a system: teachers, no step or two, one step, one step in other shapes."""
    number = system.split("_")[0]
    if not number.isdigit() or int(number) < 3 or "teacher_finetuned" in system:
        return COLOURS["teacher"]
    if int(number) < 10 or "cut_finetuned" in system or "distilled" in system:
        return COLOURS["two"]
    other_shapes = 20 <= int(number) < 30 or 40 <= int(number) < 50 or "whole_encoder" in system
    return COLOURS["shape" if other_shapes else "one"]


def draw(summary: Mapping[str, Any], stored: Mapping[str, Any], folder: Path, theme: str) -> None:
    """Draw all three plots in one theme.

    Args:
        summary: as `page.render` writes it.
        stored: the results, by system and seed.
        folder: where the PNG files are written.
        theme: "light" or "dark".
    """
    systems = summary["systems"]
    draw_rates(systems, folder / f"rates_{theme}.png", theme)
    draw_curves(stored, folder / f"curves_{theme}.png", theme)
    draw_frontier(systems, folder / f"frontier_{theme}.png", theme)


def draw_rates(systems: Mapping[str, Any], path: Path, theme: str) -> None:
    """Draw the EER of every system with its interval, and each seed as a small tick."""
    with figure(path, theme, 9, 0.9 + 0.3 * len(systems)) as (axes, ink):
        for place, (name, facts) in enumerate(systems.items()):
            eer, colour = facts["eer"], colour_of(name)
            axes.plot([100 * eer["low"], 100 * eer["high"]], [place, place], color=colour, linewidth=2)
            axes.plot(100 * eer["mean"], place, "o", color=colour, markersize=7)
            axes.plot([100 * value for value in eer["each"]], [place] * len(eer["each"]), "|", color=ink, markersize=8)
        labels = [f"{facts['label']}  {name.split('_')[0]}" for name, facts in systems.items()]
        axes.set_yticks(range(len(systems)), labels, fontsize=8.5)
        axes.invert_yaxis()
        axes.set(xlabel="EER, %\ndot: mean; line: 95 % over\nspeakers; ticks: each seed")
        axes.grid(axis="x", alpha=0.25)


def draw_curves(stored: Mapping[str, Any], path: Path, theme: str) -> None:
    """Draw both losses, and the EER on the speakers set aside, of the first seed and of a system's last step."""
    titles = {"ft_loss": "Speaker loss", "kd_loss": "Distillation loss", "eval_eer": "EER on speakers set aside, %"}
    with figure(path, theme, 12, 4, columns=3) as (all_axes, ink):
        lines = {}
        for name, colour in CURVES.items():
            if name not in stored:
                continue
            first = next(iter(stored[name].values()))
            for axes, curve in zip(all_axes, titles, strict=True):
                factor = 100 if curve == "eval_eer" else 1
                values = [(epoch, factor * value) for epoch, value in first["curves"].get(curve, [])]
                if values:  # a run shorter than a log line has none
                    lines[first["label"]], *_ = axes.plot(*zip(*values, strict=True), "o-", color=colour, markersize=3)
        for axes, title in zip(all_axes, titles.values(), strict=True):
            axes.set(xlabel="epoch", title=title)
        place = {"loc": "outside lower center", "ncols": len(CURVES), "frameon": False, "labelcolor": ink}
        all_axes[0].figure.legend(list(lines.values()), list(lines), fontsize=8.5, **place)


def draw_frontier(systems: Mapping[str, Any], path: Path, theme: str) -> None:
    """Draw encoder time against EER, with the numbers of the table.

    The line joins the systems that no other system beats in both.
    """
    points = {name: (facts["encoder_milliseconds"], 100 * facts["eer"]["mean"]) for name, facts in systems.items()}
    with figure(path, theme, 8, 5.4) as (axes, ink):
        axes.plot(*zip(*unbeaten(points.values()), strict=True), "--", color=ink, linewidth=0.8, alpha=0.5)
        for group, colour in GROUPS.items():
            in_group = [point for name, point in points.items() if colour_of(name) == colour]
            times, rates = [time for time, _ in in_group], [rate for _, rate in in_group]
            axes.plot(times, rates, "o", color=colour, markersize=6, label=group)
        axes.set(
            xlabel="encoder, ms for 3 s on one thread",
            ylabel="EER, %",
            xlim=(0, 1.1 * max(time for time, _ in points.values())),
        )
        low, high = axes.get_ylim()
        for column in columns_of(points, 0.04 * axes.get_xlim()[1]):
            label_apart(axes, {name: points[name] for name in column}, 0.025 * (high - low))
        axes.grid(alpha=0.25)


def unbeaten(points: Iterable[Point]) -> list[Point]:
    """Return, by rising time, the points whose error is lower than that of every faster point."""
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def columns_of(points: Mapping[str, Point], near: float) -> list[list[str]]:
    """Group points whose labels would overlap.

    Args:
        points: name to point.
        near: most milliseconds between neighbours of a group.

    Returns:
        The names in each group, by rising time.
    """
    columns: list[list[str]] = []
    for name in sorted(points, key=points.__getitem__):
        if columns and points[name][0] - points[columns[-1][-1]][0] <= near:
            columns[-1].append(name)
        else:
            columns.append([name])
    return columns


def label_apart(axes: "Axes", points: Mapping[str, Point], least: float) -> None:
    """Write the number of each system to the right of its column, with a line to its point.

    Args:
        axes: of the plot.
        points: name to point, of one column.
        least: least distance of two numbers, in per cent of EER.
    """
    from matplotlib.transforms import offset_copy

    beside = offset_copy(axes.transData, axes.get_figure(root=True), x=15, units="points")
    edge, height = max(time for time, _ in points.values()), -least
    for name in sorted(points, key=lambda name: points[name][1]):
        time, rate = points[name]
        height = max(rate, height + least)
        axes.annotate(
            name.split("_")[0],
            (time, rate),
            xytext=(edge, height),
            textcoords=beside,
            arrowprops={
                "arrowstyle": "-",
                "color": colour_of(name),
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
            fontsize=8,
            color=colour_of(name),
            va="center",
        )
