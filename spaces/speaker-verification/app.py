"""Show a page that decides whether two recordings are of one speaker: `make space`, or `python app.py`."""

import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

import uploads

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import torch
from controls import I18N, NAME_GROUPS
from enrol_tab import enrol_tab
from limits import Limits, fetch_nothing
from operating_tab import operating_tab, threshold_slider
from samples import write_samples
from service import DEFAULT_MODEL, MOST_BYTES, Service, open_service
from starlette.middleware import Middleware
from verify_tab import verify_tab

HERE = Path(__file__).resolve().parent
THEME = gr.themes.Soft(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)


def build(service: Service, samples: Path) -> gr.Blocks:
    """Build the page.

    Args:
        service: the models.
        samples: folder of recordings to click.
    """
    with gr.Blocks(title="Speaker verification", analytics_enabled=False) as page:
        with gr.Column(elem_classes="lead"):
            gr.Markdown(I18N("title"), elem_classes="title", elem_id="title")
            gr.Markdown(I18N("lead"))
            if service.name == DEFAULT_MODEL:
                gr.Markdown(I18N("synthetic"))
        slider = threshold_slider(service)
        with gr.Tab(I18N("verify"), id="verify"):
            verify_tab(service, samples, slider)
        with gr.Tab(I18N("enrol"), id="enrol") as enrol:
            enrol_tab(service)
        with gr.Tab(I18N("operating"), id="operating") as operating:
            operating_tab(service, operating, slider)
        with gr.Tab(I18N("about"), id="about"):
            gr.Markdown(service.card(), sanitize_html=True)
        gr.on([page.load, enrol.select], js=NAME_GROUPS, api_visibility="private")
    return page


def main() -> None:
    """Open the model, write the samples, and serve the page until the process is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an ordinary exit also removes the recordings
    uploads.start_removing_old_recordings()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # two visitors at a time
    fetch_nothing()
    service = open_service()
    with tempfile.TemporaryDirectory() as folder:
        samples = write_samples(Path(folder))
        page = build(service, samples).queue(max_size=128)
        page.launch(
            theme=THEME,
            css_paths=HERE / "style.css",
            i18n=I18N,
            max_file_size=MOST_BYTES,
            app_kwargs={"middleware": [Middleware(Limits, folder=uploads.FOLDER, recording=MOST_BYTES)]},
            ssr_mode=False,
            show_error=True,
            allowed_paths=[folder],
            footer_links=["api"],
            mcp_server=importlib.util.find_spec("mcp") is not None,
        )


if __name__ == "__main__":
    main()
