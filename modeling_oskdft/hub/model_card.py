"""Render the card of a verifier from its facts, and read back what an earlier card holds.

The page is `card_template.md`, in Jinja. What was not measured is written as not measured.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..errors import printable
from ..files import whole_file
from ..model.companions_oskdft import CARD_NAME, OUR_CARD
from ..scoring.metrics import eer_in_percent
from ..scoring.thresholds import ENOUGH_SPEAKERS, SET_ASIDE
from .card_facts import collect_facts

TEMPLATE = Path(__file__).with_name("card_template.md")
KEPT = re.compile(r"^<!-- (\{\"repository\".*\}) -->$", re.MULTILINE)
OPERATING_POINTS = {"eer": "EER", "far_1_percent": "1 % false accepts", "far_0.1_percent": "0.1 % false accepts"}
TAGS = ["speaker-verification", "speaker-embeddings", "knowledge-distillation", "oskdft"]
# The Hub's list of tasks has none for speaker embeddings. For "audio-classification" it shows a `pipeline(...)`
# that fails for want of class scores, for "feature-extraction" one that fails for want of a tokenizer.
PIPELINE_TAG = "other"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Statements:
    """State what cannot be measured; where a field is empty, the card says that nothing was stated.

    Args:
        license: identifier of the student's licence, such as cc-by-sa-4.0.
        teacher_license: licence of the teacher, in words.
        data_license: licences of the training data, in words.
        notes: a paragraph of the publisher's own.
    """

    license: str = ""
    teacher_license: str = ""
    data_license: str = ""
    notes: str = ""


def write_card(
    folder: str | Path, name: str | None = None, statements: Statements | None = None, overwrite: bool = False
) -> Path:
    """Collect the facts of a verifier, render its card, and write it as `README.md`.

    Args:
        folder: folder of the saved verifier.
        name: org/name on the Hub, for the code that readers copy; default: the folder's name.
        statements: licences and notes.
        overwrite: replace a page that somebody wrote by hand as well.

    Returns:
        The path of the card.

    Raises:
        FileNotFoundError: as `collect_facts`.
        ValueError: for a page written by hand, unless `overwrite`; and as `collect_facts`.
    """
    target = Path(folder, CARD_NAME)
    if not overwrite and written_by_hand(folder):
        raise ValueError(f"'{target}' was written by hand: take it away, or ask for --overwrite.")
    page = render_record(record(folder, name, statements))
    with whole_file(target) as file:
        file.write_text(page, encoding="utf-8")
    return target


def record(folder: str | Path, repository: str | None = None, statements: Statements | None = None) -> dict[str, Any]:
    """Collect everything that a card is rendered from, as JSON to store; errors as in `collect_facts`."""
    stated = asdict(statements or Statements())
    return {"repository": repository, "statements": stated, "facts": collect_facts(folder)}


def render_record(stored: dict[str, Any]) -> str:
    """Render the card of a stored `record`."""
    return render(stored["facts"], stored["repository"], Statements(**stored["statements"]))


def render(facts: dict[str, Any], repository: str | None = None, statements: Statements | None = None) -> str:
    """Render a card: Markdown with YAML front matter.

    Args:
        facts: facts as `collect_facts` returns them.
        repository: org/name on the Hub; default: the name of the folder.
        statements: licences and notes.

    Returns:
        The text of the page.
    """
    statements = statements or Statements()
    name = repository or facts["name"]
    title = printable(name.rsplit("/", 1)[-1])
    encoders, thresholds, calibration = facts["encoders"] or {}, facts["thresholds"], facts.get("calibration")
    card = ModelCard.from_template(
        _front_matter(facts, title, statements),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        **facts,
        title=title,
        source=python_string(name),
        statements=statements,
        teacher_cost=encoders.get("teacher", {}),
        student_cost=encoders.get("student", {}),
        thresholds_are_of_training=bool(thresholds) and thresholds["data"].endswith(SET_ASIDE),
        calibration_is_of_training=(calibration or {"data": ""})["data"].endswith(SET_ASIDE),
        thresholds_have_few_speakers=bool(thresholds) and thresholds["speakers"] < ENOUGH_SPEAKERS,
        groups_of_speakers=_groups_of_speakers(facts["data"] or {}),
        recipe_fields=_recipe_fields(facts["recipe"] or {}),
        operating_points=OPERATING_POINTS,
        all_teachers=", ".join(_all_teachers(facts)),
        count=_count,
        milliseconds=_milliseconds,
        change=_change,
        eer=lambda report: eer_in_percent(report, 2),
        min_dcf=_min_dcf,
        kept=_kept(repository, statements),
    )
    return f"{card.content.rstrip()}\n"


def _all_teachers(facts: dict[str, Any]) -> list[str]:
    """Name the encoder that the student was cut from, and then every model that it was distilled from, once."""
    teachers = facts.get("teachers") or {}
    names = [facts["teacher"]["name"] or "the teacher", teachers.get("hidden_states"), *teachers.get("embeddings", ())]
    return list(dict.fromkeys(filter(None, names)))


def _front_matter(facts: dict[str, Any], title: str, statements: Statements) -> ModelCardData:
    """Make the YAML fields of the card that the Hub reads."""
    teacher, test = facts["teacher"]["name"], facts["test"]
    fields: dict[str, Any] = {"license": statements.license} if statements.license else {}
    if teacher and re.fullmatch(r"[\w.-]+/[\w.-]+", teacher):
        fields["base_model"] = teacher
    if test:
        fields["metrics"] = ["eer", "min_dcf"]
        fields["eval_results"] = [
            _eval_result(test, "eer", "EER, %", 100),
            _eval_result(test, "min_dcf", "minDCF (p_target 0.01)", 1),
        ]
    return ModelCardData(library_name="transformers", pipeline_tag=PIPELINE_TAG, tags=TAGS, model_name=title, **fields)


def _eval_result(test: dict[str, Any], metric: str, label: str, scale: int) -> EvalResult:
    """Make an entry of the front matter's `model-index`, with the 95 % interval."""
    value, low, high = (round(scale * test[f"{metric}{end}"], 3) for end in ("", "_low", "_high"))
    name = test.get("name")
    return EvalResult(
        task_type="speaker-verification",
        task_name="Speaker verification",
        dataset_type=re.sub(r"[^\w./-]", "-", name or "trials"),
        dataset_name=name or "a trial list",
        metric_type=metric,
        metric_name=label,
        metric_value=value,
        metric_args={
            "confidence_interval_95": [low, high],
            "trials": test["trials"],
            "speakers": test["speakers"],
        },
    )


def python_string(text: str) -> str:
    """Write `text` as a literal of Python in double quotes, whatever letters it has."""
    literal = json.dumps(text, ensure_ascii=False)
    return literal.encode("utf-8", "backslashreplace").decode()  # bytes of a path that are no UTF-8


# ---- cells and lines of the template --------------------------------------------------------------------------------
# A number that the record lacks comes as None, or as an undefined value of Jinja.


def _count(number: object) -> str:
    return f"{number:,}" if isinstance(number, int | float) else NOT_MEASURED


def _milliseconds(number: object) -> str:
    return f"{number:.1f}" if isinstance(number, int | float) else NOT_MEASURED


def _change(before: object, after: object) -> str:
    if isinstance(before, int | float) and isinstance(after, int | float) and before:
        return f"{after / before - 1:+.0%}"
    return "–"


def _min_dcf(report: dict[str, Any]) -> str:
    return f"{report['min_dcf']:.3f} ({report['min_dcf_low']:.3f}–{report['min_dcf_high']:.3f})"


def _groups_of_speakers(data: dict[str, Any]) -> str:
    """Write how many speakers the training data have by language and gender."""
    groups = [
        f"{column}: " + ", ".join(f"{group} {speakers}" for group, speakers in data[column].items())
        for column in ("language", "gender")
        if column in data
    ]
    return f"Speakers by {'; by '.join(groups)}." if groups else "Their languages and genders are not recorded."


def _recipe_fields(recipe: dict[str, Any]) -> str:
    """List the fields of a recipe that are in effect."""
    shown = {name: value for name, value in recipe.items() if value not in (None, False, 0, 0.0, [])}
    return ", ".join(f"`{name}: {value}`" for name, value in shown.items())


# ---- reading an earlier card ----------------------------------------------------------------------------------------


def _kept(repository: str | None, statements: Statements) -> str:
    """Write name and statements as a comment, for a later card of the same verifier under another name."""
    kept = json.dumps({"repository": repository, "statements": asdict(statements)})
    return kept.replace("--", "-\\u002d")  # "--" would end the comment


def read_statements(folder: str | Path) -> tuple[str | None, Statements] | None:
    """Read for which repository the card of a folder was written, and what was stated in it.

    Returns:
        Repository and statements; None where there is no card of ours.
    """
    match = KEPT.search(_read_card(folder))
    if match is None:
        return None
    kept = json.loads(match[1])
    return kept["repository"], Statements(**kept["statements"])


def written_by_hand(folder: str | Path) -> bool:
    """Tell whether the folder has a page that `write_card` did not write."""
    return Path(folder, CARD_NAME).is_file() and not OUR_CARD.search(_read_card(folder))


def is_card_of_others(folder: str | Path, fingerprint: str) -> bool:
    """Tell whether the folder has a card of ours for other weights; a page written by hand gives False.

    Args:
        folder: folder of a saved verifier.
        fingerprint: fingerprint of its weights.
    """
    match = OUR_CARD.search(_read_card(folder))
    return match is not None and fingerprint not in match[0]


def _read_card(folder: str | Path) -> str:
    """Read the text of a folder's card; empty where there is none."""
    path = Path(folder, CARD_NAME)
    return path.read_text(encoding="utf-8") if path.is_file() else ""
