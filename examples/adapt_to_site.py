"""Adapt a published student to a new site with PEFT: a LoRA on ten minutes of speech, and the EER elsewhere.

A student is trained without speechocean762 (English read by Chinese children and adults). Then 40 speakers of that
corpus, 15 s of each, adapt it. The EER is measured before and after, on validation speakers of the site and of the
other corpora; none of these speakers was in any training. The epoch is chosen on other training speakers of the site.

    python examples/adapt_to_site.py

For your own site, give a folder or manifest of its speech: a few dozen speakers; a fifth of them chooses the epoch.

    python examples/adapt_to_site.py --data FOLDER --model quickstart/student --out site
    oskdft verify A.wav B.wav --model site

The first command writes docs/results/adapt_to_site.json and the page rendered from it. It needs the folder of real
speech and the small teacher beside the project.
"""

import argparse
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoFeatureExtractor, AutoModelForAudioXVector, SequenceFeatureExtractor
from transformers.utils import logging

from modeling_oskdft import OSKDFTForXVector
from modeling_oskdft.audio.loading import SAMPLING_RATE
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.splits import split_by_speaker
from modeling_oskdft.data.trials import Trials, make_trials, read_trials
from modeling_oskdft.embedding.opening import open_verifier
from modeling_oskdft.evaluation.report import TrialReport, report_scores, speakers_of, trial_scores
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.renewal.adaptation import EPOCHS, adapt, with_lora
from modeling_oskdft.scoring.metrics import eer_in_percent
from modeling_oskdft.scoring.thresholds import measure_thresholds

ROOT = Path(__file__).resolve().parents[1]
RECIPE, RUNS, DOCS = ROOT / "examples/recipes/small_speech.yaml", ROOT / "runs/adapt_to_site", ROOT / "docs/results"
SPEECH = ROOT.parent / "shared" / "data" / "speech"
SITE, SPEAKERS, SECONDS, DEVELOPMENT = "speechocean762", 40, 15.0, 60
SEED, BASE_EPOCHS = 0, 30


def main(arguments: list[str] | None = None) -> None:
    """Adapt to the site that the command line names, or repeat the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder or manifest of the site's speech; without it, the study is run")
    parser.add_argument("--model", default="quickstart/student", help="the published student")
    parser.add_argument("--out", default="site", help="folder for the LoRA, the feature extractor and thresholds")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    study() if options.data is None else adapt_to(options.data, options.model, options.out, options.epochs)


def adapt_to(data: str, model_name: str, out: str, epochs: int) -> None:
    """Adapt a student to a site's speech, and measure thresholds on the speakers that chose the epoch.

    Args:
        data: folder or manifest of the site's speech.
        model_name: folder or repository of the student.
        out: folder for the LoRA, the feature extractor and the thresholds.
        epochs: of the training.
    """
    student, feature_extractor = open_verifier(model_name)
    speech, development = split_by_speaker(load_manifest(data), 0.2, SEED)
    model = with_lora(student)
    adapt(model, feature_extractor, speech, epochs, development)
    model.save_pretrained(out)
    feature_extractor.save_pretrained(out)
    merged, _ = open_verifier(out)
    trials = make_trials(development.by_speaker())
    scores = trial_scores(merged, feature_extractor, development, trials)
    pairs = trials.speakers(speakers_of(development))
    speakers = len(development.speakers)
    basis = f"{speakers} speakers of the site, which also chose the epoch"
    measure_thresholds(scores, trials.labels, speakers, basis, merged.fingerprint(), pairs).save(out)
    print(f"The adapted student is in '{out}': oskdft verify A.wav B.wav --model {shlex.quote(out)}")


def study() -> None:
    """Train the student if there is none, adapt it, measure both, and write the results and their page."""
    if not SPEECH.is_dir():
        sys.exit("The folder of real speech is not beside the project: nothing was run.")
    train = load_manifest(SPEECH / "manifest.csv", split="train")
    if not (RUNS / "student" / "results.json").is_file():
        train_student(train)
    feature_extractor = AutoFeatureExtractor.from_pretrained(RUNS / "student")
    ten_minutes, development = divide_site(train.where("corpus", [SITE]))
    student = AutoModelForAudioXVector.from_pretrained(RUNS / "student").eval()
    start = time.perf_counter()
    model = with_lora(student)
    eers = adapt(model, feature_extractor, ten_minutes, EPOCHS, development)
    seconds = round(time.perf_counter() - start, 1)
    model.save_pretrained(RUNS / "site")
    results: dict[str, Any] = {"name": "adapt_to_site", "seed": SEED, "site": ten_minutes.describe()}
    results |= {"seconds": seconds, "epoch": eers.index(min(eers)), "development_eer": eers}
    results |= {"systems": measure(feature_extractor)} | sizes(model)
    results |= {"machine": machine(), "versions": versions() | {"peft": version("peft")}}
    write_json(results, DOCS / "adapt_to_site.json")
    with whole_file(DOCS / "adapt_to_site.md") as file:
        file.write_text(page(results), encoding="utf-8")


def train_student(train: Manifest) -> None:
    """Train the student in one run of the recipe, on the corpora other than the site.

    Args:
        train: all training utterances; the site's are left out.
    """
    corpora = sorted(set(train.column("corpus")) - {SITE})
    RUNS.mkdir(parents=True, exist_ok=True)
    train.where("corpus", corpora).save(RUNS / "elsewhere.parquet")
    fields = {
        "base": RECIPE,
        "output_dir": RUNS / "student",
        "train_data": RUNS / "elsewhere.parquet",
        "train_split": "",
        "test_trials": "",
        "num_train_epochs": BASE_EPOCHS,
    }
    recipe = RUNS / "student.yaml"
    recipe.write_text("".join(f"{key}: {value}\n" for key, value in fields.items()), encoding="utf-8")
    resume = ["--resume_from_checkpoint", "auto"]  # after an interruption; else from the start
    subprocess.run([sys.executable, "train_oskdft.py", str(recipe), *resume], cwd=ROOT, check=True)


def divide_site(site: Manifest) -> tuple[Manifest, Manifest]:
    """Choose the speech to adapt on, and other speakers to choose the epoch on.

    Args:
        site: the site's training utterances.

    Returns:
        About ten minutes, `SECONDS` of each of the first `SPEAKERS` speakers; and all utterances of the last
        `DEVELOPMENT` speakers.
    """
    speakers = site.speakers
    kept: dict[str, float] = dict.fromkeys(speakers[:SPEAKERS], 0.0)
    utterances = []
    for utterance, speaker, samples in zip(
        *(site.column(name) for name in ("utterance_id", "speaker_id", "num_samples")), strict=True
    ):
        if speaker in kept and kept[speaker] < SECONDS:
            kept[speaker] += samples / SAMPLING_RATE
            utterances.append(utterance)
    return site.where("utterance_id", utterances), site.where("speaker_id", speakers[-DEVELOPMENT:])


def report(
    model: OSKDFTForXVector, feature_extractor: SequenceFeatureExtractor, speech: Manifest, trials: Trials
) -> TrialReport:
    """Measure the error rates of a verifier, with a LoRA or without, on the trials of some utterances."""
    scores = trial_scores(model.eval(), feature_extractor, speech, trials)
    return report_scores(scores, trials, speakers_of(speech))


def measure(feature_extractor: SequenceFeatureExtractor) -> dict[str, Any]:
    """Measure the student, and the student with the saved LoRA, on the validation speakers of each corpus."""
    validation = load_manifest(SPEECH / "manifest.csv", split="validation")
    trials = read_trials(SPEECH / "trials_validation.txt")
    student = AutoModelForAudioXVector.from_pretrained(RUNS / "student")
    adapted = PeftModel.from_pretrained(
        AutoModelForAudioXVector.from_pretrained(RUNS / "student"), RUNS / "site"
    ).merge_and_unload()
    reports: dict[str, Any] = {}
    for name, model in (("student", student), ("adapted", adapted)):
        reports[name] = {}
        for corpus in [SITE, *sorted(set(validation.column("corpus")) - {SITE})]:
            speech = validation.where("corpus", [corpus])
            within = trials.among(set(speech.column("utterance_id")))
            reports[name][corpus] = report(model, feature_extractor, speech, within).as_dict()
    return reports


def sizes(model: PeftModel) -> dict[str, int]:
    """Count the trained parameters, and the bytes on disk of the LoRA and of the whole student."""
    return {
        "parameters": sum(value.numel() for value in model.parameters() if value.requires_grad),
        "lora_bytes": (RUNS / "site" / "adapter_model.safetensors").stat().st_size,
        "student_bytes": (RUNS / "student" / "model.safetensors").stat().st_size,
    }


def page(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    before, after = results["systems"]["student"], results["systems"]["adapted"]
    lines = [
        "# A student on a new site, with PEFT",
        "",
        f"By `python examples/adapt_to_site.py`, seed {results['seed']}. The student was trained without {SITE}; a "
        f"LoRA of {results['parameters']:,} parameters ({results['lora_bytes'] / 1e6:.2f} MB beside the student's "
        f"{results['student_bytes'] / 1e6:.1f} MB) was trained on {60 * results['site']['hours']:.0f} minutes of "
        f"{results['site']['speakers']} of its speakers in {results['seconds']:.0f} s. The epoch "
        f"({results['epoch']} of {EPOCHS}) was chosen on {DEVELOPMENT} other speakers of the site. EER in %, with "
        "95 % intervals by bootstrap over speakers; all speakers below were heard by neither.",
        "",
        "|  | trials (speakers) | student | with the site's LoRA |",
        "| --- | ---: | ---: | ---: |",
    ]
    for corpus, rates in before.items():
        label = f"{corpus}, the site" if corpus == SITE else corpus
        trials = f"{rates['trials']:,} ({rates['speakers']})"
        cells = (label, trials, eer_in_percent(rates), eer_in_percent(after[corpus]))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", verdict(before, after), ""]
    lines += [measured_on(results, ("torch", "transformers", "peft")), ""]
    return "\n".join(lines)


def verdict(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Write in words how far the EER changes on the site and elsewhere, and how certain that is."""
    gain = 100 * (before[SITE]["eer"] - after[SITE]["eer"])
    losses = {corpus: 100 * (after[corpus]["eer"] - before[corpus]["eer"]) for corpus in before if corpus != SITE}
    worst = max(losses, key=lambda corpus: losses[corpus])
    sentence = f"On the site the EER {'falls' if gain > 0 else 'rises'} by {abs(gain):.1f} points; "
    if losses[worst] <= 0:
        sentence += "on no other corpus does it rise."
    else:
        sentence += f"elsewhere it rises by {losses[worst]:.1f} points at most ({worst})."
    return (
        f"{sentence} The intervals of so few speakers are wide, and this is one seed. Where the site's LoRA is "
        "switched off, the student is the one before, to the bit."
    )


if __name__ == "__main__":
    main()
