"""Draw the plots of the documents in one style, light and dark, and collect the curves of a run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

THEMES = {"light": ("#1f2328", "#ffffff"), "dark": ("#e6edf3", "#0d1117")}  # text and ground, as GitHub has them


@contextmanager
def figure(path: Path, theme: str, width: float, height: float, columns: int = 1) -> Iterator[tuple[Any, str]]:
    """Open a new figure, and save it at the end of the block.

    Args:
        path: PNG file to write.
        theme: "light" or "dark".
        width: width of the figure, in inches.
        height: height of the figure, in inches.
        columns: number of axes beside each other.

    Yields:
        The axes, an array of them where there are several columns, and the colour of text and lines.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ink, paper = THEMES[theme]
    style = {"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink, "ytick.color": ink, "axes.edgecolor": ink}
    with plt.rc_context(style | {"figure.facecolor": paper, "axes.facecolor": paper, "font.size": 10}):
        drawing, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
        yield axes, ink
        for panel in drawing.axes:
            panel.spines[["top", "right"]].set_visible(False)
            if panel.get_legend_handles_labels()[0]:
                panel.legend(frameon=False, labelcolor=ink, fontsize=8.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, dpi=150)
        plt.close(drawing)


def curves_of(history: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Collect the curves of a run from the Trainer's log history.

    Args:
        history: `trainer.state.log_history`.

    Returns:
        Name of a logged value to its (epoch, value) pairs.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if name not in ("epoch", "step"):
                curves.setdefault(name, []).append((entry["epoch"], value))
    return curves
