"""A page that says whether two recordings are of one speaker. Start it with `make space`, or `python app.py`."""

import html
import importlib.util
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

# Before Gradio reads it: what visitors send lies in memory where the system has a folder there.
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
_UPLOADS = tempfile.TemporaryDirectory(prefix=f"oskdft-{os.getpid()}-", dir=_MEMORY)
os.environ["GRADIO_TEMP_DIR"] = _UPLOADS.name
MOST_MINUTES = 10  # that a recording stays there
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import torch
from starlette.middleware import Middleware

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from drawing import distributions, recording
from limits import Limits, fetch_nothing
from samples import PAIRS, write_samples
from service import DEFAULT_MODEL, MOST_BYTES, Answer, Refusal, Service, open_service
from words import LABELS, SAID, language_of

from modeling_oskdft.scoring.thresholds import OPERATING_POINTS

I18N = gr.I18n(**LABELS)
THEME = gr.themes.Soft(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)
Handler = tuple[Any, ...]
# Gradio shows an audio field's label without saying to a screen reader what it is the label of.
NAME_GROUPS = """() => {
    for (const block of document.querySelectorAll('.audio-field')) {
        block.setAttribute('role', 'group');
        block.setAttribute('aria-label', block.querySelector('label').innerText.trim());
    }
}"""


def build(service: Service, samples: Path) -> gr.Blocks:
    """The page of a service. samples: folder of recordings to click."""
    with gr.Blocks(title="Speaker verification", analytics_enabled=False) as page:
        with gr.Column(elem_classes="lead"):
            gr.Markdown(I18N("title"), elem_classes="title", elem_id="title")
            gr.Markdown(I18N("lead"))
            if service.name == DEFAULT_MODEL:
                gr.Markdown(I18N("synthetic"))
        slider = _slider(service)
        with gr.Tab(I18N("verify"), id="verify"):
            _verify_tab(service, samples, slider)
        with gr.Tab(I18N("enrol"), id="enrol") as enrol:
            _enrol_tab(service)
        with gr.Tab(I18N("operating"), id="operating") as operating:
            _operating_tab(service, operating, slider)
        with gr.Tab(I18N("about"), id="about"):
            gr.Markdown(service.card(), sanitize_html=True)
        gr.on([page.load, enrol.select], js=NAME_GROUPS, api_visibility="private")
    return page


def _audio(label: str, name: str) -> gr.Audio:
    # As a file: libsndfile reads what is sent, without ffmpeg.
    return gr.Audio(
        label=I18N(label),
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=[],
        min_width=300,  # one below the other on a telephone
        elem_id=name,
        elem_classes="audio-field",
    )


# ---- verify ---------------------------------------------------------------------------------------------------------


def _verify_tab(service: Service, samples: Path, slider: gr.Slider | None) -> None:
    with gr.Row():
        first, second = _audio("first", "first"), _audio("second", "second")
    with gr.Row(elem_classes="samples"):
        gr.Markdown(I18N("samples"))
        for key, pair in PAIRS.items():
            files = [str(samples / name) for name in pair]
            sample = gr.Button(I18N(key), size="sm", min_width=120, elem_id=key)
            sample.click(lambda files=files: files, None, [first, second], api_visibility="private")
    choices = [(I18N(f"point_{name}"), name) for name in service.points]
    if slider is not None:
        choices.append((I18N("point_slider"), "slider"))
    point = gr.Radio(
        choices, value=choices[0][1] if choices else None, label=I18N("point"), visible=bool(choices), elem_id="point"
    )
    button = gr.Button(I18N("compare"), variant="primary", elem_id="compare")
    answer = gr.HTML(elem_id="answer", label=I18N("result"), padding=False)

    def compare(one: str | None, other: str | None, chosen: str, value: float | None, request: gr.Request) -> str:
        language = _language(request)
        try:
            return _answer(service, service.compare(one, other, chosen or "eer", value, language), language)
        except Refusal as sentence:
            return _refusal(sentence)

    inputs = [first, second, point, slider if slider is not None else gr.State(None)]
    button.click(compare, inputs, answer, api_visibility="private", concurrency_id="model", concurrency_limit=2)

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
            found = service.compare(first, second, operating_point, None, "en")
        except Refusal as sentence:
            raise gr.Error(str(sentence), print_exception=False) from None
        verdict = found.verdicts[0]
        decided = {"same": True, "different": False, "undecided": None}[verdict.kind]
        result = {"score": verdict.score, "same_speaker": decided, "threshold": verdict.threshold}
        return result | {"warnings": list(found.warnings), "milliseconds": round(verdict.milliseconds, 1)}

    wanted = gr.Textbox(value="eer", visible=False, label="operating_point")
    gr.Button(visible=False).click(
        verify,
        [first, second, wanted],
        gr.JSON(visible=False),
        api_name="verify",
        concurrency_id="model",
        concurrency_limit=2,
    )


def _answer(service: Service, found: Answer, language: str) -> str:
    said, verdict = SAID[language], found.verdicts[0]
    threshold = verdict.threshold
    against = "" if threshold is None else f" · {said['threshold']} {threshold:.2f}"
    numbers = f"{said['score']} {verdict.score:.2f}{against} · {said['time']} {verdict.milliseconds:.0f} ms"
    summary = [_panel(verdict.kind, said[verdict.kind], numbers), _warnings(found.warnings)]
    if len(found.verdicts) > 1:
        summary.append(_table(found, said))
    pictures = [f'<div class="summary">{"".join(summary)}</div>']
    if service.thresholds is not None and service.thresholds.quantiles:
        picture = distributions(service.thresholds.quantiles, threshold, verdict.score, said)
        pictures.append(_figure(said["distribution"], picture))
    for number, waveform in enumerate(found.waveforms, start=1):
        label = f"{said['recording']} {number}"
        pictures.append(_figure(label, recording(waveform, label, said)))
    return f'<div class="answer pair" role="status" aria-live="polite">{"".join(pictures)}</div>'


def _table(found: Answer, said: dict[str, str]) -> str:
    head = "".join(f"<th>{said[name]}</th>" for name in ("model", "score", "decision", "time"))
    rows = "".join(
        f"<tr><td>{one.model}</td><td>{one.score:.2f}</td><td>{said[one.kind]}</td>"
        f"<td>{one.milliseconds:.0f} ms</td></tr>"
        for one in found.verdicts
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _figure(caption: str, picture: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{picture}</figure>"


def _panel(kind: str, title: str, text: str) -> str:
    return f'<div class="verdict {kind}"><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p></div>'


def _refusal(sentence: Refusal) -> str:
    return (
        '<div class="answer" role="alert"><div class="verdict refusal">'
        f"<p>{html.escape(str(sentence))}</p></div></div>"
    )


# ---- enrol and identify ---------------------------------------------------------------------------------------------


def _enrol_tab(service: Service) -> None:
    gr.Markdown(I18N("enrol_lead"))
    voices = gr.State({}, time_to_live=3600)
    with gr.Row():
        with gr.Column():
            name = gr.Textbox(label=I18N("name"), max_lines=1, max_length=100, elem_id="name")
            enrolment = _audio("enrolment", "enrolment")
            enrol_button = gr.Button(I18N("enrol_button"), variant="primary", elem_id="enrol")
            enrolled = gr.HTML(elem_id="enrolled", label=I18N("enrolled"), padding=False)
            forget_button = gr.Button(I18N("forget"), variant="stop", elem_id="forget")
        with gr.Column():
            probe = _audio("probe", "probe")
            identify_button = gr.Button(I18N("identify_button"), variant="primary", elem_id="identify")
            identified = gr.HTML(elem_id="identified", label=I18N("identified"), padding=False)

    def enrol(known: dict[str, Any], called: str, file: str | None, request: gr.Request) -> Handler:
        language = _language(request)
        try:
            known, found = service.enrol(known, called, file, LABELS[language]["enrolment"], language)
        except Refusal as sentence:
            return known, _refusal(sentence), called, file
        return known, _enrolled(known, found, language), "", None

    def identify(known: dict[str, Any], file: str | None, request: gr.Request) -> Handler:
        language = _language(request)
        try:
            ranking, found = service.identify(known, file, LABELS[language]["probe"], language)
        except Refusal as sentence:
            return _refusal(sentence), file
        return _identified(ranking, found, service.threshold("eer"), language), None

    def forget(request: gr.Request) -> Handler:
        return {}, _note(SAID[_language(request)]["forgotten"]), ""

    words: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 2}
    enrol_button.click(enrol, [voices, name, enrolment], [voices, enrolled, name, enrolment], **words)
    identify_button.click(identify, [voices, probe], [identified, probe], **words)
    forget_button.click(forget, None, [voices, enrolled, identified], api_visibility="private")


def _enrolled(voices: dict[str, Any], found: tuple[str, ...], language: str) -> str:
    names = "".join(f"<tr><td>{html.escape(one)}</td></tr>" for one in voices)
    head = f"<tr><th>{SAID[language]['voices'].format(len(voices))}</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{names}</tbody></table>"
    return f'<div class="answer" role="status">{_warnings(found)}{table}</div>'


def _identified(
    ranking: list[tuple[str, float]], found: tuple[str, ...], threshold: float | None, language: str
) -> str:
    said, (best, score) = SAID[language], ranking[0]
    if threshold is None:
        panel = _panel("undecided", said["closest"].format(best), f"{said['score']} {score:.2f}")
    else:
        kind, title = ("same", said["is"].format(best)) if score >= threshold else ("different", said["unknown"])
        panel = _panel(kind, title, f"{said['score']} {score:.2f} · {said['threshold']} {threshold:.2f}")
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value:.2f}</td></tr>" for name, value in ranking)
    table = f"<table><tbody>{rows}</tbody></table>"
    return f'<div class="answer" role="status">{panel}{_warnings(found)}{table}</div>'


def _warnings(found: tuple[str, ...]) -> str:
    return "".join(f'<p class="warning">{html.escape(one)}</p>' for one in found)


def _note(sentence: str) -> str:
    return f'<div class="answer" role="status"><p>{html.escape(sentence)}</p></div>'


# ---- the operating point --------------------------------------------------------------------------------------------


def _slider(service: Service) -> gr.Slider | None:
    if service.thresholds is None or not service.thresholds.quantiles:
        return None
    scores = service.thresholds.quantiles
    low = min(scores["non_target"][0], scores["target"][0])
    high = max(scores["non_target"][-1], scores["target"][-1])
    start = service.threshold("eer")
    return gr.Slider(low, high, value=start, step=0.01, label=I18N("threshold"), elem_id="threshold", render=False)


def _operating_tab(service: Service, tab: gr.Tab, slider: gr.Slider | None) -> None:
    if slider is None:
        gr.Markdown(I18N("no_distribution"))
        return
    gr.Markdown(I18N("operating_lead"))
    slider.render()
    rates = gr.HTML(elem_id="rates", label=I18N("rates"), padding=False)

    def show(threshold: float, request: gr.Request) -> str:
        return _rates(service, threshold, _language(request))

    words: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
    gr.on([tab.select, slider.change], show, slider, rates, **words)


def _rates(service: Service, threshold: float, language: str) -> str:
    said, thresholds = SAID[language], service.thresholds
    assert thresholds is not None
    accepts, rejects = thresholds.false_accept_rate(threshold), thresholds.false_reject_rate(threshold)
    basis = said["measured_on"].format(thresholds.trials, thresholds.speakers, thresholds.data)
    parts = [
        f'<div class="pair">{_panel("different", f"{100 * accepts:.1f} %", said["false_accepts"])}'
        f"{_panel('same', f'{100 * rejects:.1f} %', said['false_rejects'])}</div>",
        _figure(said["trials"], distributions(thresholds.quantiles, threshold, None, said)),
        f"<p>{html.escape(basis)}</p>",
    ]
    return f'<div class="answer" role="status">{"".join(parts)}</div>'


def _language(request: gr.Request | None) -> str:
    return language_of(request.headers.get("accept-language")) if request is not None else "en"


def forget_old_recordings(folder: Path, seconds: float) -> None:
    """Remove every file below `folder` that is older, also what an upload that broke off has left."""
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            try:
                if time.time() - file.stat().st_mtime > seconds:
                    file.unlink()
            except OSError:  # another one was faster
                continue


def _keep_forgetting() -> None:
    while True:
        time.sleep(30)
        try:
            forget_old_recordings(Path(_UPLOADS.name), 60 * MOST_MINUTES)
        except Exception as error:  # whatever it is, the next round must come
            print(f"Recordings could not be removed ({error}).", file=sys.stderr, flush=True)


def main() -> None:
    """Open the model, write the samples, serve."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an exit that removes the recordings
    threading.Thread(target=_keep_forgetting, daemon=True).start()
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
            app_kwargs={"middleware": [Middleware(Limits, folder=Path(_UPLOADS.name), recording=MOST_BYTES)]},
            ssr_mode=False,
            show_error=True,
            allowed_paths=[folder],
            footer_links=["api"],
            mcp_server=importlib.util.find_spec("mcp") is not None,
        )


if __name__ == "__main__":
    main()
