"""Render the card of a classifier or a recogniser from the results of its run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..errors import printable
from ..files import read_json, whole_file
from ..model.companions_oskdft import CARD_NAME
from .card_facts import RESULTS_NAME
from .model_card import Statements, python_string, written_by_hand

TEMPLATE = Path(__file__).with_name("task_card_template.md")
METRICS = {"uar": "UAR", "macro_f1": "macro F1", "accuracy": "accuracy", "cer": "CER", "wer": "WER"}
SELECTION = {"selection_uar": "UAR", "selection_cer": "CER"}


def write_task_card(folder: str | Path, task: tuple[str, str], statements: Statements | None = None) -> None:
    """Write `README.md` beside a model of another task; a page that was written by hand stays.

    Args:
        folder: folder of a run, with `results.json`.
        task: `card_of_task` of the model: a sentence, and the pipeline of transformers.
        statements: licences.
    """
    if written_by_hand(folder):
        return
    page = render_task_card(read_json(Path(folder, RESULTS_NAME)), task, Path(folder).resolve().name, statements)
    with whole_file(Path(folder, CARD_NAME)) as file:
        file.write_text(page, encoding="utf-8")


def render_task_card(
    results: Mapping[str, Any], task: tuple[str, str], name: str, statements: Statements | None = None
) -> str:
    """Render the card: Markdown with YAML front matter.

    Args:
        results: content of `results.json`.
        task: as in `write_task_card`.
        name: of the model.
        statements: licences.
    """
    sentence, pipeline_tag = task
    statements, recipe, test = statements or Statements(), results["recipe"], results.get("test") or {}
    measured = [metric for metric in METRICS if metric in test]
    rows = [
        (METRICS[metric], *(100 * value for value in (test[metric], *_interval(test, metric)))) for metric in measured
    ]
    classes = [] if recipe["text_column"] else results["classes"]
    selection = [
        f"{label} {100 * results[key]:.1f} %" for key, label in SELECTION.items() if results.get(key) is not None
    ]
    card = ModelCard.from_template(
        _front_matter(results, pipeline_tag, name, statements, measured),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        **{key: results[key] for key in ("fingerprint", "encoders", "machine", "versions", "seed")},
        data=results["data"] | {"name": cell(results["data"]["name"])},
        title=printable(name),
        source=python_string(name),
        sentence=sentence,
        pipeline_tag=pipeline_tag,
        origin=results["teachers"]["student_from"],
        distilled_from=_distilled_from(results["teachers"]),
        column=cell(recipe["label_column"] or recipe["text_column"]),
        classes=[cell(name) for name in classes],
        rows=rows,
        test=test,
        confusions=list(zip(map(cell, test.get("classes", [])), test.get("confusion", []), strict=True)),
        selection=", ".join(selection),
        statements=statements,
    )
    return f"{card.content.rstrip()}\n"


def cell(text: str) -> str:
    """Write a name from the data for a page: nothing in it becomes markup or ends a cell of a table."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")


def _distilled_from(teachers: Mapping[str, Any]) -> list[str]:
    names = [teachers.get("hidden_states"), *teachers.get("embeddings", ())]
    return list(dict.fromkeys(filter(None, names)))


def _interval(test: Mapping[str, Any], metric: str) -> tuple[float, float]:
    low, high = test[f"{metric}_interval"]
    return low, high


def _front_matter(
    results: Mapping[str, Any], pipeline_tag: str, name: str, statements: Statements, measured: list[str]
) -> ModelCardData:
    """Make the YAML fields of the card that the Hub reads."""
    fields: dict[str, Any] = {"license": statements.license} if statements.license else {}
    origin = results["teachers"]["student_from"]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", origin):
        fields["base_model"] = origin
    if measured:
        fields["metrics"] = measured
        fields["eval_results"] = [_eval_result(results, pipeline_tag, metric) for metric in measured]
    tags = [pipeline_tag, "knowledge-distillation", "oskdft"]
    return ModelCardData(library_name="transformers", pipeline_tag=pipeline_tag, tags=tags, model_name=name, **fields)


def _eval_result(results: Mapping[str, Any], pipeline_tag: str, metric: str) -> EvalResult:
    """Make an entry of the front matter's `model-index`, with the 95 % interval."""
    test, data = results["test"], results["data"]["name"]
    return EvalResult(
        task_type=pipeline_tag,
        dataset_type=re.sub(r"[^\w./-]", "-", data),
        dataset_name=data,
        metric_type=metric,
        metric_name=f"{METRICS[metric]}, %",
        metric_value=round(100 * test[metric], 3),
        metric_args={
            "confidence_interval_95": [round(100 * value, 3) for value in _interval(test, metric)],
            "recordings": test["recordings"],
            "speakers": test["speakers"],
        },
    )
