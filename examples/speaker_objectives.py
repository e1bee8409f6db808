"""Compare additions to AAM-softmax on small real speech: sub-centres, a penalty on impostors, averaged weights.

These are short runs of examples/recipes/small_speech.yaml that differ in one thing each. They are compared on speakers
set aside from the training speakers; the test trials are never read. The script writes
docs/results/speaker_objectives.json and the page that is rendered from it.

    python examples/speaker_objectives.py

It needs the folder of real speech and the small teacher beside the project, and takes about 15 minutes on two CPU
cores.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging

from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.splits import split_by_speaker
from modeling_oskdft.data.trials import make_trials
from modeling_oskdft.evaluation.report import report_trials
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.metrics import eer_in_percent

ROOT = Path(__file__).resolve().parents[1]
RECIPES, RUNS, DOCS = ROOT / "examples" / "recipes", ROOT / "runs" / "speaker_objectives", ROOT / "docs" / "results"
SPEECH = ROOT.parent / "shared" / "data" / "speech"
SEED, EPOCHS, FRACTION = 0, 3, 0.2
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "aam": ("AAM-softmax", {}),
    "sub_centres": ("with 3 sub-centres", {"sub_centres": 3}),
    "top_k": ("with a penalty of 0.1 on the top 5 impostors", {"penalty_top_k": 5, "penalty_margin": 0.1}),
    "ema": ("with averaged weights, decay 0.99", {"ema_decay": 0.99}),
}


def main() -> None:
    """Train the variants that have no result, measure all, and write the results and their page."""
    logging.disable_progress_bar()
    if not SPEECH.is_dir():
        sys.exit("The folder of real speech is not beside the project: nothing was run.")
    for name, (_, fields) in VARIANTS.items():
        if not (RUNS / name / "results.json").is_file():
            run(name, fields)
    results = {
        "name": "speaker_objectives",
        "seed": SEED,
        "epochs": EPOCHS,
        "systems": {name: measure(name) for name in VARIANTS},
        "machine": machine(),
        "versions": versions(),
    }
    write_json(results, DOCS / "speaker_objectives.json")
    with whole_file(DOCS / "speaker_objectives.md") as file:
        file.write_text(page(results), encoding="utf-8")


def run(name: str, fields: dict[str, Any]) -> None:
    """Train one variant with the training script.

    Args:
        name: of the variant and of its folder.
        fields: of its recipe, in the place of the common ones.
    """
    recipe = RUNS / f"{name}.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe_fields = {
        "base": RECIPES / "small_speech.yaml",
        "output_dir": RUNS / name,
        "seed": SEED,
        "num_train_epochs": EPOCHS,
        "validation_fraction": FRACTION,
        "test_trials": "",
        **fields,
    }
    recipe.write_text("".join(f"{key}: {value}\n" for key, value in recipe_fields.items()), encoding="utf-8")
    resume = ["--resume_from_checkpoint", "auto"]
    subprocess.run([sys.executable, "train_oskdft.py", str(recipe), *resume], cwd=ROOT, check=True)


def measure(name: str) -> dict[str, Any]:
    """Measure a variant on the speakers that its run has set aside, which are the same for all."""
    manifest = load_manifest(SPEECH / "manifest.csv", split="train")
    _, validation = split_by_speaker(manifest, FRACTION, SEED)
    trials = make_trials(validation.by_speaker())
    verifier = AutoModel.from_pretrained(RUNS / name).eval()
    report = report_trials(verifier, AutoFeatureExtractor.from_pretrained(RUNS / name), validation, trials)
    trained = json.loads((RUNS / name / "results.json").read_text(encoding="utf-8"))
    return report.as_dict() | {"selected_step": trained["selected_step"], "steps": trained["steps"]}


def page(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    first = results["systems"]["aam"]
    lines = [
        "# Additions to AAM-softmax on small real speech",
        "",
        "By `python examples/speaker_objectives.py`: the student of examples/recipes/small_speech.yaml, each run "
        f"different in one thing, {results['epochs']} epochs ({first['steps']} steps), seed {results['seed']}, on "
        f"{first['speakers']} speakers of the training split that were set aside ({first['trials']:,} trials). The "
        "best epoch was chosen on the same speakers, so the values are a little too good, for all alike.",
        "",
        "|  | EER, % (95 % by speakers) | minDCF | best step |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, (label, _) in VARIANTS.items():
        rates = results["systems"][name]
        lines.append(f"| {label} | {eer_in_percent(rates)} | {rates['min_dcf']:.3f} | {rates['selected_step']} |")
    lines += ["", verdict(results["systems"]), ""]
    lines += [measured_on(results, ("torch", "transformers")), ""]
    return "\n".join(lines)


def verdict(systems: dict[str, Any]) -> str:
    """Write in words which additions lie outside the interval of the plain loss."""
    plain = systems["aam"]
    better = [VARIANTS[name][0] for name, rates in systems.items() if rates["eer"] < plain["eer_low"]]
    worse = [VARIANTS[name][0] for name, rates in systems.items() if rates["eer"] > plain["eer_high"]]
    if not better and not worse:
        return "Every value lies within the interval of the plain loss: one seed on this few speakers decides nothing."
    return f"Outside the interval of the plain loss: better {better or 'none'}, worse {worse or 'none'}. One seed."


if __name__ == "__main__":
    main()
