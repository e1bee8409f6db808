"""A page of the metric: paste trials or upload them, and read their minDCF. Start it with `python app.py`."""

from pathlib import Path

import evaluate
import gradio as gr
from huggingface_hub import RepoCard

from modeling_oskdft.data.trials import read_scores

HERE = Path(__file__).resolve().parent
LEAD = "# Minimum detection cost\n\nOne trial a line: a score, then 1 (the same speaker) or 0 (different speakers)."
TRIALS = "0.9 1\n0.8 0\n0.7 1\n0.6 1\n0.5 1\n0.4 0\n0.3 0\n0.2 0\n"


def build() -> gr.Blocks:
    """The page. What visitors upload goes after ten minutes."""
    with gr.Blocks(title="Minimum detection cost", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown(LEAD)
        with gr.Row():
            pasted = gr.Textbox(TRIALS, lines=8, max_lines=16, label="Trials")
            file = gr.File(label="Or a file of them", file_types=["text", ".csv"])
        with gr.Row():
            labels = ("Prior of a target trial", "Cost of a miss", "Cost of a false accept")
            cost = [gr.Number(value, label=label) for value, label in zip((0.01, 1, 1), labels, strict=True)]
        button = gr.Button("Measure", variant="primary")
        found = gr.Number(label="minDCF", interactive=False)
        button.click(measure, [pasted, file, *cost], found, api_name="measure")
        with gr.Accordion("About", open=False):
            gr.Markdown(RepoCard.load(HERE / "README.md").text)
    return page


def measure(
    pasted: str,
    file: str | None = None,
    p_target: float | None = 0.01,
    c_miss: float | None = 1.0,
    c_fa: float | None = 1.0,
) -> float:
    """The minDCF of the pasted trials, or of those of the file where there is one."""
    text = Path(file).read_text("utf-8-sig", "replace") if file else pasted
    if min(p_target or 0, c_miss or 0, c_fa or 0) <= 0:
        raise gr.Error(
            "The prior or a cost is empty or not above 0: give three positive numbers.", print_exception=False
        )
    # One metric a visitor: it gathers what it is given.
    metric = evaluate.load(str(HERE / "min_dcf.py"), keep_in_memory=True)
    try:
        scores, labels = read_scores(text)
        result = metric.compute(predictions=scores, references=labels, p_target=p_target, c_miss=c_miss, c_fa=c_fa)
    except ValueError as sentence:
        raise gr.Error(str(sentence), print_exception=False) from None
    return result["min_dcf"]


if __name__ == "__main__":
    build().launch(max_file_size="20mb", show_error=True)
