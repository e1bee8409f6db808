"""Build the page of a metric: trials are pasted or uploaded, and its numbers are shown.

The folder of the other metric has a symbolic link to this file. `oskdft push` follows it and sends a copy with each
Space, because a Space has to run from its own folder.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import evaluate
import gradio as gr
from huggingface_hub import RepoCard

from modeling_oskdft.data.trials import read_scores

LEAD = "One trial a line: {score}, then 1 (the same speaker) or 0 (different speakers)."
TRIALS = "0.9 1\n0.8 0\n0.7 1\n0.6 1\n0.5 1\n0.4 0\n0.3 0\n0.2 0\n"
UPLOAD_SECONDS = 600  # after which an uploaded file is removed


def metric_page(
    title: str,
    readme: Path,
    measure: Callable[..., object],
    results: Sequence[str],
    settings: Mapping[str, float] | None = None,
    score: str = "a score",
    trials: str = TRIALS,
) -> gr.Blocks:
    """Build the page.

    Args:
        title: name of the metric.
        readme: file that the page shows below the numbers, without its front matter.
        measure: called with the pasted text, the path of the uploaded file or None, and the settings.
        results: labels of the numbers that `measure` returns.
        settings: label to value of further numbers to give.
        score: what the first number of a line is.
        trials: lines that the page begins with, and measures at once: an empty number would be shown as 0.
    """
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(60, UPLOAD_SECONDS)) as page:
        gr.Markdown(f"# {title}\n\n{LEAD.format(score=score)}")
        with gr.Row():
            pasted = gr.Textbox(trials, lines=8, max_lines=16, label="Trials")
            file = gr.File(label="Or a file of them", file_types=["text", ".csv"])
        numbers: list[gr.Number] = []
        if settings:
            with gr.Row():
                numbers = [gr.Number(value, label=label) for label, value in settings.items()]
        button = gr.Button("Measure", variant="primary")
        with gr.Row():
            outputs = [gr.Number(label=label, interactive=False) for label in results]
        button.click(measure, [pasted, file, *numbers], outputs, api_name="measure")
        page.load(measure, [pasted, file, *numbers], outputs, api_visibility="private")
        with gr.Accordion("About", open=False):
            gr.Markdown(RepoCard.load(readme).text)
    return page


def compute(metric: type[evaluate.Metric], pasted: str, file: str | None, **settings: float) -> dict[str, float]:
    """Compute a metric on the trials of the uploaded file, or on the pasted ones where there is no file.

    Args:
        metric: its class; every call makes a new metric, because a metric keeps the trials that it is given.
        pasted: lines "score label".
        file: path of a text file with such lines.
        **settings: further arguments of the metric.

    Raises:
        gr.Error: a line is no trial, or the trials have no such number; the page shows the sentence.
    """
    text = Path(file).read_text("utf-8-sig", "replace") if file else pasted
    try:
        scores, labels = read_scores(text)
        return metric(keep_in_memory=True).compute(predictions=scores, references=labels, **settings)
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from None
