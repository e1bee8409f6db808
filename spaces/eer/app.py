"""Show a page that computes the EER of pasted or uploaded trials. Start it with `python app.py`."""

from pathlib import Path

import gradio as gr
from eer import EER
from metric_page import compute, metric_page


def build() -> gr.Blocks:
    """Build the page."""
    readme = Path(__file__).with_name("README.md")
    return metric_page("Equal error rate", readme, measure, ["EER", "Threshold"])


def measure(pasted: str, file: str | None = None) -> tuple[float, float]:
    """Compute the equal error rate and its threshold; the arguments are those of `compute`."""
    result = compute(EER, pasted, file)
    return result["eer"], result["threshold"]


if __name__ == "__main__":
    build().launch(max_file_size="20mb", show_error=True)
