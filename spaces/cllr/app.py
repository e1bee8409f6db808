"""Show a page that computes the Cllr of pasted or uploaded trials. Start it with `python app.py`."""

from pathlib import Path

import gradio as gr
from cllr import Cllr
from metric_page import compute, metric_page

TRIALS = "5.1 1\n2.0 0\n3.4 1\n2.2 1\n0.9 1\n-0.7 0\n-2.5 0\n-4.8 0\n"


def build() -> gr.Blocks:
    """Build the page."""
    readme = Path(__file__).with_name("README.md")
    results = ["Cllr", "Minimum of Cllr"]
    score = "a natural log-likelihood ratio"
    return metric_page("Cost of log-likelihood ratios", readme, measure, results, score=score, trials=TRIALS)


def measure(pasted: str, file: str | None = None) -> tuple[float, float]:
    """Compute Cllr and its minimum; the arguments are those of `compute`."""
    result = compute(Cllr, pasted, file)
    return result["cllr"], result["min_cllr"]


if __name__ == "__main__":
    build().launch(max_file_size="20mb", show_error=True)
