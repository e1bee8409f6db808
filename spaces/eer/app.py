"""A page of the metric: paste trials or upload them, and read their EER. Start it with `python app.py`."""

from pathlib import Path

import evaluate
import gradio as gr
from huggingface_hub import RepoCard

from modeling_oskdft.data.trials import read_scores

HERE = Path(__file__).resolve().parent
LEAD = "# Equal error rate\n\nOne trial a line: a score, then 1 (the same speaker) or 0 (different speakers)."
TRIALS = "0.9 1\n0.8 0\n0.7 1\n0.6 1\n0.5 1\n0.4 0\n0.3 0\n0.2 0\n"


def build() -> gr.Blocks:
    """The page. What visitors upload goes after ten minutes."""
    with gr.Blocks(title="Equal error rate", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown(LEAD)
        with gr.Row():
            pasted = gr.Textbox(TRIALS, lines=8, max_lines=16, label="Trials")
            file = gr.File(label="Or a file of them", file_types=["text", ".csv"])
        button = gr.Button("Measure", variant="primary")
        with gr.Row():
            found = [gr.Number(label="EER", interactive=False), gr.Number(label="Threshold", interactive=False)]
        button.click(measure, [pasted, file], found, api_name="measure")
        with gr.Accordion("About", open=False):
            gr.Markdown(RepoCard.load(HERE / "README.md").text)
    return page


def measure(pasted: str, file: str | None = None) -> tuple[float, float]:
    """Equal error rate and threshold of the pasted trials, or of those of the file where there is one."""
    text = Path(file).read_text("utf-8-sig", "replace") if file else pasted
    # One metric a visitor: it gathers what it is given.
    metric = evaluate.load(str(HERE / "eer.py"), keep_in_memory=True)
    try:
        scores, labels = read_scores(text)
        result = metric.compute(predictions=scores, references=labels)
    except ValueError as sentence:
        raise gr.Error(str(sentence), print_exception=False) from None
    return result["eer"], result["threshold"]


if __name__ == "__main__":
    build().launch(max_file_size="20mb", show_error=True)
