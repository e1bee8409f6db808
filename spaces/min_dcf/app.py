"""Show a page that computes the minDCF of pasted or uploaded trials. Start it with `python app.py`."""

from pathlib import Path

import gradio as gr
from metric_page import compute, metric_page
from min_dcf import MinDCF

SETTINGS = {"Prior of a target trial": 0.01, "Cost of a miss": 1.0, "Cost of a false accept": 1.0}


def build() -> gr.Blocks:
    """Build the page."""
    readme = Path(__file__).with_name("README.md")
    return metric_page("Minimum detection cost", readme, measure, ["minDCF"], SETTINGS)


def measure(
    pasted: str,
    file: str | None = None,
    p_target: float | None = 0.01,
    c_miss: float | None = 1.0,
    c_fa: float | None = 1.0,
) -> float:
    """Compute the minDCF; the first arguments are those of `compute`.

    Args:
        pasted: lines "score label".
        file: path of a text file with such lines.
        p_target: prior probability of a target trial; None: the field is empty.
        c_miss: cost of a miss.
        c_fa: cost of a false accept.

    Raises:
        gr.Error: a number is empty or not above 0, or as `compute`.
    """
    if p_target is None or c_miss is None or c_fa is None or min(p_target, c_miss, c_fa) <= 0:
        raise gr.Error(
            "The prior or a cost is empty or not above 0: give three positive numbers.", print_exception=False
        )
    return compute(MinDCF, pasted, file, p_target=p_target, c_miss=c_miss, c_fa=c_fa)["min_dcf"]


if __name__ == "__main__":
    build().launch(max_file_size="20mb", show_error=True)
