"""Build the tab that compares two recordings, and the same comparison as an API."""

from pathlib import Path
from typing import Any

import gradio as gr
from controls import I18N, RUNS_MODEL, audio_field, language_of_request
from drawing import distributions, recording
from html_parts import figure, panel, refusal, warning_lines
from samples import PAIRS
from service import Answer, Refusal, Service
from words import ANSWERS

from modeling_oskdft.scoring.thresholds import OPERATING_POINTS


def verify_tab(service: Service, samples: Path, slider: gr.Slider | None) -> None:
    """Build the tab.

    Args:
        service: the models.
        samples: folder of recordings to click.
        slider: the visitor's own threshold, of the tab for the operating point; None: the model has no scores for it.
    """
    with gr.Row():
        first, second = audio_field("first"), audio_field("second")
    _sample_buttons(samples, first, second)
    point = _operating_points(service, slider)
    button = gr.Button(I18N("compare"), variant="primary", elem_id="compare")
    answer = gr.HTML(elem_id="answer", label=I18N("result"), padding=False)

    def compare(
        first_file: str | None, second_file: str | None, chosen: str, value: float | None, request: gr.Request
    ) -> str:
        language = language_of_request(request)
        try:
            result = service.compare(first_file, second_file, chosen or "eer", value, language)
        except Refusal as error:
            return refusal(error)
        return _answer(service, result, language)

    button.click(compare, [first, second, point, gr.State(None) if slider is None else slider], answer, **RUNS_MODEL)
    _add_api(service, first, second)


def _sample_buttons(samples: Path, first: gr.Audio, second: gr.Audio) -> None:
    with gr.Row(elem_classes="samples"):
        gr.Markdown(I18N("samples"))
        for key, pair in PAIRS.items():
            files = [str(samples / name) for name in pair]
            button = gr.Button(I18N(key), size="sm", min_width=120, elem_id=key)
            button.click(lambda files=files: files, None, [first, second], api_visibility="private")


def _operating_points(service: Service, slider: gr.Slider | None) -> gr.Radio:
    choices = [(I18N(f"point_{name}"), name) for name in service.points]
    if slider is not None:
        choices.append((I18N("point_slider"), "slider"))
    chosen = choices[0][1] if choices else None
    return gr.Radio(choices, value=chosen, label=I18N("point"), visible=bool(choices), elem_id="point")


def _add_api(service: Service, first: gr.Audio, second: gr.Audio) -> None:
    """Add `/verify` to the page's API. The docstring of `verify` is also the description of the MCP tool."""

    def verify(first: str, second: str, operating_point: str = "eer") -> dict[str, Any]:
        """Say whether two recordings are of one speaker.

        Args:
            first: A recording, wav, flac, ogg or mp3, at most 60 s.
            second: Another one.
            operating_point: eer, far_1_percent or far_0.1_percent.
        """
        if operating_point not in OPERATING_POINTS:
            raise gr.Error(
                f"operating_point is '{str(operating_point)[:40]}': use one of {', '.join(OPERATING_POINTS)}.",
                print_exception=False,
            )
        try:
            result = service.compare(first, second, operating_point, None, "en")
        except Refusal as error:
            raise gr.Error(str(error), print_exception=False) from None
        verdict = result.verdicts[0]
        return {
            "score": verdict.score,
            "same_speaker": {"same": True, "different": False, "undecided": None}[verdict.kind],
            "threshold": verdict.threshold,
            "llr": verdict.llr,
            "probability": verdict.probability,
            "warnings": list(result.warnings),
            "milliseconds": round(verdict.milliseconds, 1),
        }

    operating_point = gr.Textbox(value="eer", visible=False, label="operating_point")
    options = {name: value for name, value in RUNS_MODEL.items() if name != "api_visibility"}
    gr.Button(visible=False).click(
        verify, [first, second, operating_point], gr.JSON(visible=False), api_name="verify", **options
    )


def _answer(service: Service, result: Answer, language: str) -> str:
    texts, verdict = ANSWERS[language], result.verdicts[0]
    threshold = verdict.threshold
    beside = "" if threshold is None else f" · {texts['threshold']} {threshold:.2f}"
    numbers = f"{texts['score']} {verdict.score:.2f}{beside} · {texts['time']} {verdict.milliseconds:.0f} ms"
    if verdict.llr is not None and verdict.probability is not None:
        numbers = (
            f"{texts['probability']} {100 * verdict.probability:.0f} % · {texts['llr']} {verdict.llr:+.1f} · {numbers}"
        )
    summary = [panel(verdict.kind, texts[verdict.kind], numbers), warning_lines(result.warnings)]
    if len(result.verdicts) > 1:
        summary.append(_table(result, texts))
    pictures = [f'<div class="summary">{"".join(summary)}</div>']
    if service.thresholds is not None and service.thresholds.quantiles:
        picture = distributions(service.thresholds.quantiles, threshold, verdict.score, texts)
        pictures.append(figure(texts["distribution"], picture))
    for number, waveform in enumerate(result.waveforms, start=1):
        label = f"{texts['recording']} {number}"
        pictures.append(figure(label, recording(waveform, label, texts)))
    return f'<div class="answer pair" role="status" aria-live="polite">{"".join(pictures)}</div>'


def _table(result: Answer, texts: dict[str, str]) -> str:
    head = "".join(f"<th>{texts[name]}</th>" for name in ("model", "score", "decision", "time"))
    rows = "".join(
        f"<tr><td>{verdict.model}</td><td>{verdict.score:.2f}</td><td>{texts[verdict.kind]}</td>"
        f"<td>{verdict.milliseconds:.0f} ms</td></tr>"
        for verdict in result.verdicts
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
