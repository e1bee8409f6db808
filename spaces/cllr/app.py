"""Show a page that computes the Cllr of pasted or uploaded trials. Start it with `python app.py`."""

from pathlib import Path

import gradio as gr
from cllr import Cllr
from metric_page import compute, metric_page


def build() -> gr.Blocks:
    """Build the page."""
    readme = Path(__file__).with_name("README.md")
    return metric_page("Cost of log-likelihood ratios", readme, measure, ["Cllr", "Minimum of Cllr"])


def measure(pasted: str, file: str | None = None) -> tuple[float, float]:
    """Compute Cllr and its minimum; the arguments are those of `compute`."""
    result = compute(Cllr, pasted, file)
    return result["cllr"], result["min_cllr"]


if __name__ == "__main__":
    build().launch(max_file_size="20mb", show_error=True)
