"""Measure what noise, rooms, codecs, short speech and gain do to a verifier, and how often it warns.

The enrolment of each trial stays as it is; the test recording goes through one condition after the other. For the
rows of durations, recordings of a speaker are joined and cut anew on both sides. Error rates have 95 % intervals by
bootstrap over speakers; the Cllr is that of the stored calibration, as it is used.

    python examples/robustness.py
    python examples/robustness.py --model student --data my_folder --trials my_trials.txt --out student/robustness
    python examples/robustness.py --model student --beside teacher=my_teacher --beside "older student=old_student" ...

The card of a model has the table where robustness.json lies in the model's folder.

Without options, it needs the folder of real speech beside the project and the small student, and takes those of its
teacher and of the student with codecs that are there:

    python train_oskdft.py examples/recipes/small_speech.yaml
    python train_oskdft.py examples/recipes/small_speech_teacher_finetuned.yaml
    python train_oskdft.py examples/recipes/small_speech_codecs.yaml

It writes docs/results/robustness.json, .md and plots; about 6 minutes a model on two CPU cores.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm.auto import tqdm

from modeling_oskdft.audio.augmentation import add_noise, change_speed, clip, resample, reverberate, samples_for_speed
from modeling_oskdft.audio.ffmpeg import find_ffmpeg
from modeling_oskdft.audio.folders import audio_files
from modeling_oskdft.audio.forms import SAMPLING_RATE, Waveform
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.audio.speech import Inspection, inspect
from modeling_oskdft.benchmark.plotting import figure
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import Trials, make_trials, read_trials
from modeling_oskdft.embedding.runtimes import Embedder, bounded_batches
from modeling_oskdft.evaluation.report import speakers_of
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.calibration import Calibration
from modeling_oskdft.scoring.cosine import score_trials
from modeling_oskdft.scoring.likelihood_ratios import cllr
from modeling_oskdft.scoring.metrics import bootstrap_rates, eer_in_percent, equal_error_rate, interval_of
from modeling_oskdft.verification.verifier import SpeakerVerifier

ROOT = Path(__file__).resolve().parents[1]
RUNS, DOCS = ROOT / "runs" / "small_speech", ROOT / "docs" / "results"
SHARED = ROOT.parent / "shared" / "data"
FIRST = "student"  # the name of --model in the results; the card looks for it
BESIDE = {"teacher": RUNS / "teacher_finetuned", "student with codecs": RUNS / "student_codecs"}
ABOUT = {
    "student with codecs": """
It is `examples/recipes/small_speech_codecs.yaml`: half of the augmented crops go through a codec, a telephone's
band with µ-law, µ-law alone, MP3 or Ogg Vorbis. It has never heard GSM, AMR, A-law or Opus.
"""
}
COLOURS = ("#e5732a", "#3987e5", "#1d9a6c", "#a65fd0", "#8b8b3a")
SNRS = (0, 5, 10, 15, 20)
SECONDS = (1, 2, 3, 5, 10)
CHUNKS = 3  # of a half of a speaker's recordings, in the rows of durations
DRAWS = 500
BATCH = 16

Condition = Callable[[Waveform, np.random.Generator], Waveform]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every condition, and write the results, the page and the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder or repository of a verifier (default: the small student)")
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="another verifier to compare with the model; may be given several times",
    )
    parser.add_argument(
        "--data", help="folder or manifest of recordings (default: the real speech beside the project)"
    )
    parser.add_argument("--trials", help="trial list (default: that of the real speech)")
    parser.add_argument("--noise", default=str(SHARED / "noise"), help="folder with noise, music and speech (babble)")
    parser.add_argument("--rooms", default=str(SHARED / "rir"), help="folder of room impulse responses")
    parser.add_argument("--out", default=str(DOCS / "robustness"), help="name of the results, without extension")
    options = parser.parse_args(arguments)
    if options.data is None and not (SHARED / "speech").is_dir():
        sys.exit("The folder of real speech is not beside the project: give --data and --trials.")
    if (options.data is None) != (options.trials is None):
        sys.exit("--data and --trials belong together: give both.")
    models = small_models() if options.model is None else {FIRST: options.model}
    models |= named(options.beside)
    if options.data is None:
        manifest = load_manifest(SHARED / "speech" / "manifest.csv", split="validation")
        trials = read_trials(SHARED / "speech" / "trials_validation.txt")
    else:
        manifest, trials = load_manifest(options.data), read_trials(options.trials)
    results = measure(models, manifest, trials, Path(options.noise), Path(options.rooms))
    write_json(results, f"{options.out}.json")
    for theme in ("light", "dark"):
        plot(results, Path(f"{options.out}_{theme}.png"), theme)
    with whole_file(f"{options.out}.md") as file:
        file.write_text(page(results, Path(options.out).name), encoding="utf-8")


def small_models() -> dict[str, str]:
    """Return the small student, and those of `BESIDE` that were trained."""
    return {FIRST: str(RUNS / "student")} | {name: str(folder) for name, folder in BESIDE.items() if folder.is_dir()}


def named(options: Sequence[str]) -> dict[str, str]:
    """Split options of the form NAME=FOLDER."""
    for option in options:
        if not all(option.partition("=")):
            sys.exit(f"--beside got {option!r}: give NAME=FOLDER.")
    models = {name: folder for name, _, folder in (option.partition("=") for option in options)}
    if len(models) < len(options) or FIRST in models:
        sys.exit(f"--beside needs names that differ from each other and from {FIRST!r}, which is --model.")
    return models


# ---- conditions -----------------------------------------------------------------------------------------------------


def conditions(noise: Path, rooms: Path) -> dict[tuple[str, str], Condition]:
    """List the conditions of the test recording by kind and name."""
    listed: dict[tuple[str, str], Condition] = {("clean", "as recorded"): lambda waveform, _: waveform}
    for kind, folder in (("noise", "noise"), ("babble", "speech"), ("music", "music")):
        if (noise / folder).is_dir():
            clips = [load_audio(file) for file in audio_files(noise / folder)]
            for snr in SNRS:
                listed[kind, f"{snr} dB"] = partial(with_noise, clips=clips, snr=snr)
    if rooms.is_dir():
        for size in sorted(folder.name for folder in rooms.iterdir() if folder.is_dir()):
            responses = [load_audio(file) for file in audio_files(rooms / size)]
            listed["room", size.removesuffix("room")] = partial(in_a_room, responses=responses)
    listed |= {("codec", name): partial(through_soundfile, **how) for name, how in SOUNDFILE_CODECS.items()}
    listed |= {("codec", name): partial(through_ffmpeg, options=how) for name, how in ffmpeg_codecs().items()}
    listed["channel", "8 kHz"] = lambda waveform, _: as_float32(
        resample(resample(waveform, SAMPLING_RATE, 8000), 8000, SAMPLING_RATE)
    )
    for decibels in (-40, -20):
        listed["level", f"{decibels} dB"] = partial(at_level, decibels=decibels)
    for share in (0.5, 0.1):
        listed["clipping", f"at {share:g} of the peak"] = partial(clipped, share=share)
    for speed in (0.95, 1.05):
        listed["speed", f"{100 * (speed - 1):+.0f} %"] = partial(at_speed, speed=speed)
    return listed


def as_float32(waveform: np.ndarray) -> Waveform:
    """Convert samples to float32."""
    return np.ascontiguousarray(waveform, np.float32)


def with_noise(waveform: Waveform, generator: np.random.Generator, clips: list[Waveform], snr: float) -> Waveform:
    """Add a clip at a signal-to-noise ratio."""
    clip_chosen = clips[generator.integers(len(clips))]
    return add_noise(
        waveform, np.resize(np.roll(clip_chosen, generator.integers(len(clip_chosen))), len(waveform)), snr
    )


def in_a_room(waveform: Waveform, generator: np.random.Generator, responses: list[Waveform]) -> Waveform:
    """Convolve with the response of a room."""
    return reverberate(waveform, responses[generator.integers(len(responses))])


def at_level(waveform: Waveform, _: np.random.Generator, decibels: float) -> Waveform:
    """Change the level, and round to 16 bits as a file does."""
    return as_float32(np.round(waveform * 10 ** (decibels / 20) * 32767) / 32767)


def clipped(waveform: Waveform, _: np.random.Generator, share: float) -> Waveform:
    """Clip at a share of the peaks, and bring the level back to full scale, as a recorder does."""
    peak = max(float(np.abs(waveform).max()), 1e-9)
    return as_float32((clip(waveform / peak, share) / share).clip(-1, 1))


def at_speed(waveform: Waveform, _: np.random.Generator, speed: float) -> Waveform:
    """Change tempo and pitch."""
    samples = int(len(waveform) / speed)
    return as_float32(change_speed(np.resize(waveform, samples_for_speed(samples, speed)), speed, samples))


SOUNDFILE_CODECS: dict[str, dict[str, Any]] = {
    "G.711 µ-law": {"rate": 8000, "format": "WAV", "subtype": "ULAW"},
    "G.711 A-law": {"rate": 8000, "format": "WAV", "subtype": "ALAW"},
    "GSM 06.10": {"rate": 8000, "format": "WAV", "subtype": "GSM610"},
}
FFMPEG_CODECS = {
    "Opus 8 kbit/s": ("libopus", ["-c:a", "libopus", "-b:a", "8k", "-f", "ogg"]),
    "Opus 16 kbit/s": ("libopus", ["-c:a", "libopus", "-b:a", "16k", "-f", "ogg"]),
    "MP3 32 kbit/s": ("libmp3lame", ["-c:a", "libmp3lame", "-b:a", "32k", "-f", "mp3"]),
    "AMR 12.2 kbit/s": (
        "libopencore_amrnb",
        ["-c:a", "libopencore_amrnb", "-b:a", "12.2k", "-ar", "8000", "-f", "amr"],
    ),
}


def ffmpeg_codecs() -> dict[str, list[str]]:
    """Return the codecs of `FFMPEG_CODECS` that this ffmpeg has; none where there is no ffmpeg."""
    try:
        listing = subprocess.run([find_ffmpeg(), "-hide_banner", "-encoders"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return {}
    return {name: options for name, (encoder, options) in FFMPEG_CODECS.items() if encoder in listing}


def through_soundfile(waveform: Waveform, _: np.random.Generator, rate: int, format: str, subtype: str) -> Waveform:
    """Encode and decode with a codec of libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, resample(waveform, SAMPLING_RATE, rate).clip(-1, 1), rate, format=format, subtype=subtype)
    received, _rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    return as_float32(resample(received, rate, SAMPLING_RATE)[: len(waveform)])


def through_ffmpeg(waveform: Waveform, _: np.random.Generator, options: list[str]) -> Waveform:
    """Encode and decode with a codec of ffmpeg."""
    quiet = [find_ffmpeg(), "-nostdin", "-hide_banner", "-v", "error", "-y"]
    with tempfile.TemporaryDirectory() as place:
        source, sent, received = (f"{place}/{name}" for name in ("a.wav", "b", "c.wav"))
        soundfile.write(source, waveform.clip(-1, 1), SAMPLING_RATE, subtype="PCM_16")
        subprocess.run([*quiet, "-i", source, *options, sent], check=True)
        subprocess.run([*quiet, "-i", sent, "-ar", str(SAMPLING_RATE), "-ac", "1", received], check=True)
        return load_audio(received)[: len(waveform)]


# ---- measurement ----------------------------------------------------------------------------------------------------


def measure(models: dict[str, str], manifest: Manifest, trials: Trials, noise: Path, rooms: Path) -> dict[str, Any]:
    """Measure every condition; returns the contents of the JSON file."""
    verifiers = {name: SpeakerVerifier.from_pretrained(place) for name, place in models.items()}
    needed = manifest.where("utterance_id", trials.utterances())
    waveforms = {name: load_audio(needed.audio(row)) for row, name in enumerate(needed.column("utterance_id"))}
    speakers = speakers_of(needed)
    tests = sorted(set(trials.tests))
    clean = {name: embedded(verifier.embedder, waveforms) for name, verifier in verifiers.items()}
    seconds = {name: inspect(waveform).speech.seconds for name, waveform in waveforms.items()}
    rows = []
    for (kind, label), change in tqdm(conditions(noise, rooms).items(), desc="conditions", disable=None):
        seeds = {name: zlib.crc32(f"{kind} {label} {name}".encode()) for name in tests}
        changed = {name: change(waveforms[name], np.random.default_rng(seeds[name])) for name in tests}
        rows.append(row_of(kind, label, verifiers, changed, clean, seconds, trials, speakers))
    for length in SECONDS:
        pieces, own_speakers = joined(waveforms, speakers, length)
        if len(set(own_speakers.values())) < 10:
            continue
        halves = make_halves_trials(own_speakers)
        embeddings = {name: embedded(verifier.embedder, pieces) for name, verifier in verifiers.items()}
        own_seconds = {name: inspect(waveform).speech.seconds for name, waveform in pieces.items()}
        rows.append(
            row_of("duration", f"{length} s", verifiers, pieces, embeddings, own_seconds, halves, own_speakers)
        )
    return {
        "name": "robustness",
        "models": {name: Path(place).name for name, place in models.items()},
        "fingerprints": {name: verifier.fingerprint() for name, verifier in verifiers.items()},
        "trials": len(trials.labels),
        "speakers": len({speakers[name] for name in waveforms}),
        "rows": rows,
        "machine": machine(),
        "versions": versions(),
    }


def row_of(
    kind: str,
    label: str,
    verifiers: dict[str, SpeakerVerifier],
    changed: dict[str, Waveform],
    clean: dict[str, dict[str, np.ndarray]],
    seconds: dict[str, float],
    trials: Trials,
    speakers: dict[str, str],
) -> dict[str, Any]:
    """Measure one condition for every model. changed: the test recordings; clean: embeddings of the enrolments."""
    pairs = trials.speakers(speakers)
    heard = {name: inspect(waveform) for name, waveform in changed.items()}
    warned = [bool(faults(inspection)) for inspection in heard.values()]
    row: dict[str, Any] = {"kind": kind, "condition": label, "trials": len(trials.labels), "warned": np.mean(warned)}
    shorter = [
        min(seconds[first], heard[second].speech.seconds)
        for first, second in zip(trials.enrolments, trials.tests, strict=True)
    ]
    sides = Trials(trials.labels, trials.enrolments, [f"changed/{name}" for name in trials.tests])
    scores = {}
    for name, verifier in verifiers.items():
        tests = embedded(verifier.embedder, changed)
        scores[name] = score_trials(sides, clean[name] | {f"changed/{test}": row for test, row in tests.items()})
    draws, _ = bootstrap_rates(list(scores.values()), trials.labels, pairs, DRAWS)
    for column, (name, verifier) in enumerate(verifiers.items()):
        low, high = interval_of(draws[:, column])
        row[name] = {"eer": equal_error_rate(scores[name], trials.labels).value, "eer_low": low, "eer_high": high}
        if column:
            row[name] |= dict(
                zip(("difference_low", "difference_high"), interval_of(draws[:, column] - draws[:, 0]), strict=True)
            )
        if verifier.calibration is not None:
            row[name]["cllr"] = cllr(ratios(verifier.calibration, scores[name], shorter), trials.labels)
    return row


def ratios(calibration: Calibration, scores: np.ndarray, speech: Sequence[float]) -> np.ndarray:
    """Compute the log-likelihood ratio of each trial with its speech."""
    return np.asarray(
        [calibration.llr(score, seconds, calibration.network) for score, seconds in zip(scores, speech, strict=True)]
    )


def faults(inspection: Inspection) -> list[str]:
    """List the warnings about a recording; silence is one as well."""
    try:
        return inspection.faults("It")
    except ValueError as error:
        return [str(error)]


def embedded(embedder: Embedder, waveforms: dict[str, Waveform]) -> dict[str, np.ndarray]:
    """Embed waveforms by name, in batches of about equal lengths."""
    names = sorted(waveforms, key=lambda name: -len(waveforms[name]))
    rows = [
        row for batch in bounded_batches((waveforms[name] for name in names), BATCH) for row in embedder.embed(batch)
    ]
    return dict(zip(names, rows, strict=True))


def joined(
    waveforms: dict[str, Waveform], speakers: dict[str, str], length: int
) -> tuple[dict[str, Waveform], dict[str, str]]:
    """Join the recordings of each speaker in two halves, and cut both into pieces of a length.

    Returns:
        Name to waveform, and name to speaker; names end in a/0, b/0 and so on.
    """
    pieces: dict[str, Waveform] = {}
    own: dict[str, str] = {}
    for speaker in sorted(set(speakers.values())):
        names = sorted(name for name in waveforms if speakers[name] == speaker)
        for half, part in (("a", names[::2]), ("b", names[1::2])):
            if part:
                whole = np.concatenate([waveforms[name] for name in part])
                samples = length * SAMPLING_RATE
                for number in range(min(CHUNKS, len(whole) // samples)):
                    pieces[f"{speaker}/{half}/{number}"] = whole[number * samples : (number + 1) * samples]
                    own[f"{speaker}/{half}/{number}"] = speaker
    return pieces, own


def make_halves_trials(speakers: dict[str, str]) -> Trials:
    """Make trials between the halves of speakers: a piece of one half against a piece of the other."""
    by_speaker: dict[str, list[str]] = {}
    for name, speaker in speakers.items():
        by_speaker.setdefault(speaker, []).append(name)
    listed = make_trials(by_speaker, most=4000)
    across = [
        row
        for row, (first, second) in enumerate(zip(listed.enrolments, listed.tests, strict=True))
        if first.split("/")[-2] != second.split("/")[-2]
    ]
    return listed.where(across)


# ---- results --------------------------------------------------------------------------------------------------------


def plot(results: dict[str, Any], path: Path, theme: str) -> None:
    """Plot the EER of each condition with its interval."""
    rows = results["rows"]
    models = list(results["models"])
    with figure(path, theme, 8, 0.24 * len(rows) + 1.2) as (axes, _):
        for offset, name in enumerate(models):
            values = [100 * row[name]["eer"] for row in rows]
            ends = [[100 * abs(row[name][end] - row[name]["eer"]) for row in rows] for end in ("eer_low", "eer_high")]
            places = [number + 0.7 / len(models) * offset for number in range(len(rows))]
            colour = COLOURS[offset % len(COLOURS)]
            axes.errorbar(values, places, xerr=ends, fmt="o", markersize=4, color=colour, elinewidth=1, label=name)
        axes.set_yticks(range(len(rows)), [f"{row['kind']}, {row['condition']}" for row in rows], fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel="EER, % (95 % interval)", xlim=(0, None))
        axes.grid(axis="x", alpha=0.25)


def page(results: dict[str, Any], name: str) -> str:
    """Write the results as a page."""
    models = list(results["models"])
    heads = [f"{model}: EER, % | Cllr" for model in models]
    lines = [f"| condition of the test recording | {' | '.join(heads)} | warned, % |"]
    lines.append("| --- |" + " ---: | ---: |" * len(models) + " ---: |")
    for row in results["rows"]:
        cells = [f"{eer_in_percent(row[model])} | {_cllr(row[model])}" for model in models]
        lines.append(f"| {row['kind']}, {row['condition']} | {' | '.join(cells)} | {100 * row['warned']:.0f} |")
    student = {(row["kind"], row["condition"]): row["student"]["eer"] for row in results["rows"]}
    clean = student["clean", "as recorded"]
    compared = "".join(comparison(results["rows"], name) for name in models[1:])
    worst = sorted(
        ((rate - clean, key) for key, rate in student.items() if key[0] not in ("clean", "duration")), reverse=True
    )[:3]
    hurts = ", ".join(f"{kind} {label} ({100 * loss:+.1f} points)" for loss, (kind, label) in worst)
    return f"""# Robustness

<!-- Written by examples/robustness.py from {name}.json: change that, not this. -->

    python examples/robustness.py

{results["trials"]:,} trials of {results["speakers"]} speakers that nobody trained on. The enrolment stays as recorded,
the test recording goes through the condition; rows of durations join recordings and cut both sides. Seeds are the
names of the recordings. EER with 95 % intervals by bootstrap over speakers, on each row; Cllr of the stored
calibration (0 is perfect, 1 says nothing): above 1, its ratios mislead there. Warned: test recordings about which
`verify` says something. Rows of durations have trials of their own, between speakers of all corpora, which are easier:
compare them with each other alone. {measured_on(results)}

What hurts the student most: {hurts}.

{chr(10).join(lines)}
{compared}
<picture>
  <source media="(prefers-color-scheme: dark)" srcset="{name}_dark.png">
  <img alt="EER of each condition with its interval." src="{name}_light.png">
</picture>
"""


def comparison(rows: list[dict[str, Any]], name: str) -> str:
    """Write the paragraph that says where another model differs from the student by more than its interval."""
    better, worse = [], []
    for row in rows:
        low, high = row[name]["difference_low"], row[name]["difference_high"]
        difference = row[name]["eer"] - row[FIRST]["eer"]
        points = ", ".join(f"{100 * value:+.1f}" for value in (difference, low, high))
        text = f"{row['kind']} {row['condition']} ({points})"
        if high < 0:
            better.append(text)
        elif low > 0:
            worse.append(text)
    rest = len(rows) - len(better) - len(worse)
    about = ABOUT.get(name, "")
    return f"""
## The {name} beside the student
{about}
Points of EER, and the ends of the 95 % interval of the paired difference (the same draws of speakers for both). Only
rows whose interval leaves out zero are named; of so many rows, about one in twenty does so by chance.

- Better: {", ".join(better) or "nowhere"}.
- Worse: {", ".join(worse) or "nowhere"}.
- Not decided: the {rest} other rows.
"""


def _cllr(row: dict[str, float]) -> str:
    return f"{row['cllr']:.2f}" if "cllr" in row else "–"


if __name__ == "__main__":
    main()
