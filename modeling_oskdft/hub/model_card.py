"""The card of a verifier: facts gathered from its folder, and the page that is rendered from them.

`gather` reads what training has measured and runs the example; its result is plain JSON, from which `render` makes the
same page at any time. What was not measured is said not to be.
"""

import json
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..audio.loading import SAMPLING_RATE, AudioSource
from ..embedding.opening import open_verifier
from ..files import read_json, whole_file
from ..scoring.metrics import eer_in_percent
from ..scoring.thresholds import ENOUGH_SPEAKERS, SET_ASIDE, THRESHOLDS_NAME, Thresholds

CARD_NAME = "README.md"
RESULTS_NAME = "results.json"
TEMPLATE = Path(__file__).with_name("card_template.md")
KEPT = re.compile(r"^<!-- (\{\"repository\".*\}) -->$", re.MULTILINE)
MARK = re.compile(r"Of the weights ([0-9a-f]{64})\.")
FAMILIES = {"hubert": "HuBERT", "wav2vec2": "wav2vec 2.0", "wavlm": "WavLM"}
HEADS = {"ecapa_tdnn": "ECAPA-TDNN", "statistics_pooling": "statistics pooling and a linear layer"}
POINTS = {"eer": "the EER", "far_1_percent": "1 % false accepts", "far_0.1_percent": "0.1 % false accepts"}
EXAMPLE = """from modeling_oskdft import SpeakerVerifier

verifier = SpeakerVerifier.from_pretrained({name})
result = verifier.verify("a.flac", "b.flac")
print(result.same_speaker, round(result.score, 2))"""
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Statements:
    """What nobody can measure: said by those who publish. Empty: the card says that it was not stated.

    license: identifier of the student's licence, such as cc-by-sa-4.0. teacher_license, data_license: of what it was
    made from, in words. notes: a paragraph of their own.
    """

    license: str = ""
    teacher_license: str = ""
    data_license: str = ""
    notes: str = ""


def gather(folder: str | Path) -> dict[str, Any]:
    """What is known of a saved verifier: its shape, size, thresholds, `results.json` of training where it is there.

    The example of the card is run on the way. Raises `ValueError` and `OSError` for what cannot be opened.
    """
    place = Path(folder)
    verifier, _ = open_verifier(str(place))
    config, encoder = verifier.config, verifier.config.encoder_config
    own = verifier.fingerprint()
    results = _json(place / RESULTS_NAME)
    thresholds = Thresholds.load(place / THRESHOLDS_NAME) if (place / THRESHOLDS_NAME).is_file() else None
    if results.get("fingerprint") != own:  # what was measured of other weights was not measured of these
        results = {}
    if thresholds is not None and thresholds.fingerprint != own:
        thresholds = None
    return {
        "name": place.resolve().name,
        "fingerprint": own,
        "student": {
            "family": FAMILIES[encoder.model_type],
            "layers": encoder.num_hidden_layers,
            "hidden_size": encoder.hidden_size,
            "adapter_size": config.adapter_size,
            "head": HEADS[config.head_type],
            "embedding_size": config.embedding_size,
            "parameters": verifier.num_parameters(),
            "encoder_parameters": verifier.oskdft.num_parameters(),
            "bytes": sum(file.stat().st_size for file in place.glob("model*.safetensors")),
        },
        "teacher": {"name": config.teacher_name_or_path, "layers": config.teacher_layers},
        "thresholds": thresholds and {k: v for k, v in asdict(thresholds).items() if k != "quantiles"},
        "selection_eer": results.get("selection_eer"),
        "example": run_example(place),
        **{name: results.get(name) for name in ("encoders", "data", "recipe", "test", "seed", "steps")},
        **{name: results.get(name) for name in ("seconds", "machine", "versions")},
    }


def record(folder: str | Path, repository: str | None = None, statements: Statements | None = None) -> dict[str, Any]:
    """Everything that a card is rendered from, as JSON to store; errors as in `gather`."""
    said = asdict(statements or Statements())
    return {"repository": repository, "statements": said, "facts": gather(folder)}


def render_record(stored: dict[str, Any]) -> str:
    """The page of what `record` has stored."""
    return render(stored["facts"], stored["repository"], Statements(**stored["statements"]))


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}): take it away, or train again.") from None


def run_example(folder: Path) -> str:
    """What the card's lines of code print, for two recordings of one made-up voice.

    The same calls, as a function: what a folder is called must never become code.
    """
    import numpy as np

    from ..audio.synthetic_voices import draw_session, draw_voice, synthesise
    from ..verification.verifier import SpeakerVerifier

    voice = draw_voice(np.random.default_rng(7))
    recordings: list[AudioSource] = []
    for number in range(2):
        generator = np.random.default_rng([7, number])
        waveform = synthesise(voice, draw_session(generator), 4.0, generator)
        recordings.append((np.round(waveform * 2**15).astype(np.float32) / 2**15, SAMPLING_RATE))  # as a file holds it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = SpeakerVerifier.from_pretrained(folder).verify(recordings[0], recordings[1])
    return f"{result.same_speaker} {round(result.score, 2)}"


def write_card(
    folder: str | Path, name: str | None = None, statements: Statements | None = None, overwrite: bool = False
) -> Path:
    """Gather, render, and write `README.md`; returns its path.

    name: org/name on the Hub, for the code that readers copy (default: the folder's name). A page that somebody wrote
    by hand is not replaced unless `overwrite`: `ValueError`.
    """
    target = Path(folder, CARD_NAME)
    if not overwrite and written_by_hand(folder):
        raise ValueError(f"'{target}' was written by hand: take it away, or ask for --overwrite.")
    page = render_record(record(folder, name, statements))
    with whole_file(target) as file:
        file.write_text(page, encoding="utf-8")
    return target


def written_by_hand(folder: str | Path) -> bool:
    """Whether there is a page that `write_card` did not write."""
    target = Path(folder, CARD_NAME)
    return target.is_file() and not MARK.search(target.read_text(encoding="utf-8"))


def is_of(folder: str | Path, fingerprint: str) -> bool:
    """Whether the card there, if we wrote it, is of these weights; of others' cards nobody can tell."""
    target = Path(folder, CARD_NAME)
    found = MARK.search(target.read_text(encoding="utf-8")) if target.is_file() else None
    return found is None or found[1] == fingerprint


def render(facts: dict[str, Any], repository: str | None = None, statements: Statements | None = None) -> str:
    """The page, Markdown with its YAML front matter, from what `gather` found."""
    said = statements or Statements()
    name = repository or facts["name"]
    student = facts["student"]
    card = ModelCard.from_template(
        _front_matter(facts, name, said),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        name=name.rsplit("/", 1)[-1],
        repository=name,
        fingerprint=facts["fingerprint"],
        student=student,
        summary=_summary(facts, said),
        example={"code": EXAMPLE.format(name=json.dumps(name)), "output": facts["example"]},
        system_table=_system_table(facts),
        system_note=_measured_on(
            facts, "Encoder time is of 3 s of audio on one thread, teacher and student in one run"
        ),
        results_table=_results_table(facts),
        results_note=_results_note(facts),
        thresholds_table=_thresholds_table(facts["thresholds"]),
        thresholds_note=_thresholds_note(facts),
        training=_training(facts),
        bias=_bias(facts["test"]),
        licences=_licences(facts, said),
    )
    # For whoever writes the page again under another name; "--" would end the comment.
    kept = json.dumps({"repository": repository, "statements": asdict(said)}).replace("--", "-\\u002d")
    return f"{card.content.rstrip()}\n\n<!-- {kept} -->\n"


def stated(folder: str | Path) -> tuple[str | None, Statements] | None:
    """For which repository the card there was written and what was stated in it; None for no card of ours."""
    target = Path(folder, CARD_NAME)
    found = KEPT.search(target.read_text(encoding="utf-8")) if target.is_file() else None
    if found is None:
        return None
    kept = json.loads(found[1])
    return kept["repository"], Statements(**kept["statements"])


def _front_matter(facts: dict[str, Any], name: str, said: Statements) -> ModelCardData:
    teacher, test = facts["teacher"]["name"], facts["test"]
    fields: dict[str, Any] = {"license": said.license} if said.license else {}
    if teacher and re.fullmatch(r"[\w.-]+/[\w.-]+", teacher):
        fields["base_model"] = teacher
    results = []
    if test:
        size = {"trials": test["trials"], "speakers": test["speakers"]}
        for metric, label, scale in (("eer", "EER, %", 100), ("min_dcf", "minDCF (p_target 0.01)", 1)):
            value, low, high = (round(scale * test[f"{metric}{end}"], 3) for end in ("", "_low", "_high"))
            results.append(
                EvalResult(
                    task_type="audio-classification",
                    task_name="Speaker verification",
                    dataset_type=re.sub(r"[^\w./-]", "-", test.get("name") or "trials"),
                    dataset_name=test.get("name") or "a trial list",
                    metric_type=metric,
                    metric_name=label,
                    metric_value=value,
                    metric_args={"confidence_interval_95": [low, high], **size},
                )
            )
        fields["metrics"] = ["eer", "min_dcf"]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["speaker-verification", "speaker-embeddings", "knowledge-distillation", "oskdft"],
        model_name=name.rsplit("/", 1)[-1],
        eval_results=results or None,
        **fields,
    )


def _summary(facts: dict[str, Any], said: Statements) -> str:
    student, teacher = facts["student"], facts["teacher"]
    recipe = facts["recipe"]
    began = "cut from"
    if recipe and recipe.get("student_start") == "random_weights":
        began = "distilled from" if recipe["kd_weight"] else "of the layers of"
    of = f" {began} {teacher['name']}" if teacher["name"] else ""
    lines = f"A speaker verifier: a {student['family']} encoder of {student['layers']} layers{of}."
    if recipe is not None:
        lines += " One-step distillation and fine-tuning (OS-KDFT)." if recipe["kd_weight"] else " Fine-tuning."
    return f"{lines}\n\n{said.notes}" if said.notes else lines


def _system_table(facts: dict[str, Any]) -> str:
    student, encoders, teacher = facts["student"], facts["encoders"], facts["teacher"]
    before = encoders["teacher"] if encoders else {}

    def row(label: str, old: float | None, new: float | None, form: str) -> str:
        cells = [NOT_MEASURED if value is None else form.format(value) for value in (old, new)]
        change = f"{new / old - 1:+.0%}" if old and new else "–"
        return f"| {label} | {cells[0]} | {cells[1]} | {change} |"

    time = {name: encoders[name]["encoder_milliseconds"] if encoders else None for name in ("teacher", "student")}
    return "\n".join(
        [
            f"|  | teacher ({teacher['name'] or 'not stated'}) | this model | change |",
            "| --- | ---: | ---: | ---: |",
            row("encoder parameters", before.get("encoder_parameters"), student["encoder_parameters"], "{:,}"),
            row("encoder time for 3 s, ms", time["teacher"], time["student"], "{:.1f}"),
            f"| parameters with the head | – | {student['parameters']:,} | – |",
            f"| file, MB | – | {student['bytes'] / 1e6:.2f} | – |",
            f"| layers | teacher's {_numbers(teacher['layers'])} | {student['layers']} of width "
            f"{student['hidden_size']} | – |",
            f"| adapters | – | {student['adapter_size'] or 'none'}{' wide' if student['adapter_size'] else ''} | – |",
            f"| head | – | {student['head']} | – |",
        ]
    )


def _numbers(values: list[int] | None) -> str:
    return ", ".join(str(one) for one in values) if values else "layers are not stated"


def _measured_on(facts: dict[str, Any], what: str) -> str:
    if not facts["encoders"] or not facts["machine"]:
        return "Size and time of the teacher were not measured."
    versions = facts["versions"]
    return (
        f"{what}: {facts['machine']['cpu']}, torch {versions['torch']}, transformers {versions['transformers']}. The "
        "teacher is counted without a head."
    )


def _cost(report: dict[str, Any]) -> str:
    return f"{report['min_dcf']:.3f} ({report['min_dcf_low']:.3f}–{report['min_dcf_high']:.3f})"


def _results_table(facts: dict[str, Any]) -> str:
    test = facts["test"]
    if not test:
        if facts.get("selection_eer") is None:
            return "EER and minDCF were not measured on a test list."
        return (
            "EER and minDCF were not measured on a test list. On the speakers set aside from training, which "
            f"also chose the checkpoint, the EER is {100 * facts['selection_eer']:.2f} %."
        )
    size = f"{test['trials']:,} | {test['speakers']:,}"
    return (
        "| trials | EER, % | minDCF (p_target 0.01) | number | speakers |\n| --- | ---: | ---: | ---: | ---: |\n"
        f"| {test.get('name', 'test')} | {eer_in_percent(test, 2)} | {_cost(test)} | {size} |"
    )


def _results_note(facts: dict[str, Any]) -> str:
    if not facts["test"]:
        return ""
    return (
        "In brackets: 95 % intervals by bootstrap over speakers. Training refuses a test list with a speaker of its "
        f"own, and reads it once, at the end. Seed {facts['seed']}, one run."
    )


def _thresholds_table(thresholds: dict[str, Any] | None) -> str:
    if not thresholds:
        return "Not measured: the model gives a score and does not decide."
    rows = [
        f"| {POINTS.get(name, name)} | {'too few trials to say' if value is None else format(value, '.4f')} |"
        for name, value in thresholds["values"].items()
    ]
    return "\n".join(['| decide "same" from, at | score |', "| --- | ---: |", *rows])


def _thresholds_note(facts: dict[str, Any]) -> str:
    thresholds = facts["thresholds"]
    if not thresholds:
        return ""
    note = (
        f"Measured on {thresholds['trials']:,} trials, {thresholds['target_trials']:,} of them of one speaker, of "
        f"{thresholds['data']}."
    )
    of_training = thresholds["data"].endswith(SET_ASIDE)
    if of_training and facts["test"]:
        note += " The error rates above are of other speakers."
    if few := thresholds["speakers"] < ENOUGH_SPEAKERS:
        note += f" {thresholds['speakers']} speakers are few: the thresholds may not hold for others."
    return note if few or of_training else f"{note} They were measured after training."


def _training(facts: dict[str, Any]) -> str:
    data, recipe = facts["data"], facts["recipe"]
    if not data or not recipe:
        return "Training data and recipe are not stated."
    groups = [
        f"{name}: " + ", ".join(f"{value} {count}" for value, count in data[name].items())
        for name in ("language", "gender")
        if name in data
    ]
    by = f" Speakers by {'; by '.join(groups)}." if groups else " Their languages and genders are not recorded."
    shown = {name: value for name, value in recipe.items() if value not in (None, False, 0, 0.0, [])}
    values = ", ".join(f"`{name}: {value}`" for name, value in shown.items())
    minutes = f"{facts['seconds'] / 60:.0f} minutes on {_machine(facts['machine'])}"
    return (
        f"Data: {data['name']}, {data['speakers']:,} speakers, {data['utterances']:,} utterances, {data['hours']:,} "
        f"hours.{by}\n\nRecipe: {values}.\n\n{facts['steps']:,} steps, {minutes}, seed {facts['seed']}."
    )


def _machine(machine: dict[str, Any]) -> str:
    return machine.get("gpu") or f"{machine['cores']} cores of {machine['cpu']}"


def _bias(test: dict[str, Any] | None) -> str:
    parts = []
    for column in ("gender", "language"):
        groups = (test or {}).get(f"by_{column}")
        if not groups:
            parts.append(f"By {column}: not measured; the test data do not say it.")
            continue
        rows = [
            f"| {group} | {eer_in_percent(report, 2)} | {report['trials']:,} | {report['speakers']} |"
            for group, report in groups.items()
        ]
        head = [f"| {column} | EER, % | trials | speakers |", "| --- | ---: | ---: | ---: |"]
        parts.append("\n".join(head + rows))
    parts.append(
        "Where groups have few speakers, their intervals say more than their values. Age, accent and health were not "
        "measured."
    )
    return "\n\n".join(parts)


def _licences(facts: dict[str, Any], said: Statements) -> str:
    teacher = facts["teacher"]["name"] or "the teacher"
    return "\n".join(
        [
            f"- This model: {said.license or 'not stated; ask whoever published it'}.",
            f"- Teacher ({teacher}): {said.teacher_license or 'not stated'}. The student holds weights of it, so its "
            "terms bind the student.",
            f"- Training data: {said.data_license or 'not stated'}.",
            "- Code: Apache-2.0.",
        ]
    )
