"""Build the tab that enrols voices and identifies a recording among them."""

import html
from typing import Any, NamedTuple

import gradio as gr
from controls import I18N, RUNS_MODEL, HandlerResult, audio_field, language_of_request
from html_parts import note, panel, refusal, status, warning_lines
from service import Refusal, Service
from words import ANSWERS, LABELS

VOICES_SECONDS = 3600  # that enrolled voices live in a visitor's session


class _Enrolment(NamedTuple):
    """The controls of the left column."""

    name: gr.Textbox
    recording: gr.Audio
    button: gr.Button
    answer: gr.HTML
    forget: gr.Button


def enrol_tab(service: Service) -> None:
    """Build the tab; a visitor's voices lie in the visitor's own session."""
    gr.Markdown(I18N("enrol_lead"))
    voices = gr.State({}, time_to_live=VOICES_SECONDS)
    with gr.Row():
        with gr.Column():
            enrolment = _enrolment_column()
        with gr.Column():
            probe = audio_field("probe")
            identify_button = gr.Button(I18N("identify_button"), variant="primary", elem_id="identify")
            identified = gr.HTML(elem_id="identified", label=I18N("identified"), padding=False)

    def enrol(known: dict[str, Any], name: str, file: str | None, request: gr.Request) -> HandlerResult:
        language = language_of_request(request)
        try:
            known, warnings = service.enrol(known, name, file, LABELS[language]["enrolment"], language)
        except Refusal as error:
            return known, refusal(error), name, file
        return known, _enrolled(known, warnings, language), "", None

    def identify(known: dict[str, Any], file: str | None, request: gr.Request) -> HandlerResult:
        language = language_of_request(request)
        try:
            ranking, warnings = service.identify(known, file, LABELS[language]["probe"], language)
        except Refusal as error:
            return refusal(error), file
        return _identified(ranking, warnings, service.threshold("eer"), language), None

    def forget(request: gr.Request) -> HandlerResult:
        return {}, note(ANSWERS[language_of_request(request)]["forgotten"]), ""

    inputs = [voices, enrolment.name, enrolment.recording]
    enrolment.button.click(
        enrol, inputs, [voices, enrolment.answer, enrolment.name, enrolment.recording], **RUNS_MODEL
    )
    identify_button.click(identify, [voices, probe], [identified, probe], **RUNS_MODEL)
    enrolment.forget.click(forget, None, [voices, enrolment.answer, identified], api_visibility="private")


def _enrolment_column() -> _Enrolment:
    return _Enrolment(
        name=gr.Textbox(label=I18N("name"), max_lines=1, max_length=100, elem_id="name"),
        recording=audio_field("enrolment"),
        button=gr.Button(I18N("enrol_button"), variant="primary", elem_id="enrol"),
        answer=gr.HTML(elem_id="enrolled", label=I18N("enrolled"), padding=False),
        forget=gr.Button(I18N("forget"), variant="stop", elem_id="forget"),
    )


def _enrolled(voices: dict[str, Any], warnings: tuple[str, ...], language: str) -> str:
    names = "".join(f"<tr><td>{html.escape(name)}</td></tr>" for name in voices)
    head = f"<tr><th>{ANSWERS[language]['voices'].format(len(voices))}</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{names}</tbody></table>"
    return status(f"{warning_lines(warnings)}{table}")


def _identified(
    ranking: list[tuple[str, float]], warnings: tuple[str, ...], threshold: float | None, language: str
) -> str:
    texts, (best, score) = ANSWERS[language], ranking[0]
    if threshold is None:
        answer = panel("undecided", texts["closest"].format(best), f"{texts['score']} {score:.2f}")
    else:
        kind, title = ("same", texts["is"].format(best)) if score >= threshold else ("different", texts["unknown"])
        answer = panel(kind, title, f"{texts['score']} {score:.2f} · {texts['threshold']} {threshold:.2f}")
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value:.2f}</td></tr>" for name, value in ranking)
    return status(f"{answer}{warning_lines(warnings)}<table><tbody>{rows}</tbody></table>")
