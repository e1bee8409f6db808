"""Make the controls that the tabs share, and find the language of a visitor."""

from typing import Any

import gradio as gr
from words import LABELS, language_of

I18N = gr.I18n(**LABELS)
HandlerResult = tuple[Any, ...]
# Options of a button that runs the model: not a part of the API, and two visitors at a time.
RUNS_MODEL: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 2}
# Gradio shows the label of an audio field, but a screen reader does not find which field it belongs to.
NAME_GROUPS = """() => {
    for (const block of document.querySelectorAll('.audio-field')) {
        block.setAttribute('role', 'group');
        block.setAttribute('aria-label', block.querySelector('label').innerText.trim());
    }
}"""


def audio_field(name: str) -> gr.Audio:
    """Make a field for a recording.

    Args:
        name: key of its label in `words.LABELS`, and its id in the page.
    """
    # As a file: libsndfile reads the uploaded file, without ffmpeg.
    return gr.Audio(
        label=I18N(name),
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=[],
        min_width=300,  # on a telephone, one field below the other
        elem_id=name,
        elem_classes="audio-field",
    )


def language_of_request(request: gr.Request | None) -> str:
    """Return the language that a visitor's browser asks for, one of `words.LANGUAGES`."""
    return language_of(request.headers.get("accept-language")) if request is not None else "en"
