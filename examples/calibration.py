"""Measure what calibrating on a few own pairs is worth: 20, 50, 200 and 1,000 pairs, 20 draws of each.

The small student is calibrated on pairs of one corpus and tested on other speakers of that corpus. Three calibrations
are compared: the one that its training stored, one refitted on the pairs, and the best that any could be. Once the
pairs are of the corpus' training speakers, and once of those that were set aside while it was trained. Then recordings
of one speaker and of two are joined, to see how often `enroll` and `verify` warn of several speakers.

    python examples/calibration.py

It needs the small student of examples/small_speech.py, and the folder of real speech beside the project. It writes
docs/results/calibration.json and .md; a few minutes on two CPU cores.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from modeling_oskdft.audio.forms import SAMPLING_RATE
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.splits import split_by_speaker
from modeling_oskdft.data.trials import Trials, make_trials
from modeling_oskdft.embedding.recordings import embed_recordings, read_for_embedding
from modeling_oskdft.evaluation.report import speakers_of
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.calibration import Calibration
from modeling_oskdft.scoring.calibration_fitting import fit_calibration
from modeling_oskdft.scoring.likelihood_ratios import cllr, min_cllr
from modeling_oskdft.scoring.metrics import equal_error_rate
from modeling_oskdft.verification.enrolment import Gate
from modeling_oskdft.verification.hearing import Heard, hear
from modeling_oskdft.verification.verifier import SpeakerVerifier

ROOT = Path(__file__).resolve().parents[1]
MODEL, DOCS = ROOT / "runs" / "small_speech" / "student", ROOT / "docs" / "results"
SPEECH = ROOT.parent / "shared" / "data" / "speech"
CORPUS = "speechocean762"
SIZES, DRAWS = (20, 50, 200, 1000), 20
WAYS = {"moved": True, "anew": False}
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
            **{
                way: {
                    str(size): [
                        drawn(verifier, manifest, pairs, own, trials, heard, size, seed, is_moved)
                        for seed in range(DRAWS)
                    ]
                    for size in SIZES
                }
                for way, is_moved in WAYS.items()
            },
        }
    scores, labels = heard.cosines(trials), trials.labels
    return {
        "name": "calibration",
        "corpus": CORPUS,
        "stored": judged(stored, trials, heard),
        "ideal": {"cllr": min_cllr(scores, labels), "error": equal_error_rate(scores, labels).value},
        "pools": pools,
        "several_speakers": several_speakers(verifier, test),
        "test": {"trials": len(labels), "speakers": len(test.speakers)},
        "machine": machine(),
        "versions": versions(),
    }


def several_speakers(verifier: SpeakerVerifier, manifest: Manifest) -> dict[str, dict[str, float]]:
    """Join recordings of one speaker and of two, and count warnings of several speakers.

    Returns:
        By kind of recording: `recordings`, `one` and `two`, the shares that are warned of.
    """
    gate = Gate(verifier.embedder, verifier.calibration, verifier.thresholds)
    takes = {speaker: [load_audio(audio) for audio in audios_of(manifest, speaker)] for speaker in manifest.speakers}
    names = sorted(takes)
    results = {}
    for kind, most in (("two recordings joined", 1), ("more than 30 s joined", 99)):
        warned: dict[str, list[bool]] = {"one": [], "two": []}
        for name, other in zip(names, [*names[1:], names[0]], strict=True):
            own = takes[name]
            middle = len(own) // 2
            parts = {
                "one": [*own[:middle][:most], *own[middle:][:most]],
                "two": [*own[:middle][:most], *takes[other][: len(own) - middle][:most]],
            }
            for label, listed in parts.items():
                waveform = np.concatenate(listed)
                while most > 1 and len(waveform) <= 31 * SAMPLING_RATE:  # short of 30 s: what there is, once more
                    waveform = np.concatenate([part for take in listed for part in (take, take)])
                    listed = [part for take in listed for part in (take, take)]
                heard = read_for_embedding(waveform)
                (vectors,) = embed_recordings(verifier.embedder, [heard])
                warned[label].append(bool(gate.doubt_of_one_speaker(heard, vectors)))
        shares = {label: float(np.mean(values)) for label, values in warned.items()}
        results[kind] = {"recordings": len(names), **shares}
    return results


def audios_of(manifest: Manifest, speaker: str) -> list[Any]:
    """Return the recordings of a speaker, as `load_audio` takes them."""
    rows = manifest.where("speaker_id", [speaker])
    return [rows.audio(row) for row in range(len(rows))]


def of_corpus(manifest: Manifest) -> Manifest:
    """Keep the recordings of the corpus."""
    return manifest.where("corpus", [CORPUS])


def heard_of(verifier: SpeakerVerifier, manifest: Manifest, trials: Trials) -> Heard:
    """Embed the recordings of trials, by utterance id."""
    needed = manifest.where("utterance_id", trials.utterances())
    names = needed.column("utterance_id")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hear(
            verifier.embedder, ((name, read_for_embedding(needed.audio(row))) for row, name in enumerate(names))
        )


def drawn(
    verifier: SpeakerVerifier,
    manifest: Manifest,
    pairs: Trials,
    own: Heard,
    trials: Trials,
    heard: Heard,
    size: int,
    seed: int,
    is_moved: bool,
) -> dict[str, float]:
    """Calibrate on a draw of pairs, half of them of each kind, and judge it on the test trials.

    is_moved: whether the stored calibration is moved, as `oskdft calibrate` does; else it is forgotten.
    """
    generator = np.random.default_rng(seed)
    rows = [generator.choice(np.flatnonzero(pairs.labels == label), size // 2, replace=False) for label in (0, 1)]
    chosen = pairs.where(np.concatenate(rows).tolist())
    calibration = fit_calibration(
        own.cosines(chosen),
        chosen.labels,
        chosen.speakers(speakers_of(manifest)),
        verifier.fingerprint(),
        f"{size} pairs",
        own.shorter_speech(chosen),
        own.network,
        before=verifier.calibration if is_moved else None,
    )
    return judged(calibration, trials, heard)


def judged(calibration: Calibration, trials: Trials, heard: Heard) -> dict[str, float]:
    """Measure Cllr, and the errors at the calibration's threshold for equal errors, on the test trials."""
    scores, speech, labels = heard.cosines(trials), heard.shorter_speech(trials), trials.labels
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
        for size in pool["moved"]:
            for way in WAYS:
                cells = [_range([draw[key] for draw in pool[way][size]], *how) for key, how in COLUMNS.items()]
                where = f"{int(size):,} pairs of {pool['speakers']} {POOLS[name]}"
                lines.append(f"| {where}, {way if way == 'moved' else 'fitted anew'} | {' | '.join(cells)} |")
    lines.append(f"| the best that is possible | {ideal['cllr']:.3f} | | | {100 * ideal['error']:.1f} |")
    return f"""# Calibration on own pairs

<!-- Written by examples/calibration.py from calibration.json: change that, not this. -->

    python examples/calibration.py

The small student, calibrated on pairs of {results["corpus"]} and tested on {results["test"]["trials"]:,} trials of
{results["test"]["speakers"]} of its other speakers, whom nothing has chosen. Medians of {DRAWS} draws of pairs, and
the range of 9 in 10 draws. Half of the pairs are of each kind. Decisions at the threshold for equal errors.
{measured_on(results)}

{chr(10).join(lines)}

{several(results["several_speakers"])}

`oskdft calibrate` moves the stored calibration: its own trials count as 30 pairs of each kind beside the new ones.
"Fitted anew" forgets it. {conclusion(results)}
"""


def conclusion(results: dict[str, Any]) -> str:
    """Say from how many pairs of speakers set aside on the moved calibration is better than the stored one."""
    stored, draws = results["stored"]["cllr"], results["pools"]["aside"]["moved"]
    better = [size for size, values in draws.items() if np.median([draw["cllr"] for draw in values]) < stored]
    if not better:
        return "On this corpus, no number of pairs lowers the Cllr of the stored calibration, which fits it already."
    return f"On this corpus, the median Cllr is below that of the stored calibration with {', '.join(better)} pairs."


def several(rows: dict[str, dict[str, float]]) -> str:
    """Write the table of warnings of several speakers."""
    lines = ["| recording | warned: one speaker, % | warned: two speakers, % |", "| --- | ---: | ---: |"]
    for kind, row in rows.items():
        lines.append(f"| {row['recordings']:.0f} times {kind} | {100 * row['one']:.0f} | {100 * row['two']:.0f} |")
    return "\n".join(lines)


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
