"""Compare reading a 3 s crop by seeking with decoding its whole file: a FLAC and a WAV of 20 s."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio.loading import SAMPLING_RATE, load_audio, read_crop
from ..audio.synthetic_voices import draw_session, draw_voice, synthesise
from ..evaluation.cost import alternating_medians

SECONDS, CROP_SECONDS, CALLS, ROUNDS = 20, 3, 20, 15


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure both ways for both formats; return a row for each format, and the ratio of their times."""
    generator = np.random.default_rng(0)
    speech = synthesise(draw_voice(generator), draw_session(generator), SECONDS, generator)
    rows, ratios = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for extension in ("flac", "wav"):
            file = str(Path(folder, f"speech.{extension}"))
            soundfile.write(file, speech, SAMPLING_RATE)
            positions = generator.random(CALLS)

            def crop(file: str = file, positions: np.ndarray = positions) -> None:
                for position in positions:
                    read_crop(file, CROP_SECONDS * SAMPLING_RATE, float(position))

            def whole(file: str = file) -> None:
                for _ in range(CALLS):
                    load_audio(file)

            seconds = alternating_medians({"whole": whole, "crop": crop}, ROUNDS)
            milliseconds = {name: 1000 * value / CALLS for name, value in seconds.items()}
            rows.append(
                {"file": f"{SECONDS} s {extension}"} | {f"{name}, ms": value for name, value in milliseconds.items()}
            )
            ratios[f"{extension}: crop / whole (at most 0.33)"] = seconds["crop"] / seconds["whole"]
    return rows, ratios
