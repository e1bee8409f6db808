"""Measure what counts as speech: by Silero's network, and by the level alone, against what is known to be there.

Made-up sounds have no speech. Real speech is joined with sounds and pauses between: what is known to be speech are its
recordings, from their first to their last loud frame.

    python examples/speech_detection.py

It needs the folders of real speech and of noise beside the project. It writes docs/results/speech_detection.json and
.md, in a minute.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from modeling_oskdft.audio.augmentation import add_noise
from modeling_oskdft.audio.folders import audio_files
from modeling_oskdft.audio.forms import SAMPLING_RATE, Waveform
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.audio.speech import BELOW_LOUDEST, FRAME, Inspection, SpeechNetwork, speech_network
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.evaluation.cost import alternating_medians
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions

ROOT = Path(__file__).resolve().parents[1]
DOCS, SHARED = ROOT / "docs" / "results", ROOT.parent / "shared" / "data"
SECONDS = 10
TIME = np.arange(SECONDS * SAMPLING_RATE) / SAMPLING_RATE
RECORDINGS = 60


def main() -> None:
    """Measure, and write the results and the page."""
    if not SHARED.is_dir():
        sys.exit("The real speech and the noise are not beside the project: nothing was measured.")
    results = measure()
    write_json(results, DOCS / "speech_detection.json")
    with whole_file(DOCS / "speech_detection.md") as file:
        file.write_text(page(results), encoding="utf-8")


def measure() -> dict[str, Any]:
    """Measure every number of the page; returns the contents of the JSON file."""
    network = speech_network()
    rows = []
    for name, takes in (*made_up(), *real()):
        row: dict[str, Any] = {"sound": name, "seconds": sum(len(take) for take, _ in takes) / SAMPLING_RATE}
        row["speech"] = sum(truth for _, truth in takes)
        for way, chosen in (("network", network), ("level", None)):
            found = [seconds_of(take, chosen) for take, _ in takes]
            row[way] = sum(found)
            errors = [abs(value - truth) for value, (_, truth) in zip(found, takes, strict=True)]
            row[f"{way}_error"] = float(np.mean(errors))
        rows.append(row)
    second = 0.1 * np.random.default_rng(0).normal(size=SAMPLING_RATE).astype(np.float32)
    times = alternating_medians(
        {"network": lambda: seconds_of(second, network), "level": lambda: seconds_of(second, None)}, rounds=31
    )
    facts = {"milliseconds_a_second": {name: 1000 * value for name, value in times.items()}}
    return {"name": "speech_detection", "rows": rows, **facts, "machine": machine(), "versions": versions()}


def seconds_of(waveform: Waveform, network: SpeechNetwork | None) -> float:
    """Return the seconds that one of the ways calls speech."""
    inspection = Inspection(network)
    inspection.add(waveform)
    return inspection.finish().seconds


def made_up() -> Iterator[tuple[str, list[tuple[Waveform, float]]]]:
    """Yield sounds without speech, 10 s each."""
    noise = np.random.default_rng(0).normal(size=len(TIME))
    hum = 0.1 * np.sin(2 * np.pi * 50 * TIME)
    chords = sum(0.1 * np.sin(2 * np.pi * note * TIME) * np.exp(-3 * (TIME % 0.5)) for note in (262, 330, 392, 523))
    sounds = {
        "white noise": 0.1 * noise,
        "tone of 1 kHz": 0.3 * np.sin(2 * np.pi * 1000 * TIME),
        "hum of 50 Hz with hiss": hum + 0.003 * noise,
        "plucked chords": chords,
        "clicks": np.where(np.arange(len(TIME)) % SAMPLING_RATE < 20, 0.8, 0.0),
    }
    for name, sound in sounds.items():
        yield name, [(np.asarray(sound, np.float32), 0.0)]
    for kind, name in (("noise", "everyday sounds (ESC-10)"), ("music", "music")):
        yield name, [(load_audio(file), 0.0) for file in audio_files(SHARED / "noise" / kind)]


def real() -> Iterator[tuple[str, list[tuple[Waveform, float]]]]:
    """Yield real speech between pauses, alone and with noise."""
    manifest = load_manifest(SHARED / "speech" / "manifest.csv", split="validation")
    rows = np.random.default_rng(0).choice(len(manifest), RECORDINGS, replace=False)
    speech = [spoken(load_audio(manifest.audio(int(row)))) for row in sorted(rows)]
    pause = np.zeros(2 * SAMPLING_RATE, np.float32)
    between = [(np.concatenate([pause, take, pause]), len(take) / SAMPLING_RATE) for take in speech]
    yield "real speech between pauses of 2 s", between
    clips = [load_audio(file) for file in audio_files(SHARED / "noise" / "noise")]
    for snr in (20, 10, 5):
        noisy = []
        for number, (take, truth) in enumerate(between):
            power = np.mean(np.square(speech[number])) / np.mean(np.square(take))  # of the speech, without the pauses
            noise = np.resize(clips[number % len(clips)], len(take))
            noisy.append((add_noise(take, noise, snr - 10 * float(np.log10(power))), truth))
        yield f"the same with everyday sounds at {snr} dB", noisy


def spoken(waveform: Waveform) -> Waveform:
    """Cut a recording from its first to its last loud frame."""
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    levels = np.sqrt(np.mean(np.square(frames), axis=1))
    loud = np.flatnonzero(levels > BELOW_LOUDEST * levels.max())
    return waveform[loud[0] * FRAME : (loud[-1] + 1) * FRAME]


def page(results: dict[str, Any]) -> str:
    """Write the results as a page."""
    lines = ["| sound | seconds | of them speech | network: called speech | level: called speech |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for row in results["rows"]:
        lines.append(
            f"| {row['sound']} | {row['seconds']:.0f} | {row['speech']:.0f} | {row['network']:.1f} "
            f"| {row['level']:.1f} |"
        )
    times = results["milliseconds_a_second"]
    return f"""# What counts as speech

<!-- Written by examples/speech_detection.py from speech_detection.json: change that, not this. -->

    python examples/speech_detection.py

Silero's network (`pip install 'modeling-oskdft[vad]'`), and the level alone, which decides where the network is not
installed. The speech of a recording is known from its first to its last loud frame, pauses of the speaker included: so
less than that is right as well.

{chr(10).join(lines)}

A second of audio takes {times["network"]:.1f} ms with the network and {times["level"]:.1f} ms without, on one thread.
{measured_on(results, ("onnxruntime",))}
"""


if __name__ == "__main__":
    main()
