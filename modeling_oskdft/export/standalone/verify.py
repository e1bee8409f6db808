"""Decide whether two recordings have the same speaker: `python verify.py A.wav B.wav`.

This program belongs to an exported model. It reads model.onnx, and thresholds.json where there is one, from its own
folder; decoding.py and speech.py beside it read and check recordings. It needs the packages onnxruntime, numpy and
soundfile, and nothing else: neither PyTorch nor the package that exported the model.

It prints score and decision. Errors are one sentence on stderr. Exit codes:

    0   the same speaker            3   no decision: the model has no threshold
    1   different speakers          70  a fault of this program
    2   an error of the input       130 stopped by Ctrl-C
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
SAME, DIFFERENT, WRONG_INPUT, NO_DECISION, OUR_FAULT, STOPPED = 0, 1, 2, 3, 70, 130
LONGEST = 60  # seconds of a recording; memory grows with them, to 3 GB for a model of HuBERT-base's width
OPERATING_POINTS = ("eer", "far_1_percent", "far_0.1_percent")
ENOUGH_SPEAKERS = 20  # a threshold measured on fewer depends on who they are
LARGEST_THRESHOLD = 1.1  # scores are cosines; a threshold just above all of them accepts nobody


def main() -> int:
    """Read two recordings, embed them, compare the embeddings, and print the decision.

    Returns:
        The exit code: `SAME`, `DIFFERENT` or `NO_DECISION`.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs=2, metavar="RECORDING")
    parser.add_argument(
        "--operating_point",
        default="eer",
        choices=OPERATING_POINTS,
        help="which threshold decides: at the equal error rate, or at 1 %% or 0.1 %% false accepts",
    )
    parser.add_argument("--channel", type=int, help="of both recordings, from 0 (default: they are mixed)")
    options = parser.parse_args()
    model, facts = open_model()
    rate, shortest = int(facts["sampling_rate"]), int(facts["shortest_input"])
    first, second = (
        embed(model, read_recording(path, rate, shortest, options.channel)) for path in options.recordings
    )
    score = float(first @ second)
    threshold = read_threshold(facts["fingerprint"], options.operating_point)
    if not math.isfinite(score):
        raise ValueError("The score is not a finite number: check model.onnx and the recordings.")
    # Flushed now: a full disk is an error of this program, and not of the interpreter's end.
    if threshold is None:
        print(f"no decision (score {score:.4f}, no threshold at {options.operating_point})", flush=True)
        return NO_DECISION
    decision = "same speaker" if score >= threshold else "different speakers"
    print(f"{decision} (score {score:.4f}, threshold {threshold:.4f})", flush=True)
    return SAME if score >= threshold else DIFFERENT


# ---- the model ------------------------------------------------------------------------------------------------------


def open_model() -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    """Open model.onnx on the CPU, with the threads of OMP_NUM_THREADS, or all.

    Returns:
        The session, and the metadata of the graph: fingerprint, sampling_rate, shortest_input and others.

    Raises:
        ValueError: for a file that is damaged or not an export.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # may be a list, as "4,2"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: all
    options.enable_mem_pattern = False  # a plan of memory for each length, which costs more than it saves
    options.log_severity_level = 4  # errors come as exceptions
    try:
        model = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of onnxruntime have no common class
        raise ValueError(f"model.onnx cannot be opened ({first_line(error)}): export the verifier again.") from None
    facts = model.get_modelmeta().custom_metadata_map
    if not {"fingerprint", "sampling_rate", "shortest_input"} <= facts.keys():
        raise ValueError("model.onnx was not written by `oskdft export`: export the verifier again.")
    return model, facts


def embed(model: onnxruntime.InferenceSession, waveform: np.ndarray) -> np.ndarray:
    """Embed a recording.

    Args:
        model: the session.
        waveform: (samples,) at the model's sampling rate, as it was recorded: the graph normalises it.

    Returns:
        (embedding_size,), of unit length.
    """
    inputs = {"input_values": waveform[None], "attention_mask": np.ones((1, len(waveform)), np.int64)}
    embedding = model.run(None, inputs)[0][0]
    return embedding / np.linalg.norm(embedding)


# ---- recordings -----------------------------------------------------------------------------------------------------


def read_recording(path: str, rate: int, shortest: int, channel: int | None) -> np.ndarray:
    """Read a recording, and write to stderr what may spoil a decision about it.

    Args:
        path: path of a file.
        rate: sampling rate of the model, in Hz.
        shortest: samples that the model needs.
        channel: number of the channel to take, from 0; None mixes them.

    Returns:
        (samples,).

    Raises:
        ValueError: for a recording that cannot be read, or that has another rate, too many or too few samples, or no
            sound.
    """
    shown = printable(path)
    name, quoted = f"'{shown}'", shlex.quote(shown)
    if not os.path.isfile(path):
        raise ValueError(f"There is no recording at {name}: check the path.")
    try:
        waveform, notes = decode(path, rate, channel, name, quoted)
    except decoding.NotReadable as error:
        raise ValueError(f"{name} {str(error).rstrip('.')}; or read it with `ffmpeg -i {quoted} OUT.wav`.") from None
    if len(waveform) > LONGEST * rate:
        raise ValueError(f"{name} is longer than {LONGEST} s: cut it, e.g. `ffmpeg -i {quoted} -t {LONGEST} OUT.wav`.")
    if len(waveform) < shortest:
        raise ValueError(f"{name} is too short: give a recording with speech in it.")
    for sentence in [*(f"{name} {note}" for note in notes), *speech.inspect_recording(waveform, name)]:
        write_message(f"warning: {sentence}")
    return waveform


def decode(path: str, rate: int, channel: int | None, name: str, quoted: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a file, up to one sample more than `LONGEST` allows.

    Returns:
        The waveform, (samples,), and notes on its end, as the rest of a sentence that begins with the file's name.
    """
    with decoding.open_recording(path) as recording:
        for part in recording.parts:  # a file may hold several recordings, one after the other
            if part.samplerate != rate:
                raise ValueError(
                    f"{name} is at {part.samplerate} Hz: resample it, e.g. `ffmpeg -i {quoted} -ar {rate} OUT.wav`."
                )
        missing, pieces = LONGEST * rate + 1, []
        for number in range(len(recording.parts)):
            pieces.append(decoding.mixed(recording.read(number, 0, missing), name, channel))
            missing -= len(pieces[-1])
        return np.concatenate(pieces), recording.notes


# ---- the decision ---------------------------------------------------------------------------------------------------


def read_threshold(fingerprint: str, operating_point: str) -> float | None:
    """Read the score from which on two recordings are decided as the same speaker.

    Args:
        fingerprint: fingerprint of the weights of model.onnx.
        operating_point: one of `OPERATING_POINTS`.

    Returns:
        The threshold; None where it was not measured, or was measured with other weights.

    Raises:
        ValueError: for a damaged thresholds.json, and for a model.onnx that is not the file it was written for.
    """
    file = HERE / "thresholds.json"
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["fingerprint"] != fingerprint:
            return None
        graph_digest = stored.get("graph")  # earlier versions stored none
        threshold = stored["values"][operating_point]
        if threshold is not None and not (math.isfinite(threshold) and abs(threshold) <= LARGEST_THRESHOLD):
            raise ValueError
        has_few_speakers = threshold is not None and stored["speakers"] < ENOUGH_SPEAKERS
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("thresholds.json is damaged: export the verifier again, or remove the file.") from None
    if has_few_speakers:
        write_message(
            f"warning: The threshold {threshold:.2f} stands on {stored['speakers']} speakers: below "
            f"{ENOUGH_SPEAKERS} it may not hold for others; measure it on more."
        )
    if graph_digest is not None:
        with open(HERE / "model.onnx", "rb") as graph:
            if hashlib.file_digest(graph, "sha256").hexdigest() != graph_digest:
                raise ValueError("model.onnx is damaged or was changed: export the verifier again.")
    return threshold


# ---- messages -------------------------------------------------------------------------------------------------------


def write_message(sentence: str) -> None:
    """Write a line to stderr; where stderr cannot be written, drop the line, so that the exit code stays right."""
    try:
        if sys.stderr is not None:
            print(f"verify.py: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def printable(path: str) -> str:
    r"""Write a path on one line: letters that no terminal shows as escapes, such as \n."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in path)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".")


def report_error(error: Exception) -> int:
    """Write an error as one sentence; return the exit code."""
    if isinstance(error, ImportError):
        write_message(f"{first_line(error)}: pip install onnxruntime numpy soundfile.")
        return WRONG_INPUT
    if isinstance(error, ValueError | OSError | MemoryError):
        write_message(f"{first_line(error)}.")
        return WRONG_INPUT
    name = type(error).__name__
    write_message(f"A fault of this program, please report it ({name}: {first_line(error)}).")
    return OUR_FAULT


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports home from its import on
    # Python ends with 1 where an exception leaves a program, and 1 is a decision: so errors of imports are caught too.
    try:
        import numpy as np
        import onnxruntime

        sys.path.insert(0, str(HERE))  # `python -P` does not look for modules beside the program
        import decoding
        import speech

        sys.exit(main())
    except Exception as error:
        sys.exit(report_error(error))
    except KeyboardInterrupt:
        sys.exit(STOPPED)
