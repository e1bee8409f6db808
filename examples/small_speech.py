"""Train and measure on real speech: the teacher with a trained head, and the students that OS-KDFT makes of it.

This runs those of the recipes of `SYSTEMS` that have no result yet. Then it opens the saved models and measures them
in one process: error rates on trials of speakers that no system trained on, sizes, encoder time on one thread, and the
exports for browsers with the page that runs them. It writes docs/results/small_speech.json, the plots, the page, and
the records of the cards.

    python examples/small_speech.py

It needs the folder of real speech and the small teacher beside the project, Node.js and Chromium, and takes about two
hours on two CPU cores.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.benchmark.browser import (
    ROUNDS,
    THREADS,
    chromium,
    comparing_in_python,
    comparing_on_page,
    served,
    write_recordings,
)
from modeling_oskdft.benchmark.plotting import curves_of, figure
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import Trials, read_trials
from modeling_oskdft.embedding.corpus import extract_embeddings
from modeling_oskdft.embedding.runtimes import MODEL_NAME, OnnxEmbedder
from modeling_oskdft.evaluation.cost import count_parameters, encoder_seconds, file_bytes, medians_in_turn
from modeling_oskdft.evaluation.decision_report import one_thread
from modeling_oskdft.evaluation.report import report_scores, reports_by, speakers_of
from modeling_oskdft.export.browser import VERIFIER, export_browser
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.hub.model_card import Statements, record
from modeling_oskdft.provenance import machine, versions
from modeling_oskdft.scoring.cosine import score_trials
from modeling_oskdft.scoring.metrics import eer_in_percent

ROOT = Path(__file__).resolve().parents[1]
RECIPES, RUNS, DOCS = ROOT / "examples" / "recipes", ROOT / "runs" / "small_speech", ROOT / "docs" / "results"
SPEECH = ROOT.parent / "shared" / "data" / "speech"
# From the README files beside the teacher and the recordings.
STATEMENTS = Statements(
    license="cc-by-sa-4.0",
    teacher_license="CC BY-SA 4.0",
    data_license="speechocean762, LibriSpeech and Speech Commands: CC BY 4.0; FSDD: CC BY-SA 4.0; DSPSpeech-20: MIT; "
    "EmoDB: CC0 1.0",
    notes="A system of this project's own tables, on a tiny teacher and little speech: to learn from, not to use.",
)
RUN_KEYS = ("seed", "steps", "seconds", "resumed", "selected_step", "selection_eer")
SYSTEMS = {
    "teacher_frozen": ("small_speech_teacher_frozen.yaml", "Teacher, frozen, trained head"),
    "teacher_finetuned": ("small_speech_teacher_finetuned.yaml", "Teacher, fine-tuned with its head"),
    "student": ("small_speech.yaml", "Student, OS-KDFT, one run"),
    "thin_student": ("small_speech_thin.yaml", "Thin student, the same steps"),
    "thin_student_long": ("small_speech_thin_long.yaml", "Thin student, three times the steps"),
}
COLOURS = ("#888888", "#3987e5", "#e5732a", "#2a9d8f", "#8a63d2")


def main() -> None:
    """Train the systems that have no result, measure all, and write the results, plots, page and records."""
    logging.disable_progress_bar()
    if not SPEECH.is_dir():
        sys.exit("The folder of real speech is not beside the project: nothing was run.")
    for name, (recipe, _) in SYSTEMS.items():
        if not (RUNS / name / "results.json").is_file():
            resume = ["--resume_from_checkpoint", "auto"]  # after an interruption; else from the start
            subprocess.run([sys.executable, "train_oskdft.py", str(RECIPES / recipe), *resume], cwd=ROOT, check=True)
    results = measure()
    DOCS.mkdir(parents=True, exist_ok=True)
    write_json(results, DOCS / "small_speech.json")
    for theme in ("light", "dark"):
        plot(results, theme)
    with whole_file(DOCS / "small_speech.md") as file:
        file.write_text(page(results), encoding="utf-8")
    for name in SYSTEMS:
        public = f"small-speech-{name.replace('_', '-')}"
        write_json(record(RUNS / name, f"org/{public}", STATEMENTS), DOCS / "cards" / f"{public}.json")


def measure() -> dict[str, Any]:
    """Measure every number of the page; returns the contents of docs/results/small_speech.json."""
    verifiers = {name: AutoModel.from_pretrained(RUNS / name).eval() for name in SYSTEMS}
    milliseconds = encoder_seconds({name: verifier.oskdft for name, verifier in verifiers.items()}, rounds=21)
    manifest = load_manifest(SPEECH / "manifest.csv", split="validation")
    trials = read_trials(SPEECH / "trials_validation.txt")
    systems = {}
    for name, verifier in verifiers.items():
        run = json.loads((RUNS / name / "results.json").read_text(encoding="utf-8"))
        feature_extractor = AutoFeatureExtractor.from_pretrained(RUNS / name)
        embeddings = extract_embeddings(verifier, feature_extractor, manifest, progress=True)
        scores = score_trials(trials, embeddings)
        systems[name] = {
            "test": report_scores(scores, trials, speakers_of(manifest)).as_dict(),
            "by_corpus": reports_by("corpus", scores, trials, manifest),
            "parameters": count_parameters(verifier),
            "encoder_parameters": count_parameters(verifier.oskdft),
            "bytes": file_bytes(RUNS / name),
            "encoder_milliseconds": 1000 * milliseconds[name],
            "run": {key: run[key] for key in (*RUN_KEYS, "machine", "versions")},
            "curves": curves_of(run["history"]),
        }
    for name, facts in deployed(manifest, trials).items():
        systems[name] |= facts
    train = load_manifest(SPEECH / "manifest.csv", split="train")
    counts = {"train_speakers": len(train.speakers), "train_utterances": len(train)}
    return {
        "name": "small_speech",
        "systems": systems,
        **counts,
        "browser_threads": THREADS,
        "machine": machine(),
        "versions": versions(),
    }


def deployed(manifest: Manifest, trials: Trials) -> dict[str, dict[str, Any]]:
    """Measure the exports for browsers: error rates and size of the graph, and the time of a comparison.

    Args:
        manifest: the utterances of the trials.
        trials: scored with every graph.

    Returns:
        System to its facts: `int8_test`, `int8_bytes`, and `python_milliseconds` and `browser_milliseconds` of a
        comparison of two decoded recordings of 3 s.
    """
    facts: dict[str, dict[str, Any]] = {}
    calls: dict[tuple[str, str], Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as place, one_thread(), served(Path(place)) as address, chromium() as browser:
        used = manifest.where("utterance_id", trials.utterances())
        recordings = write_recordings([used.audio(row) for row in (0, 1)], Path(place))
        for name in SYSTEMS:
            folder = Path(place, name)
            written = export_browser(RUNS / name, folder)
            embedder = OnnxEmbedder(folder / VERIFIER / MODEL_NAME)
            embeddings = {
                utterance: embedder.embed([load_audio(used.audio(row))])[0]
                for row, utterance in enumerate(used.column("utterance_id"))
            }
            test = report_scores(score_trials(trials, embeddings), trials, speakers_of(manifest)).as_dict()
            facts[name] = {"int8_test": test, "int8_bytes": written.bytes}
            calls[name, "python_milliseconds"] = comparing_in_python(folder, recordings)
            calls[name, "browser_milliseconds"] = comparing_on_page(browser, f"{address}{name}/", recordings)
        for (name, measured), milliseconds in medians_in_turn(calls, ROUNDS).items():
            facts[name][measured] = milliseconds
    return facts


def plot(results: dict[str, Any], theme: str) -> None:
    """Plot the losses of the student, and the EER of all systems on the speakers set aside.

    Args:
        results: as `measure` returns them.
        theme: "light" or "dark".
    """
    colours = dict(zip(SYSTEMS, COLOURS, strict=True))
    with figure(DOCS / f"small_speech_{theme}.png", theme, 10, 3.6, columns=2) as ((left, right), _):
        curves = results["systems"]["student"]["curves"]
        for name, label, colour in (("kd_loss", "kd_loss", "#8a63d2"), ("ft_loss", "ft_loss", colours["student"])):
            left.plot(*zip(*curves[name], strict=True), color=colour, label=label)
        left.set(xlabel="epoch", ylabel="loss", title="Both losses of the one run", ylim=(0, None))
        for name, (_, label) in SYSTEMS.items():
            points = results["systems"][name]["curves"]["eval_eer"]
            epochs, rates = zip(*points, strict=True)
            right.plot(
                epochs, [100 * rate for rate in rates], color=colours[name], marker="o", markersize=3, label=label
            )
        right.set(xlabel="epoch", ylabel="EER, %", title="Speakers set aside from training", ylim=(0, None))


def page(results: dict[str, Any]) -> str:
    """Write the results as docs/results/small_speech.md."""
    systems = results["systems"]
    teacher, student = systems["teacher_finetuned"], systems["student"]
    corpora = sorted(student["by_corpus"])
    test, run = student["test"], student["run"]
    lines = {
        "versions": ", ".join(f"{name} {value}" for name, value in run["versions"].items()),
        "systems": "\n".join(row(label, systems[name]) for name, (_, label) in SYSTEMS.items()),
        "corpora": " | ".join(f"{corpus} ({student['by_corpus'][corpus]['trials']:,} trials)" for corpus in corpora),
        "rule": " | ".join("---:" for _ in corpora),
        "by_corpus": "\n".join(corpus_row(label, systems[name], corpora) for name, (_, label) in SYSTEMS.items()),
        "deployed": "\n".join(deployed_row(label, systems[name]) for name, (_, label) in SYSTEMS.items()),
        "steps": "; ".join(f"{label}: {systems[name]['run']['steps']:,}" for name, (_, label) in SYSTEMS.items()),
        "minutes": "; ".join(
            f"{label}: {systems[name]['run']['seconds'] / 60:.0f}"
            for name, (_, label) in SYSTEMS.items()
            if not systems[name]["run"]["resumed"]  # what was before an interruption was not counted
        ),
    }
    compared = ("parameters", "encoder_parameters", "bytes", "encoder_milliseconds")
    change = {key: student[key] / teacher[key] - 1 for key in compared}
    gap = 100 * (test["eer"] - teacher["test"]["eer"])
    low, high = teacher["test"]["eer_low"], teacher["test"]["eer_high"]
    threads = results["browser_threads"]
    where = "within" if low <= test["eer"] <= high else "outside"
    return f"""# Small real speech

<!-- Written by examples/small_speech.py from small_speech.json: change that, not this. -->

    python examples/small_speech.py

Seed {run["seed"]}; {lines["versions"]};
{run["machine"]["cpu"]}, {run["machine"]["cores"]} cores.

Teacher: an 8-layer, 192-wide HuBERT pre-trained for an hour on real speech. Data: {results["train_speakers"]} train
speakers of six free corpora, {results["train_utterances"]:,} utterances; a tenth of these speakers is set aside and
chooses the checkpoint. Test: {test["trials"]:,} trials of {test["speakers"]} other speakers, each within one corpus,
gender and age group; they chose nothing. Intervals are 95 %, by bootstrap over speakers.

| system | EER, % | minDCF (p = 0.01) | parameters | of them encoder | file, MB | encoder, 3 s on one thread, ms |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{lines["systems"]}

Exported for the browser, with weights in int8; the time of a whole comparison of two decoded recordings of 3 s
(speech, embeddings, decision), by onnxruntime in Python on one thread and on the page in Chromium on {threads}. The
recordings are the first two of the test, repeated or cut to that length:

| system | EER in int8, % | int8 file, MB | comparison in Python, ms | in the browser, ms |
| --- | ---: | ---: | ---: | ---: |
{lines["deployed"]}

The student against the fine-tuned teacher: {change["parameters"]:+.0%} parameters
({change["encoder_parameters"]:+.0%} in the encoder), {change["bytes"]:+.0%} file size,
{change["encoder_milliseconds"]:+.0%} encoder time, {gap:+.1f} points of EER, {where} the interval of the teacher.
The convolutional front end is common to both and does most of what is left. Only the last row had more steps than the
others: what they would do to the student of two layers was not measured.

| EER, %, corpus by corpus | {lines["corpora"]} |
| --- | {lines["rule"]} |
{lines["by_corpus"]}

<picture>
  <source media="(prefers-color-scheme: dark)" srcset="small_speech_dark.png">
  <img alt="Left: the two losses of the student. Right: EER on the speakers set aside." src="small_speech_light.png">
</picture>

Steps: {lines["steps"]}. The student's best was step {run["selected_step"]}, with
{100 * run["selection_eer"]:.1f} % EER on the speakers set aside. Training in minutes, on two cores that did other
work as well: {lines["minutes"]}.

What this shows and what not: the pipeline works on real recordings, and the student verifies speakers it has never
heard. One seed, a teacher that had an hour of pre-training, short utterances of mostly one corpus and one session: the
sizes of the gaps say little about VoxCeleb. The speakers set aside are easier than the test speakers, because they are
drawn from all six corpora; compare systems within a column, not the two columns.
"""


def row(label: str, system: dict[str, Any]) -> str:
    """Write the row of a system."""
    test = system["test"]
    return (
        f"| {label} | {eer_in_percent(test)} "
        f"| {test['min_dcf']:.2f} ({test['min_dcf_low']:.2f}–{test['min_dcf_high']:.2f}) | {system['parameters']:,} "
        f"| {system['encoder_parameters']:,} | {system['bytes'] / 1e6:.2f} | {system['encoder_milliseconds']:.1f} |"
    )


def deployed_row(label: str, system: dict[str, Any]) -> str:
    """Write the row of a system's export."""
    return (
        f"| {label} | {eer_in_percent(system['int8_test'])} | {system['int8_bytes'] / 1e6:.2f} "
        f"| {system['python_milliseconds']:.0f} | {system['browser_milliseconds']:.0f} |"
    )


def corpus_row(label: str, system: dict[str, Any], corpora: list[str]) -> str:
    """Write the row of a system with its EER on each corpus."""
    cells = [f"{100 * system['by_corpus'][corpus]['eer']:.1f}" for corpus in corpora]
    return f"| {label} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
