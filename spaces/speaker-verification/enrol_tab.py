"""Build the tab that enrols voices and identifies a recording among them."""

import html
from typing import NamedTuple

import gradio as gr
from controls import I18N, RUNS_MODEL, HandlerResult, audio_field, language_of_request
from html_parts import note, panel, refusal, status, warning_lines
from service import Refusal, Service
from words import ANSWERS, LABELS

from modeling_oskdft.verification.enrolment import Match
from modeling_oskdft.verification.voices import VoiceStore

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
    voices = gr.State(VoiceStore(), time_to_live=VOICES_SECONDS)  # each visitor gets a copy
    with gr.Row():
        with gr.Column():
            enrolment = _enrolment_column()
        with gr.Column():
            probe = audio_field("probe")
            identify_button = gr.Button(I18N("identify_button"), variant="primary", elem_id="identify")
            identified = gr.HTML(elem_id="identified", label=I18N("identified"), padding=False)

    def enrol(known: VoiceStore, name: str, file: str | None, request: gr.Request) -> HandlerResult:
        language = language_of_request(request)
        try:
            names, warnings = service.enrol(known, name, file, LABELS[language]["enrolment"], language)
        except Refusal as error:
            return known, refusal(error), name, file
        return known, _enrolled(names, warnings, language), "", None

    def identify(known: VoiceStore, file: str | None, request: gr.Request) -> HandlerResult:
        language = language_of_request(request)
        try:
            matches, warnings = service.identify(known, file, LABELS[language]["probe"], language)
        except Refusal as error:
            return refusal(error), file
        return _identified(matches, warnings, service.threshold(), language), None

    def forget(request: gr.Request) -> HandlerResult:
        return VoiceStore(), note(ANSWERS[language_of_request(request)]["forgotten"]), ""

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


def _enrolled(voices: list[str], warnings: tuple[str, ...], language: str) -> str:
    names = "".join(f"<tr><td>{html.escape(name)}</td></tr>" for name in voices)
    head = f"<tr><th>{ANSWERS[language]['voices'].format(len(voices))}</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{names}</tbody></table>"
    return status(f"{warning_lines(warnings)}{table}")


def _identified(matches: tuple[Match, ...], warnings: tuple[str, ...], threshold: float | None, language: str) -> str:
    texts, best = ANSWERS[language], matches[0]
    numbers = f"{texts['score']} {best.score:.2f}"
    if best.probability is not None:
        # Of N voices each has the prior 1/N: the more voices, the nearer a stranger comes to one of them.
        kind, title = (
            ("same", texts["is"].format(best.name)) if best.probability >= 0.5 else ("different", texts["unknown"])
        )
        answer = panel(kind, title, f"{texts['probability']} {100 * best.probability:.0f} % · {numbers}")
    elif threshold is None:
        answer = panel("undecided", texts["closest"].format(best.name), numbers)
    else:
        is_known = best.score >= threshold
        kind, title = ("same", texts["is"].format(best.name)) if is_known else ("different", texts["unknown"])
        answer = panel(kind, title, f"{numbers} · {texts['threshold']} {threshold:.2f}")
    rows = "".join(f"<tr><td>{html.escape(match.name)}</td>{_cells(match)}</tr>" for match in matches)
    return status(f"{answer}{warning_lines(warnings)}<table><tbody>{rows}</tbody></table>")


def _cells(match: Match) -> str:
    odds = "" if match.llr is None else f"<td>{match.llr:+.1f}</td><td>{100 * (match.probability or 0):.0f} %</td>"
    return f"<td>{match.score:.2f}</td>{odds}"
