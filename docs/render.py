"""Write the tables of the documents and the cards of model_cards/ from docs/results: `python docs/render.py`.

A table stands between `<!-- name -->` and `<!-- /name -->`; tests/test_docs.py fails when it is not what this writes.
"""

import json
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from modeling_oskdft.commands.demonstration import table
from modeling_oskdft.hub.model_card import render_record
from modeling_oskdft.provenance import measured_on
from modeling_oskdft.scoring.metrics import eer_in_percent
from modeling_oskdft.training.recipe import GROUPS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PLACE = re.compile(r"^<!-- (\w+) -->\n(?:.*\n)*?<!-- /\1 -->$", flags=re.MULTILINE)


def pages() -> list[Path]:
    """List the pages that have a place for a table."""
    candidates = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), RESULTS / "log.md")
    return [page for page in candidates if PLACE.search(page.read_text(encoding="utf-8"))]


def render(text: str) -> str:
    """Replace every table of a page by what the results give.

    Args:
        text: the page, with a place `<!-- name -->` … `<!-- /name -->` for each table.

    Returns:
        The page with its tables written anew.

    Raises:
        KeyError: for a place whose name no table has.
    """
    makers: dict[str, Callable[[], str]] = {
        "quickstart": quickstart,
        "small_speech": small_speech,
        "sizes": sizes,
        "benchmarks": benchmarks,
        "training": training,
        "gpu": gpu,
        "compression": compression,
        "inference": inference,
        "long_recording": partial(benchmark_table, "long-recording"),
        "decision": partial(benchmark_table, "decision"),
        "estimates": estimates,
        "augmentation": augmentation,
        "thin_students": thin_students,
        "teachers": partial(benchmark_table, "teachers"),
        "service": partial(benchmark_table, "service"),
        "formats": partial(benchmark_table, "formats", ("torch", "onnxruntime", "openvino", "executorch")),
        "browser": partial(benchmark_table, "browser"),
        "corpus": corpus,
        "experiments": experiments,
        "student_fields": partial(recipe_fields, "StudentArguments"),
        "objective_fields": partial(recipe_fields, "ObjectiveArguments"),
        "data_fields": partial(recipe_fields, "DataArguments"),
        "training_fields": partial(recipe_fields, "OSKDFTTrainingArguments"),
    }
    return PLACE.sub(lambda match: f"<!-- {match[1]} -->\n{makers[match[1]]()}\n<!-- /{match[1]} -->", text)


def read(name: str) -> dict[str, Any]:
    """Read a stored result."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def read_benchmarks() -> dict[str, dict[str, Any]]:
    """Read the stored results of all benchmarks, by their names."""
    lines = (RESULTS / "benchmarks.jsonl").read_text(encoding="utf-8").splitlines()
    return {result["name"]: result for result in map(json.loads, lines)}


def quickstart() -> str:
    """Tabulate teacher and student of the quickstart, on synthetic voices."""
    return "On synthetic voices, by `make quickstart`:\n\n" + table(read("quickstart.json"))


def small_speech() -> str:
    """Tabulate teacher and student on small real speech."""
    result = read("small_speech.json")
    systems = result["systems"]
    labels = {
        "teacher_frozen": "teacher, frozen, trained head",
        "teacher_finetuned": "teacher, fine-tuned",
        "student": "student, OS-KDFT",
        "thin_student": "thin student, as many steps",
        "thin_student_long": "thin student, three times the steps",
    }
    lines = [
        "On small real speech, by `python examples/small_speech.py` ([the whole page](docs/results/small_speech.md)):",
        "",
        "|  | EER, % | encoder parameters | encoder for 3 s, ms | file, MB | in int8, MB | EER in int8, % "
        "| a comparison in Python, ms | in the browser, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, label in labels.items():
        system = systems[name]
        cells = (
            label,
            eer_in_percent(system["test"]),
            f"{system['encoder_parameters']:,}",
            f"{system['encoder_milliseconds']:.1f}",
            f"{system['bytes'] / 1e6:.2f}",
            f"{system['int8_bytes'] / 1e6:.2f}",
            eer_in_percent(system["int8_test"]),
            f"{system['python_milliseconds']:.0f}",
            f"{system['browser_milliseconds']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    test = systems["student"]["test"]
    lines += [
        "",
        f"{test['trials']:,} trials of {test['speakers']} speakers that nobody trained on, seed "
        f"{systems['student']['run']['seed']}; 95 % intervals by bootstrap over speakers. A tiny teacher, "
        "one seed: this shows that it works, not how it compares. Only the last row had more steps. The encoder runs "
        "in PyTorch on one thread. A comparison is that of two recordings of 3 s (speech, embeddings, decision), "
        "with weights in int8: by onnxruntime in Python on one thread, and [in the browser](docs/browser.md) on "
        f"{result['browser_threads']}.",
    ]
    return "\n".join(lines)


def sizes() -> str:
    """Tabulate size and time of students at real size, beside their teachers."""
    lines = [
        "At real size, with random weights ([all columns](docs/benchmarks.md#size-and-time), "
        "[thinner students](docs/training.md#the-students-shape)):",
        "",
        "| system | encoder parameters, teacher | parameters, student | student's time / teacher's |",
        "| --- | ---: | ---: | ---: |",
    ]
    results = read_benchmarks()
    compared = {(row["system"], row["of"]): row for row in results["compression"]["rows"]}
    for name in dict.fromkeys(system for system, _ in compared):
        teacher, student = compared[name, "teacher"], compared[name, "student"]
        share = student["encoder ms, 1 thread"] / teacher["encoder ms, 1 thread"]
        lines.append(
            f"| {name} | {teacher['encoder parameters']:,} | {student['encoder parameters']:,} | {share:.2f} |"
        )
    rows = results["thin-students"]["rows"]
    teacher, thinnest = rows[0], rows[-1]
    share = thinnest["of the teacher's time"]
    lines += [
        f"| HuBERT-base, 12 to {thinnest['encoder']} | {teacher['parameters']:,} | {thinnest['parameters']:,} "
        f"| {share:.2f} |",
        "",
        f"Times of 3 s of audio on one thread. {measured_on(results['compression'])}",
    ]
    return "\n".join(lines)


def benchmarks() -> str:
    """Tabulate the ratios of all benchmarks, one a line."""
    results = read_benchmarks().values()
    rows = [
        f"| {result['name']} | {label} | {number(ratio)} |"
        for result in results
        for label, ratio in result["ratios"].items()
    ]
    machines: dict[str, list[str]] = {}
    for result in results:
        machines.setdefault(measured_on(result), []).append(result["name"])
    feet = [f"{', '.join(names)}: {machine}" for machine, names in machines.items()]
    return "\n".join(["| benchmark | ratio | measured |", "| --- | --- | ---: |", *rows, "", *feet])


def training() -> str:
    """Tabulate the joint step at real size."""
    result = read_benchmarks()["training"]
    columns = ("system", "step", "crops", "steps/s", "peak memory, GB", "times plain", "bound by multiply-adds")
    return "\n".join([*grid(result["rows"], columns), "", measured_on(result)])


def gpu() -> str:
    """Tabulate the joint step on a GPU, where every teacher computes in bfloat16: equal variants stand once."""
    result = read("gpu.json")
    columns = (
        "system",
        "step",
        "crops",
        "steps/s",
        "peak memory, GB",
        "times plain",
        "share of the card's arithmetic",
    )
    rows = [row for row in result["rows"] if not row["step"].endswith("bf16 teacher")]
    ratios = {label.partition(": ")[2]: value for label, value in result["ratios"].items() if "HuBERT" in label}
    crops, waiting = (
        ratios["crops of one worker / crops of the step (above 1)"],
        ratios["share of time spent waiting for data"],
    )
    sentence = (
        f"HuBERT-base: one worker makes {crops:.2f} of the crops that the step takes; with the workers that follow "
        f"from it the step waits for data for {waiting:.2f} of its time."
    )
    return "\n".join([*grid(rows, columns), "", f"{sentence} {measured_on(result, ('torch', 'transformers'))}"])


def compression() -> str:
    """Tabulate size and time of students beside their teachers, with all columns."""
    result = read_benchmarks()["compression"]
    return "\n".join([*grid(result["rows"]), "", result["note"], "", measured_on(result)])


def inference() -> str:
    """Tabulate a student in every runtime, beside its teacher."""
    result = read_benchmarks()["inference"]
    return "\n".join([*grid(result["rows"]), "", measured_on(result, ("torch", "onnxruntime"))])


def benchmark_table(name: str, packages: tuple[str, ...] = ("torch", "onnxruntime")) -> str:
    """Tabulate the rows of a benchmark.

    Args:
        name: its name.
        packages: those whose versions are stated.
    """
    result = read_benchmarks()[name]
    return "\n".join([*grid(result["rows"]), "", measured_on(result, packages)])


def augmentation() -> str:
    """Tabulate our augmentation beside audiomentations."""
    result = read_benchmarks()["augmentation"]
    return "\n".join([*grid(result["rows"]), "", measured_on(result)])


def thin_students() -> str:
    """Tabulate thinner students beside their teacher."""
    result = read_benchmarks()["thin-students"]
    return "\n".join([*grid(result["rows"]), "", measured_on(result)])


def experiments() -> str:
    """Tabulate the log of experiments: what was tried, why, what came of it beside a rival, and what it cost."""
    systems = read("one_step_or_two.json")["systems"]
    lines = [
        "| date | what | why | EER, % | each seed | beside | EER, % | each seed | difference, points | minutes |",
        "| --- | --- | --- | ---: | --- | --- | ---: | --- | ---: | ---: |",
    ]
    for entry in json.loads((RESULTS / "log.json").read_text(encoding="utf-8")):
        cells = [entry["date"], label_of(systems, entry["system"]), entry["why"], *rates_of(systems, entry["system"])]
        cells += [label_of(systems, entry["beside"]), *rates_of(systems, entry["beside"])]
        gap = systems[entry["system"]]["rival_difference"]
        mean, low, high = (f"{100 * gap[end]:+.1f}" for end in ("mean", "low", "high"))
        cells.append(f"{mean} ({low} to {high})")
        minutes = systems[entry["system"]]["minutes"]  # None of a run that was interrupted
        lines.append(f"| {' | '.join([*cells, '–' if minutes is None else f'{minutes:.1f}'])} |")
    return "\n".join(lines)


def label_of(systems: dict[str, Any], name: str) -> str:
    """Write the number and the name of a system of the study."""
    return f"{name.split('_')[0]}: {systems[name]['label']}"


def rates_of(systems: dict[str, Any], name: str) -> tuple[str, str]:
    """Write the EER of a system of the study with its interval, and that of each seed."""
    eer = systems[name]["eer"]
    mean, low, high = (f"{100 * eer[end]:.1f}" for end in ("mean", "low", "high"))
    return f"{mean} ({low}–{high})", ", ".join(f"{100 * value:.1f}" for value in eer["each"])


def recipe_fields(name: str) -> str:
    """List the fields of a group of a recipe: those that the group defines, without those of transformers alone.

    Args:
        name: a dataclass of `training.recipe.GROUPS`.

    Returns:
        A table of names, defaults and help, as `train_oskdft.py --help` shows them.
    """
    group = next(each for each in GROUPS if each.__name__ == name)
    lines = ["| field | default | meaning |", "| --- | --- | --- |"]
    for each in fields(group):
        inherited = issubclass(group, TrainingArguments) and each.name not in group.__annotations__
        if each.init and not inherited:
            default = each.default if each.default_factory is MISSING else each.default_factory()
            text = str(each.metadata["help"]).replace("%%", "%").replace("|", "\\|")
            lines.append(f"| `{each.name}` | {'' if default in (None, '') else f'`{default}`'} | {text} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Format a number with three digits, and without an exponent where it is large."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def grid(rows: list[dict[str, Any]], columns: tuple[str, ...] = ()) -> list[str]:
    """Write rows as the lines of a Markdown table.

    Args:
        rows: one dict a row, all with the same keys.
        columns: keys to show; empty: all.
    """
    columns = columns or tuple(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        cells = (number(row[name]) if isinstance(row[name], float) else str(row[name]) for name in columns)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


# Recipes by system of the benchmark: crops an epoch, epochs.
RECIPES = {
    "wav2vec2_xlsr_ecapa_voxceleb2": ("XLSR-53, 4 layers", 1_092_009, 100),
    "hubert_base_voxceleb1": ("HuBERT-base, 2 layers", 148_642, 100),
    "wavlm_base_plus_voxceleb1": ("HuBERT-base, 2 layers", 148_642, 100),
    "hubert_base_ecapa_voxceleb2": ("HuBERT-base, 2 layers", 1_092_009, 40),
}


def estimates() -> str:
    """Tabulate the GPU hours of the recipes: the crops of all epochs by the measured crops a second."""
    result = read("gpu.json")
    rows = {row["system"]: row for row in result["rows"] if row["step"] == "ours"}
    lines = ["| recipe | crops of the run | crops a second | GPU hours, estimated |", "| --- | ---: | ---: | ---: |"]
    for name, (system, crops, epochs) in RECIPES.items():
        rate = rows[system]["steps/s"] * int(rows[system]["crops"].split(" ")[0])
        lines.append(f"| `{name}` | {crops * epochs:.1e} | {rate:.0f} | {crops * epochs / rate / 3600:.0f} |")
    lines += [
        "",
        "How: the crops of all epochs by the crops a second of the joint step ([Training step on a "
        "GPU](benchmarks.md#training-step-on-a-gpu)), as if data were always ready. Validation after each epoch adds "
        f"some minutes. {measured_on(result, ('torch', 'transformers'))}",
    ]
    return "\n".join(lines)


# Of an embedding that is stored: 192 numbers of four bytes; id, speech, fingerprint and warnings, compressed.
STORED_BYTES = 192 * 4 + 60
CORE_HOUR = 0.05  # of a currency: what `oskdft evaluate --core_hour` takes by default


def corpus() -> str:
    """Tabulate the corpus that was embedded, and what larger ones take by arithmetic."""
    result = read_benchmarks()["corpus"]
    (row,) = result["rows"]
    rate = row["files/s"] / row["workers"]
    lines = [*grid(result["rows"]), ""]
    lines += [
        "| recordings of 1 s | core hours | days on 64 cores | embeddings, GB | cost |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for recordings in (10**6, 10**9):
        hours = recordings / rate / 3600
        lines.append(
            f"| {recordings:,} | {hours:,.1f} | {hours / 64 / 24:,.2f} | {recordings * STORED_BYTES / 1e9:,.1f} | "
            f"{hours * CORE_HOUR:,.2f} |"
        )
    ratios = [f"{label[0].upper()}{label[1:]}: {value:.2f}." for label, value in result["ratios"].items()]
    lines += [
        "",
        "The second table is arithmetic: the measured recordings a second of a core, as if more cores were as many "
        f"times as fast, {STORED_BYTES} bytes for each embedding, and {CORE_HOUR:g} for a core hour. Recordings of "
        f"3 s take about three times as long. {' '.join(ratios)} {result['note']} "
        f"{measured_on(result, ('torch', 'onnxruntime'))}",
    ]
    return "\n".join(lines)


def cards() -> dict[Path, str]:
    """Render the card of every system in docs/results/cards, by its path in model_cards."""
    records = sorted((RESULTS / "cards").glob("*.json"))
    return {
        ROOT / "model_cards" / f"{path.stem}.md": render_record(json.loads(path.read_text("utf-8")))
        for path in records
    }


if __name__ == "__main__":
    for page in pages():
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
    for path, card in cards().items():
        path.write_text(card, encoding="utf-8")
