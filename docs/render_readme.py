"""Write the tables of README.md from docs/results/*.json: `python docs/render_readme.py`.

A table stands between `<!-- name -->` and `<!-- /name -->`; tests/test_docs.py fails when it is not what this writes.
"""

import json
from pathlib import Path
from typing import Any

from modeling_oskdft.quickstart import table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def render(text: str) -> str:
    """`text` with every table for which there is a result replaced by what the result says."""
    for name, make in {"quickstart": quickstart, "small_speech": small_speech, "benchmarks": benchmarks}.items():
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
        eer = f"{100 * test['eer']:.1f} ({100 * test['eer_low']:.1f}–{100 * test['eer_high']:.1f})"
        cells = (label, eer, f"{one['encoder_parameters']:,}", f"{one['bytes'] / 1e6:.2f}")
        lines.append(f"| {' | '.join(cells)} | {one['encoder_milliseconds']:.1f} |")
    test = results["systems"]["student"]["test"]
    lines += [
        "",
        f"{test['trials']:,} trials of {test['speakers']} speakers that nobody trained on, seed "
        f"{results['systems']['student']['run']['seed']}; 95 % intervals by bootstrap over speakers. A tiny teacher, "
        "one seed: this shows that it works, not how it compares.",
    ]
    return "\n".join(lines)


def benchmarks() -> str:
    """One ratio a line."""
    lines = (RESULTS / "benchmarks.jsonl").read_text(encoding="utf-8").splitlines()
    results = [json.loads(line) for line in lines]
    rows = [f"| {one['name']} | {label} | {ratio:.2f} |" for one in results for label, ratio in one["ratios"].items()]
    machine, versions = results[0]["machine"], results[0]["versions"]
    foot = f"{machine['cpu']}, {machine['cores']} cores, torch {versions['torch']}."
    return "\n".join(["| benchmark | ratio | measured |", "| --- | --- | ---: |", *rows, "", foot])


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(render(readme.read_text(encoding="utf-8")), encoding="utf-8")
