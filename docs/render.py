"""Write the tables of the documents and the cards of model_cards/ from docs/results: `python docs/render.py`.

A table stands between `<!-- name -->` and `<!-- /name -->`; tests/test_docs.py fails when it is not what this writes.
"""

import json
from pathlib import Path
from typing import Any

from modeling_oskdft.commands.quickstart import table
from modeling_oskdft.hub.model_card import render_record
from modeling_oskdft.provenance import measured_on
from modeling_oskdft.scoring.metrics import eer_in_percent

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = ("voxceleb", "augmentation", "deployment", "training")  # of docs/, which have tables


def render(text: str) -> str:
    """`text` with every table that it has a place for replaced by what the results say."""
    makers = {
        "quickstart": quickstart,
        "small_speech": small_speech,
        "benchmarks": benchmarks,
        "training": training,
        "compression": compression,
        "inference": inference,
        "estimates": estimates,
        "augmentation": augmentation,
        "thin_students": thin_students,
    }
    for name, make in makers.items():
        if f"<!-- {name} -->" in text:
            before, rest = text.split(f"<!-- {name} -->", 1)
            after = rest.split(f"<!-- /{name} -->", 1)[1]
            text = f"{before}<!-- {name} -->\n{make()}\n<!-- /{name} -->{after}"
    return text


def read(name: str) -> dict[str, Any]:
    """A stored result."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def quickstart() -> str:
    """The quickstart's own table, on synthetic voices."""
    return "On synthetic voices, by `make quickstart`:\n\n" + table(read("quickstart.json"))


def small_speech() -> str:
    """The systems on real speech."""
    results = read("small_speech.json")
    systems = {
        "teacher_frozen": "teacher, frozen, trained head",
        "teacher_finetuned": "teacher, fine-tuned",
        "student": "student, OS-KDFT",
    }
    lines = [
        "On small real speech, by `python examples/small_speech.py` ([the whole page](docs/results/small_speech.md)):",
        "",
        "|  | EER, % | encoder parameters | file, MB | encoder for 3 s, one thread, ms |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, label in systems.items():
        one, test = results["systems"][name], results["systems"][name]["test"]
        cells = (label, eer_in_percent(test), f"{one['encoder_parameters']:,}", f"{one['bytes'] / 1e6:.2f}")
        lines.append(f"| {' | '.join(cells)} | {one['encoder_milliseconds']:.1f} |")
    test = results["systems"]["student"]["test"]
    lines += [
        "",
        f"{test['trials']:,} trials of {test['speakers']} speakers that nobody trained on, seed "
        f"{results['systems']['student']['run']['seed']}; 95 % intervals by bootstrap over speakers. A tiny teacher, "
        "one seed: this shows that it works, not how it compares.",
    ]
    return "\n".join(lines)


def stored(name: str) -> dict[str, Any]:
    """The stored result of a benchmark."""
    lines = (RESULTS / "benchmarks.jsonl").read_text(encoding="utf-8").splitlines()
    return next(one for one in map(json.loads, lines) if one["name"] == name)


def benchmarks() -> str:
    """One ratio a line."""
    lines = (RESULTS / "benchmarks.jsonl").read_text(encoding="utf-8").splitlines()
    results = [json.loads(line) for line in lines]
    rows = [
        f"| {one['name']} | {label} | {number(ratio)} |" for one in results for label, ratio in one["ratios"].items()
    ]
    machines: dict[str, list[str]] = {}
    for one in results:
        machines.setdefault(measured_on(one), []).append(one["name"])
    feet = [f"{', '.join(names)}: {place}" for place, names in machines.items()]
    return "\n".join(["| benchmark | ratio | measured |", "| --- | --- | ---: |", *rows, "", *feet])


def training() -> str:
    """The joint step at real size."""
    result = stored("training")
    columns = ("system", "step", "crops", "steps/s", "peak memory, GB", "times plain", "bound by multiply-adds")
    return "\n".join([*grid(result["rows"], columns), "", measured_on(result)])


def compression() -> str:
    """Size and time of students beside their teachers."""
    result = stored("compression")
    return "\n".join([*grid(result["rows"], tuple(result["rows"][0])), "", result["note"], "", measured_on(result)])


def inference() -> str:
    """A student in every runtime, beside its teacher."""
    result = stored("inference")
    grid_of_all = grid(result["rows"], tuple(result["rows"][0]))
    return "\n".join([*grid_of_all, "", measured_on(result, ("torch", "onnxruntime"))])


def augmentation() -> str:
    """Ours against audiomentations."""
    result = stored("augmentation")
    return "\n".join([*grid(result["rows"], tuple(result["rows"][0])), "", measured_on(result)])


def thin_students() -> str:
    """Thinner students beside their teacher."""
    result = stored("thin-students")
    return "\n".join([*grid(result["rows"], tuple(result["rows"][0])), "", measured_on(result)])


def number(value: float) -> str:
    """Three digits, and no exponent for large ones."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def grid(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        cells = (number(row[name]) if isinstance(row[name], float) else str(row[name]) for name in columns)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


# Recipes by system of the benchmark: seconds of audio an epoch, epochs.
RECIPES = {
    "wav2vec2_xlsr_ecapa_voxceleb2": ("XLSR-53, 4 layers", 1_092_009 * 2, 100),
    "hubert_base_voxceleb1": ("HuBERT-base, 2 layers", 148_642 * 3, 100),
    "wavlm_base_plus_voxceleb1": ("HuBERT-base, 2 layers", 148_642 * 3, 100),
    "hubert_base_ecapa_voxceleb2": ("HuBERT-base, 2 layers", 1_092_009 * 3, 40),
}
CARD, CARD_OPERATIONS, UTILISATION = "H100", 989e12, 0.2


def estimates() -> str:
    """GPU hours of the recipes: counted operations over an assumed share of a card's arithmetic."""
    rows = {(row["system"], row["step"]): row for row in stored("training")["rows"]}
    lines = ["| recipe | operations of the run | GPU hours, estimated |", "| --- | ---: | ---: |"]
    for name, (system, seconds, epochs) in RECIPES.items():
        operations = rows[system, "ours"]["GFLOP a second of audio"] * 1e9 * seconds * epochs
        hours = operations / CARD_OPERATIONS / UTILISATION / 3600
        lines.append(f"| `{name}` | {operations:.1e} | {hours:.0f} |")
    lines += [
        "",
        "How: operations of a joint step a second of audio, counted by torch's `FlopCounterMode` (`benchmark "
        f"training`), times the crops of all epochs, over {UTILISATION:.0%} of the {CARD_OPERATIONS / 1e12:.0f} "
        f"Tflop/s that an {CARD} has in bf16. That share is assumed, not measured: no such card was at hand. Reading "
        "and augmenting are not in it; validation after each epoch adds some minutes.",
    ]
    return "\n".join(lines)


def cards() -> dict[Path, str]:
    """The card of every system in docs/results/cards, by the path that it has in model_cards."""
    found = sorted((RESULTS / "cards").glob("*.json"))
    return {
        ROOT / "model_cards" / f"{path.stem}.md": render_record(json.loads(path.read_text("utf-8"))) for path in found
    }


if __name__ == "__main__":
    for page in (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in PAGES)):
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
    for place, card in cards().items():
        place.write_text(card, encoding="utf-8")
