"""One look for every plot of the documents, light and dark, and the curves of a run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

THEMES = {"light": ("#1f2328", "#ffffff"), "dark": ("#e6edf3", "#0d1117")}  # GitHub's ink and paper


@contextmanager
def figure(path: Path, theme: str, width: float, height: float, columns: int = 1) -> Iterator[tuple[Any, str]]:
    """The axes of a new figure, an array where there are several columns, and the colour of its ink; saved at the end.

    theme: "light" or "dark"; width, height: in inches.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ink, paper = THEMES[theme]
    style = {"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink, "ytick.color": ink, "axes.edgecolor": ink}
    with plt.rc_context(style | {"figure.facecolor": paper, "axes.facecolor": paper, "font.size": 10}):
        drawing, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
        yield axes, ink
        for one in drawing.axes:
            one.spines[["top", "right"]].set_visible(False)
            if one.get_legend_handles_labels()[0]:
                one.legend(frameon=False, labelcolor=ink, fontsize=8.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, dpi=150)
        plt.close(drawing)


def curves_of(history: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Curves of a run: name to (epoch, value) pairs, from the Trainer's log history."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if name not in ("epoch", "step"):
                curves.setdefault(name, []).append((entry["epoch"], value))
    return curves
