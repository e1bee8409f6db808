"""Whether two recordings are of one speaker: `python verify.py A.wav B.wav`.

Stands alone beside model.onnx and thresholds.json; needs onnxruntime, numpy and soundfile, and nothing else. Prints
score and decision. Exit codes: 0 the same speaker, 1 different speakers, 2 an error, said in one sentence.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LONGEST = 60  # seconds; memory grows with them, to 3 GB for a model of HuBERT-base's width
FRAME, QUIETEST = 320, 1e-3  # 20 ms; 60 dB below full scale


def open_model() -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    """The graph beside this file, and what it says of itself."""
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # may be a list, as "4,2"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: all
    options.enable_mem_pattern = False  # a plan of memory for each length, which costs more than it saves
    options.log_severity_level = 4  # errors come as exceptions
    model = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    facts = model.get_modelmeta().custom_metadata_map
    if not {"fingerprint", "sampling_rate", "shortest_input"} <= facts.keys():
        raise ValueError("model.onnx was not written by `oskdft export`: export the verifier again.")
    return model, facts


def read(path: str, rate: int, shortest: int) -> np.ndarray:
    """A recording as (samples,), channels mixed. Raises `ValueError` for one that cannot be decided upon."""
    try:
        with soundfile.SoundFile(path) as file:
            found = file.samplerate
            frames = file.read(LONGEST * found + 1, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"'{path}' cannot be read ({str(error).rstrip('.')}): give wav, flac, ogg or mp3.") from None
    if found != rate:
        raise ValueError(f"'{path}' is at {found} Hz: resample it, e.g. `ffmpeg -i {path} -ar {rate} OUT.wav`.")
    if len(frames) > LONGEST * rate:
        raise ValueError(f"'{path}' is longer than {LONGEST} s: cut it, e.g. `ffmpeg -i {path} -t {LONGEST} OUT.wav`.")
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


def threshold_of(facts: dict[str, str], operating_point: str) -> float | None:
    """At which score two recordings are of one speaker; None where that was not measured for these weights."""
    file = HERE / "thresholds.json"
    if not file.is_file():
        return None
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["fingerprint"] != facts["fingerprint"]:
            return None
        threshold = known["values"][operating_point]
        if threshold is not None and not math.isfinite(threshold):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError("thresholds.json is damaged: export the verifier again, or remove the file.") from None
    return threshold


def main() -> int:
    """Read, embed, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs=2, metavar="RECORDING")
    parser.add_argument("--operating_point", default="eer", choices=("eer", "far_1_percent", "far_0.1_percent"))
    options = parser.parse_args()
    model, facts = open_model()
    rate, shortest = int(facts["sampling_rate"]), int(facts["shortest_input"])
    first, second = (embed(model, read(path, rate, shortest)) for path in options.recordings)
    score, threshold = float(first @ second), threshold_of(facts, options.operating_point)
    if not math.isfinite(score):
        raise ValueError("The score is not a finite number: check model.onnx and the recordings.")
    if threshold is None:
        print(f"no decision (score {score:.4f}, no threshold at {options.operating_point})")
        return 2
    same = score >= threshold
    said = f"{'same speaker' if same else 'different speakers'} (score {score:.4f}, threshold {threshold:.4f})"
    print(said, flush=True)  # an output that is gone is an error of now
    return 0 if same else 1


if __name__ == "__main__":
    try:  # the imports as well: Python itself ends with 1, which here is a decision
        import numpy as np
        import onnxruntime
        import soundfile

        sys.exit(main())
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        hint = ": pip install onnxruntime numpy soundfile" if isinstance(error, ImportError) else ""
        print(f"verify.py: {lines[0]}{hint}", file=sys.stderr)
        sys.exit(2)
