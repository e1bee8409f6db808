"""Build the tab that shows both error rates at a threshold."""

import html

import gradio as gr
from controls import I18N, language_of_request
from drawing import distributions
from html_parts import figure, panel, status
from service import Service
from words import ANSWERS

from modeling_oskdft.scoring.thresholds import Thresholds


def threshold_slider(service: Service) -> gr.Slider | None:
    """Make the slider of the tab, not shown yet; None where the model has no scores of validation trials."""
    if service.thresholds is None or not service.thresholds.quantiles:
        return None
    scores = service.thresholds.quantiles
    low = min(scores["non_target"][0], scores["target"][0])
    high = max(scores["non_target"][-1], scores["target"][-1])
    start = service.thresholds.values.get("eer")
    return gr.Slider(low, high, value=start, step=0.01, label=I18N("threshold"), elem_id="threshold", render=False)


def operating_tab(service: Service, tab: gr.Tab, slider: gr.Slider | None) -> None:
    """Build the tab.

    Args:
        service: the models.
        tab: the tab itself; the rates are computed when it is opened.
        slider: as `threshold_slider` made it.
    """
    thresholds = service.thresholds
    if slider is None or thresholds is None:
        gr.Markdown(I18N("no_distribution"))
        return
    gr.Markdown(I18N("operating_lead"))
    slider.render()
    rates = gr.HTML(elem_id="rates", label=I18N("rates"), padding=False)

    def show(threshold: float | None, request: gr.Request) -> str:
        return _rates(thresholds, 0.0 if threshold is None else threshold, language_of_request(request))

    gr.on(
        [tab.select, slider.change],
        show,
        slider,
        rates,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
    )


def _rates(thresholds: Thresholds, threshold: float, language: str) -> str:
    texts = ANSWERS[language]
    accepts, rejects = thresholds.false_accept_rate(threshold), thresholds.false_reject_rate(threshold)
    basis = texts["measured_on"].format(thresholds.trials, thresholds.speakers, thresholds.data)
    accepted = panel("different", _of_100(accepts, texts), texts["false_accepts"])
    rejected = panel("same", _of_100(rejects, texts), texts["false_rejects"])
    picture = distributions(thresholds.quantiles, threshold, None, texts)
    return status(
        f'<div class="pair">{accepted}{rejected}</div>{figure(texts["trials"], picture)}<p>{html.escape(basis)}</p>'
    )


def _of_100(share: float, texts: dict[str, str]) -> str:
    """Write a rate as errors of a hundred attempts, or of a thousand where they are rare."""
    if share < 0.01:
        return texts["of_1000"].format(f"{1000 * share:.0f}")
    return texts["of_100"].format(f"{100 * share:.0f}")
