"""Compare our augmentation with audiomentations on 3 s crops: crops a second, and whether a seed decides alone.

audiomentations is not a dependency (`pip install audiomentations fast-mp3-augment`); without it its columns are empty.
"""

import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio.augmentation import WaveformAugmentation, draw_clipping, draw_gain, through_codec
from ..audio.loading import SAMPLING_RATE, Waveform
from ..evaluation.cost import alternating_medians

CALLS, ROUNDS, SECONDS = 20, 9, 3
Change = Callable[[Waveform], Waveform]


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure every augmentation; return a row for each, and our speed over that of audiomentations."""
    crop = np.random.default_rng(0).normal(scale=0.1, size=SECONDS * SAMPLING_RATE).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        noise, rooms = _write_sources(Path(folder))
        ours, audiomentations = _ours(noise, rooms), _audiomentations(noise, rooms)
        rows, ratios = [], {}
        for name, change in ours.items():
            calls = {"ours": partial(_repeat, change, crop)}
            if name in audiomentations:
                calls["audiomentations"] = partial(_repeat, audiomentations[name], crop)
            rates = {library: CALLS / seconds for library, seconds in alternating_medians(calls, ROUNDS).items()}
            rows.append(
                {
                    "augmentation": name,
                    "ours, crops/s": rates["ours"],
                    "audiomentations, crops/s": rates.get("audiomentations", "not installed"),
                    "ours: a seed decides": _is_decided(partial(_seeded, name, noise, rooms), crop),
                    "audiomentations: a seed decides": _is_decided(audiomentations[name], crop)
                    if name in audiomentations
                    else "–",
                }
            )
            if "audiomentations" in rates:
                ratios[f"{name}: ours / audiomentations"] = rates["ours"] / rates["audiomentations"]
    return rows, ratios


def _write_sources(folder: Path) -> tuple[Path, Path]:
    generator = np.random.default_rng(1)
    (folder / "musan/noise/a").mkdir(parents=True)
    (folder / "rirs").mkdir()
    for number in range(8):
        noise = generator.normal(scale=0.1, size=SAMPLING_RATE * 10)
        soundfile.write(folder / f"musan/noise/a/{number}.wav", noise, SAMPLING_RATE)
        room = generator.normal(size=8000) * np.exp(-np.arange(8000) / 1000)
        soundfile.write(folder / f"rirs/{number}.wav", room / np.abs(room).max(), SAMPLING_RATE)
    return folder / "musan", folder / "rirs"


def _ours(noise: Path, rooms: Path, seed: int = 0) -> dict[str, Change]:
    augmentation, generator = WaveformAugmentation(noise, rooms), np.random.default_rng(seed)
    return {
        "noise": lambda crop: augmentation.surround(crop, "noise", generator),
        "room": lambda crop: augmentation.surround(crop, "room", generator),
        "clipping": lambda crop: draw_clipping(crop, generator),
        "gain": lambda crop: draw_gain(crop, generator),
        "mp3": lambda crop: through_codec(crop, "mp3"),
    }


def _seeded(name: str, noise: Path, rooms: Path, crop: Waveform) -> Waveform:
    return _ours(noise, rooms, seed=7)[name](crop)


def _audiomentations(noise: Path, rooms: Path) -> dict[str, Change]:
    try:
        import audiomentations
    except ImportError:
        return {}
    changes = {
        "noise": audiomentations.AddBackgroundNoise(str(noise / "noise"), min_snr_db=0.0, max_snr_db=15.0, p=1.0),
        "room": audiomentations.ApplyImpulseResponse(str(rooms), p=1.0),
        "clipping": audiomentations.ClippingDistortion(p=1.0),
        "gain": audiomentations.Gain(-20.0, 6.0, p=1.0),
        "mp3": audiomentations.Mp3Compression(p=1.0, backend="fast-mp3-augment"),
    }
    return {name: partial(change, sample_rate=SAMPLING_RATE) for name, change in changes.items()}


def _repeat(change: Change, crop: Waveform) -> None:
    for _ in range(CALLS):
        change(crop)


def _is_decided(change: Change, crop: Waveform) -> str:
    """Return "yes" where the global random state of the process, which differs between workers, changes no call."""
    results = []
    for seed in range(3):
        random.seed(seed)
        np.random.seed(seed)
        results.append(change(crop))
    return "yes" if all(np.array_equal(results[0], other) for other in results[1:]) else "no"
