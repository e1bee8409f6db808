"""Whether two recordings are of one speaker: `python verify.py A.wav B.wav`.

Stands alone beside model.onnx and thresholds.json; needs onnxruntime, numpy and soundfile, and nothing else. Prints
score and decision. Exit codes: 0 the same speaker, 1 different speakers, 2 an error, said in one sentence.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

HERE = Path(__file__).resolve().parent
FRAME, QUIETEST = 320, 1e-3  # 20 ms; 60 dB below full scale


def open_model() -> onnxruntime.InferenceSession:
    """The graph beside this file, with memory given back after each recording."""
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # an arena keeps the most that any recording needed
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])


def read(path: str, rate: int, shortest: int) -> np.ndarray:
    """A recording as (samples,), channels mixed. Raises `ValueError` for one that is not at `rate`, or silent."""
    try:
        frames, found = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"'{path}' cannot be read ({str(error).rstrip('.')}): give wav, flac, ogg or mp3.") from None
    if found != rate:
        raise ValueError(f"'{path}' is at {found} Hz: resample it, e.g. `ffmpeg -i {path} -ar {rate} OUT.wav`.")
    waveform = frames.mean(axis=1)
    if len(waveform) < shortest or not np.isfinite(waveform).all():
        raise ValueError(f"'{path}' is too short or not finite: give a recording with speech in it.")
    levels = np.sqrt(np.mean(np.square(np.pad(waveform, (0, -len(waveform) % FRAME)).reshape(-1, FRAME)), axis=1))
    if levels.max() <= QUIETEST:
        raise ValueError(f"'{path}' is silent: give a recording with speech in it.")
    return waveform


def embed(model: onnxruntime.InferenceSession, waveform: np.ndarray) -> np.ndarray:
    """The voice in a recording as a vector of unit length."""
    inputs = {"input_values": waveform[None], "attention_mask": np.ones((1, len(waveform)), np.int64)}
    embedding = model.run(None, inputs)[0][0]
    return embedding / np.linalg.norm(embedding)


def threshold_of(facts: dict, operating_point: str) -> float | None:
    """At which score two recordings are of one speaker; None where that was not measured for these weights."""
    file = HERE / "thresholds.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return known["values"].get(operating_point) if known.get("fingerprint") == facts["fingerprint"] else None


def main() -> int:
    """Read, embed, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs=2, metavar="RECORDING")
    parser.add_argument("--operating_point", default="eer", choices=("eer", "far_1_percent", "far_0.1_percent"))
    options = parser.parse_args()
    try:
        model = open_model()
        facts = model.get_modelmeta().custom_metadata_map
        rate, shortest = int(facts["sampling_rate"]), int(facts["shortest_input"])
        first, second = (embed(model, read(path, rate, shortest)) for path in options.recordings)
    except Exception as error:
        print(f"verify.py: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    score, threshold = float(first @ second), threshold_of(facts, options.operating_point)
    if threshold is None:
        print(f"no decision (score {score:.4f}, no threshold at {options.operating_point})")
        return 2
    same = score >= threshold
    print(f"{'same speaker' if same else 'different speakers'} (score {score:.4f}, threshold {threshold:.4f})")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
