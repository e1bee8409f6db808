"""Whether two recordings are of one speaker: `python verify.py A.wav B.wav`.

Stands alone with decoding.py and speech.py beside model.onnx and thresholds.json; needs onnxruntime, numpy and
soundfile, and nothing else. Prints score and decision. Exit codes: 0 the same speaker, 1 different speakers, 2 an
error of the input, 3 no decision, 70 a fault of this program; errors are said in one sentence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LONGEST = 60  # seconds; memory grows with them, to 3 GB for a model of HuBERT-base's width
POINTS = ("eer", "far_1_percent", "far_0.1_percent")
ENOUGH_SPEAKERS = 20  # below, a threshold says more of these speakers than of others


def open_model() -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    """The graph beside this file, and what it says of itself."""
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # may be a list, as "4,2"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: all
    options.enable_mem_pattern = False  # a plan of memory for each length, which costs more than it saves
    options.log_severity_level = 4  # errors come as exceptions
    try:
        model = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no common class
        raise ValueError(f"model.onnx cannot be opened ({first_line(error)}): export the verifier again.") from None
    facts = model.get_modelmeta().custom_metadata_map
    if not {"fingerprint", "sampling_rate", "shortest_input"} <= facts.keys():
        raise ValueError("model.onnx was not written by `oskdft export`: export the verifier again.")
    return model, facts


def read(path: str, rate: int, shortest: int, channel: int | None) -> np.ndarray:
    """A recording as (samples,). Raises `ValueError` for one that cannot be decided upon."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in path)
    quoted, name = shlex.quote(shown), f"'{shown}'"
    if not os.path.isfile(path):
        raise ValueError(f"There is no recording at {name}: check the path.")
    try:
        with decoding.open_recording(path) as recording:
            for part in recording.parts:
                if part.samplerate != rate:
                    raise ValueError(
                        f"{name} is at {part.samplerate} Hz: resample it, e.g. `ffmpeg -i {quoted} -ar {rate} "
                        "OUT.wav`."
                    )
            left, parts = LONGEST * rate + 1, []
            for number in range(len(recording.parts)):
                parts.append(decoding.mixed(recording.read(number, 0, left), name, channel))
                left -= len(parts[-1])
            notes = recording.notes
    except decoding.NotReadable as error:
        raise ValueError(f"{name} {str(error).rstrip('.')}; or read it with `ffmpeg -i {quoted} OUT.wav`.") from None
    waveform = np.concatenate(parts)
    if len(waveform) > LONGEST * rate:
        raise ValueError(f"{name} is longer than {LONGEST} s: cut it, e.g. `ffmpeg -i {quoted} -t {LONGEST} OUT.wav`.")
    if len(waveform) < shortest:
        raise ValueError(f"{name} is too short: give a recording with speech in it.")
    for sentence in [*(f"{name} {note}" for note in notes), *speech.look_at(waveform, name)]:
        say(f"warning: {sentence}")
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
        expected = known.get("graph")
        threshold = known["values"][operating_point]
        if threshold is not None and not (math.isfinite(threshold) and abs(threshold) <= 1.1):
            raise ValueError
        if threshold is not None and known["speakers"] < ENOUGH_SPEAKERS:
            say(
                f"warning: The threshold {threshold:.2f} stands on {known['speakers']} speakers: below "
                f"{ENOUGH_SPEAKERS} it may not hold for others; measure it on more."
            )
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("thresholds.json is damaged: export the verifier again, or remove the file.") from None
    if expected is not None:
        with open(HERE / "model.onnx", "rb") as graph:
            if hashlib.file_digest(graph, "sha256").hexdigest() != expected:
                raise ValueError("model.onnx is damaged or was changed: export the verifier again.")
    return threshold


def main() -> int:
    """Read, embed, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs=2, metavar="RECORDING")
    parser.add_argument("--operating_point", default="eer", choices=POINTS)
    parser.add_argument("--channel", type=int, help="of both recordings, from 0 (default: they are mixed)")
    options = parser.parse_args()
    model, facts = open_model()
    rate, shortest = int(facts["sampling_rate"]), int(facts["shortest_input"])
    first, second = (embed(model, read(path, rate, shortest, options.channel)) for path in options.recordings)
    score, threshold = float(first @ second), threshold_of(facts, options.operating_point)
    if not math.isfinite(score):
        raise ValueError("The score is not a finite number: check model.onnx and the recordings.")
    if threshold is None:
        print(f"no decision (score {score:.4f}, no threshold at {options.operating_point})", flush=True)
        return 3
    same = score >= threshold
    said = f"{'same speaker' if same else 'different speakers'} (score {score:.4f}, threshold {threshold:.4f})"
    print(said, flush=True)  # an output that is gone is an error of now
    return 0 if same else 1


def say(sentence: str) -> None:
    """Write to stderr. Where that cannot be written nobody can be told, and the exit code stays what it is."""
    try:
        if sys.stderr is not None:
            print(f"verify.py: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def first_line(error: BaseException) -> str:
    """What an error says, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".")


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports home from its import on
    try:  # the imports as well: Python itself ends with 1, which here is a decision
        import numpy as np
        import onnxruntime

        sys.path.insert(0, str(HERE))  # where Python was told not to look there by itself
        import decoding
        import speech

        sys.exit(main())
    except Exception as error:
        is_input = isinstance(error, ValueError | OSError | ImportError | MemoryError)
        says = first_line(error)
        if isinstance(error, ImportError):
            says += ": pip install onnxruntime numpy soundfile"
        elif not is_input:
            says = f"A fault of this program, please report it ({type(error).__name__}: {says})"
        say(f"{says}.")
        sys.exit(2 if is_input else 70)
    except KeyboardInterrupt:
        sys.exit(130)
