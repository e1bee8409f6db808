"""Measure what calibrating on a few own pairs is worth: 20, 50, 200 and 1,000 pairs, 20 draws of each.

The small student is calibrated on pairs of one corpus and tested on other speakers of that corpus. Three calibrations
are compared: the one that its training stored, one refitted on the pairs, and the best that any could be. Once the
pairs are of the corpus' training speakers, and once of those that were set aside while it was trained.

    python examples/calibration.py

It needs the small student of examples/small_speech.py, and the folder of real speech beside the project. It writes
docs/results/calibration.json and .md; a few minutes on two CPU cores.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.splits import split_by_speaker
from modeling_oskdft.data.trials import Trials, make_trials
from modeling_oskdft.evaluation.report import speakers_of
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.calibration import Calibration
from modeling_oskdft.scoring.calibration_fitting import fit_calibration
from modeling_oskdft.scoring.likelihood_ratios import cllr, min_cllr
from modeling_oskdft.scoring.metrics import equal_error_rate
from modeling_oskdft.verification.own_pairs import Heard, hear
from modeling_oskdft.verification.verifier import SpeakerVerifier

ROOT = Path(__file__).resolve().parents[1]
MODEL, DOCS = ROOT / "runs" / "small_speech" / "student", ROOT / "docs" / "results"
SPEECH = ROOT.parent / "shared" / "data" / "speech"
CORPUS = "speechocean762"
SIZES, DRAWS = (20, 50, 200, 1000), 20
POOLS = {"train": "training speakers of the corpus", "aside": "speakers of the corpus that were set aside in training"}


def main() -> None:
    """Measure, and write the results and the page."""
    if not SPEECH.is_dir() or not MODEL.is_dir():
        sys.exit("The real speech or the small student is missing: run `python examples/small_speech.py` first.")
    results = measure()
    write_json(results, DOCS / "calibration.json")
    with whole_file(DOCS / "calibration.md") as file:
        file.write_text(page(results), encoding="utf-8")


def measure() -> dict[str, Any]:
    """Measure every number of the page; returns the contents of the JSON file."""
    verifier = SpeakerVerifier.from_pretrained(MODEL)
    stored = verifier.calibration
    if stored is None:
        sys.exit("The small student has no calibration: train it anew with `python examples/small_speech.py`.")
    train = load_manifest(SPEECH / "manifest.csv", split="train")
    _, aside = split_by_speaker(train, 0.1, 0)
    test = of_corpus(load_manifest(SPEECH / "manifest.csv", split="validation"))
    trials = make_trials(test.by_speaker(), seed=0, most=4000)
    heard = heard_of(verifier, test, trials)
    pools = {}
    for name, manifest in (("train", of_corpus(train)), ("aside", of_corpus(aside))):
        pairs = make_trials(manifest.by_speaker(), seed=1, most=4000)
        own = heard_of(verifier, manifest, pairs)
        pools[name] = {
            "speakers": len(manifest.speakers),
            "draws": {
                str(size): [drawn(verifier, manifest, pairs, own, trials, heard, size, seed) for seed in range(DRAWS)]
                for size in SIZES
            },
        }
    scores, labels = scores_of(trials, heard), trials.labels
    return {
        "name": "calibration",
        "corpus": CORPUS,
        "stored": judged(stored, trials, heard),
        "ideal": {"cllr": min_cllr(scores, labels), "error": equal_error_rate(scores, labels).value},
        "pools": pools,
        "test": {"trials": len(labels), "speakers": len(test.speakers)},
        "machine": machine(),
        "versions": versions(),
    }


def of_corpus(manifest: Manifest) -> Manifest:
    """Keep the recordings of the corpus."""
    return manifest.where("corpus", [CORPUS])


def heard_of(verifier: SpeakerVerifier, manifest: Manifest, trials: Trials) -> Heard:
    """Embed the recordings of trials, by utterance id."""
    needed = manifest.where("utterance_id", trials.utterances())
    paths = {str(needed.audio(row)): name for row, name in enumerate(needed.column("utterance_id"))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heard = hear(verifier.embedder, list(paths))
    embeddings = {paths[path]: row for path, row in heard.embeddings.items()}
    return Heard(embeddings, {paths[path]: value for path, value in heard.speech.items()}, heard.network, ())


def scores_of(trials: Trials, heard: Heard) -> np.ndarray:
    """Compute the cosine of each trial."""
    pairs = zip(trials.enrolments, trials.tests, strict=True)
    return np.asarray([float(heard.embeddings[first] @ heard.embeddings[second]) for first, second in pairs])


def speech_of(trials: Trials, heard: Heard) -> np.ndarray:
    """Return the speech of the shorter side of each trial, in seconds."""
    pairs = zip(trials.enrolments, trials.tests, strict=True)
    return np.asarray([min(heard.speech[first], heard.speech[second]) for first, second in pairs])


def drawn(
    verifier: SpeakerVerifier,
    manifest: Manifest,
    pairs: Trials,
    own: Heard,
    trials: Trials,
    heard: Heard,
    size: int,
    seed: int,
) -> dict[str, float]:
    """Calibrate on a draw of pairs, half of them of each kind, and judge it on the test trials."""
    generator = np.random.default_rng(seed)
    rows = [generator.choice(np.flatnonzero(pairs.labels == label), size // 2, replace=False) for label in (0, 1)]
    chosen = pairs.where(np.concatenate(rows).tolist())
    calibration = fit_calibration(
        scores_of(chosen, own),
        chosen.labels,
        chosen.speakers(speakers_of(manifest)),
        verifier.fingerprint(),
        f"{size} pairs",
        speech_of(chosen, own),
        own.network,
    )
    return judged(calibration, trials, heard)


def judged(calibration: Calibration, trials: Trials, heard: Heard) -> dict[str, float]:
    """Measure Cllr, and the errors at the calibration's threshold for equal errors, on the test trials."""
    scores, speech, labels = scores_of(trials, heard), speech_of(trials, heard), trials.labels
    llrs = np.asarray([calibration.llr(*side, heard.network) for side in zip(scores, speech, strict=True)])
    point = calibration.operating_points["eer"]
    accepted = llrs >= (0.0 if point is None else point.llr)
    accepts, rejects = float(accepted[labels == 0].mean()), float((~accepted)[labels == 1].mean())
    return {
        "cllr": cllr(llrs, labels),
        "false_accepts": accepts,
        "false_rejects": rejects,
        "error": (accepts + rejects) / 2,
    }


def page(results: dict[str, Any]) -> str:
    """Write the results as a page."""
    stored, ideal = results["stored"], results["ideal"]
    lines = ["| calibration | Cllr | strangers accepted, % | right speakers rejected, % | mean of both, % |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    lines.append(
        f"| stored by the training | {stored['cllr']:.3f} | {100 * stored['false_accepts']:.1f} "
        f"| {100 * stored['false_rejects']:.1f} | {100 * stored['error']:.1f} |"
    )
    for name, pool in results["pools"].items():
        for size, draws in pool["draws"].items():
            cells = [_range([draw[key] for draw in draws], *how) for key, how in COLUMNS.items()]
            lines.append(f"| {int(size):,} pairs of {pool['speakers']} {POOLS[name]} | {' | '.join(cells)} |")
    lines.append(f"| the best that is possible | {ideal['cllr']:.3f} | | | {100 * ideal['error']:.1f} |")
    return f"""# Calibration on own pairs

<!-- Written by examples/calibration.py from calibration.json: change that, not this. -->

    python examples/calibration.py

The small student, calibrated on pairs of {results["corpus"]} and tested on {results["test"]["trials"]:,} trials of
{results["test"]["speakers"]} of its other speakers, whom nothing has chosen. Medians of {DRAWS} draws of pairs, and
the range of 9 in 10 draws. Half of the pairs are of each kind. Decisions at the threshold for equal errors.
{measured_on(results)}

{chr(10).join(lines)}

The training speakers are those that the student has learnt to tell apart: their pairs score better than those of
anybody else, so a calibration on them promises too much. Pairs of people whom the student has never heard are needed.
"""


COLUMNS: dict[str, tuple[float, int]] = {
    "cllr": (1, 3),
    "false_accepts": (100, 1),
    "false_rejects": (100, 1),
    "error": (100, 1),
}


def _range(values: list[float], factor: float, digits: int) -> str:
    low, middle, high = (factor * value for value in np.quantile(values, [0.05, 0.5, 0.95]))
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


if __name__ == "__main__":
    main()
