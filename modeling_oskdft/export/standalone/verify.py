"""Decide whether two recordings have the same speaker: `python verify.py A.wav B.wav`.

This program belongs to an exported model. It reads the graph, and thresholds.json, calibration.json and
cohort.safetensors where they are, from its own folder. graphs.py beside it opens the graph; decoding.py, speech.py
and track.py read and check recordings of any length. It needs numpy, soundfile, and a runtime for the graph:
onnxruntime or openvino for model.onnx, openvino for model.xml, executorch for model.pte. It does not need the package
that exported the model.

It prints decision, score and, with a calibration, the probability that the speaker is the same. Errors are one
sentence on stderr. Exit codes:

    0   the same speaker            3   no decision: the model has no threshold there
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
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
SAME, DIFFERENT, WRONG_INPUT, NO_DECISION, OUR_FAULT, STOPPED = 0, 1, 2, 3, 70, 130
OPERATING_POINTS = ("eer", "far_1_percent", "far_0.1_percent", "bayes")
ENOUGH_SPEAKERS = 20  # a threshold measured on fewer depends on who they are
LEAST_DEVIATION = 1e-6  # of the scores of a cohort
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
    parser.add_argument(
        "--prior",
        type=float,
        default=0.5,
        help="probability of the same speaker before the recordings are heard (default: 0.5)",
    )
    parser.add_argument("--max_seconds", type=float, help="seconds of each recording that are heard (default: all)")
    options = parser.parse_args()
    if not 0 < options.prior < 1:
        raise ValueError(f"prior is {options.prior}: a probability between 0 and 1 is needed.")
    if options.max_seconds is not None and not 0 < options.max_seconds < math.inf:
        raise ValueError(f"max_seconds is {options.max_seconds}: a number of seconds above 0 is needed.")
    model, facts = open_model()
    sides = [hear(model, facts, path, options) for path in options.recordings]
    score = float(sides[0].embedding @ sides[1].embedding)
    if not math.isfinite(score):
        raise ValueError("The score is not a finite number: check the graph and the recordings.")
    answer = decide(facts["fingerprint"], score, sides, options)
    # Flushed now: a full disk is an error of this program, and not of the interpreter's end.
    if answer.threshold is None:
        print(f"no decision (score {score:.4f}{answer.odds}, no threshold at {options.operating_point})", flush=True)
        return NO_DECISION
    decision = "same speaker" if answer.same else "different speakers"
    print(f"{decision} (score {score:.4f}, threshold {answer.threshold:.4f}{answer.odds})", flush=True)
    return SAME if answer.same else DIFFERENT


class Side(NamedTuple):
    """Hold one side of the comparison: its embedding (embedding_size,), its seconds of speech, what found them."""

    embedding: np.ndarray
    speech: float
    network: str | None


class Answer(NamedTuple):
    """Hold the answer: the threshold of the score, whether it is reached, and log-likelihood ratio and probability."""

    threshold: float | None
    same: bool
    odds: str


# ---- the model ------------------------------------------------------------------------------------------------------


def open_model() -> tuple[graphs.Run, dict[str, str]]:
    """Open the graph of this folder: see `graphs.open_graph`.

    Raises:
        ImportError: where no runtime of the graph is installed.
        ValueError: for a file that is damaged or not an export.
    """
    graph = graphs.graph_in(HERE)
    try:
        return graphs.open_graph(graph)
    except (ImportError, ValueError):
        raise
    except Exception as error:  # the errors of runtimes have no common class
        raise ValueError(f"{graph.name} cannot be opened ({first_line(error)}): export the verifier again.") from None


def embed(model: graphs.Run, waveform: np.ndarray) -> np.ndarray:
    """Embed a stretch of a recording.

    Args:
        model: the function that `open_model` returned.
        waveform: (samples,) at the model's sampling rate, as it was recorded: the graph normalises it.

    Returns:
        (embedding_size,), of unit length.
    """
    embedding = model(waveform[None], np.ones((1, len(waveform)), np.int64))[0]
    return embedding / np.linalg.norm(embedding)


# ---- recordings -----------------------------------------------------------------------------------------------------


def hear(model: graphs.Run, facts: dict[str, str], path: str, options: argparse.Namespace) -> Side:
    """Read and embed a recording of any length, and write to stderr what may spoil a decision about it.

    Args:
        model: the session.
        facts: metadata of the graph.
        path: path of a file.
        options: `channel` and `max_seconds`.

    Returns:
        The mean of the windows over its speech, weighted by speech; a recording of up to 30 s is one window.

    Raises:
        ValueError: for a recording that cannot be read, or that has another rate, too few samples, or no sound.
    """
    shown = printable(path)
    name, quoted = f"'{shown}'", shlex.quote(shown)
    if not os.path.isfile(path):
        raise ValueError(f"There is no recording at {name}: check the path.")
    try:
        recording, notes = decode(path, int(facts["sampling_rate"]), options, name, quoted)
    except decoding.NotReadable as error:
        raise ValueError(f"{name} {str(error).rstrip('.')}; or read it with `ffmpeg -i {quoted} OUT.wav`.") from None
    if len(recording) < int(facts["shortest_input"]):
        raise ValueError(f"{name} is too short: give a recording with speech in it.")
    inspection = speech.Inspection(speech.speech_network())
    for block in recording.blocks():
        inspection.add(block)
    found = inspection.finish()
    sentences = [*(f"{name} {note}" for note in notes), *inspection.faults(name)]
    for sentence in sentences if found.network else [*sentences, speech.LEVEL_ALONE]:
        write_message(f"warning: {sentence}")
    windows = track.windows_over(found.seconds_between, len(recording))
    embeddings = np.stack([embed(model, recording.read(window.start, window.stop)) for window in windows])
    mean = track.weights_of(windows) @ embeddings
    return Side(mean / np.linalg.norm(mean), found.seconds, found.network)


def decode(
    path: str, rate: int, options: argparse.Namespace, name: str, quoted: str
) -> tuple[track.Track, tuple[str, ...]]:
    """Decode a file; a long one goes through a temporary file, so that memory stays bounded.

    Returns:
        The recording, and notes on its end, as the rest of a sentence that begins with the file's name.
    """
    with decoding.open_recording(path) as recording:
        for part in recording.parts:  # a file may hold several recordings, one after the other
            if part.samplerate != rate:
                raise ValueError(
                    f"{name} is at {part.samplerate} Hz: resample it, e.g. `ffmpeg -i {quoted} -ar {rate} OUT.wav`."
                )
        most = None if options.max_seconds is None else max(round(options.max_seconds * rate), 1)
        if sum(part.frames for part in recording.parts) <= track.WHOLE_SECONDS * rate:
            pieces = [decoding.mixed(recording.read(n), name, options.channel) for n in range(len(recording.parts))]
            return track.Track(np.concatenate(pieces)[:most]), recording.notes
        samples = track.Track()
        for number in range(len(recording.parts)):
            if most is None or len(samples) < most:
                missing = None if most is None else most - len(samples)
                blocks = decoding.checked_blocks(recording, number, name, missing)
                samples.write(blocks, name, options.channel, lambda block, last: block)
        return samples, recording.notes


# ---- the decision ---------------------------------------------------------------------------------------------------


def decide(fingerprint: str, score: float, sides: list[Side], options: argparse.Namespace) -> Answer:
    """Decide on a score: by the calibration where it has the operating point, else by the threshold.

    Args:
        fingerprint: fingerprint of the weights of the graph.
        score: cosine of the two embeddings.
        sides: both sides of the comparison.
        options: `operating_point` and `prior`.
    """
    check_graph()
    calibration = read_calibration(fingerprint)
    point, odds = options.operating_point, ""
    if calibration is not None:
        gain, shift = normalisation(fingerprint, calibration, sides)
        slope, offset = line_of(calibration, sides)
        llr = min(max(slope * (gain * score - shift) + offset, calibration["bounds"][0]), calibration["bounds"][1])
        logit = math.log(options.prior) - math.log1p(-options.prior)
        probability = 1 / (1 + math.exp(min(-llr - logit, 700)))
        odds = f", log-likelihood ratio {llr:.2f}, probability {probability:.4f}"
        for sentence in doubts_about(calibration, sides):
            write_message(f"warning: {sentence}")
        stored = calibration["operating_points"].get(point)
        if point == "bayes" or stored is not None:
            wanted = -logit if stored is None else stored["llr"]
            if not calibration["bounds"][0] < wanted <= calibration["bounds"][1]:
                write_message(
                    "warning: The calibration has too few trials for a decision at this prior: calibrate on more."
                )
                return Answer(None, False, odds)
            return Answer(((wanted - offset) / slope + shift) / gain, llr >= wanted, odds)
    threshold = None if point == "bayes" else read_threshold(fingerprint, point)
    return Answer(threshold, threshold is not None and score >= threshold, odds)


def read_calibration(fingerprint: str) -> dict[str, Any] | None:
    """Read calibration.json; None where there is none, or one of other weights.

    Raises:
        ValueError: for a damaged file.
    """
    file = HERE / "calibration.json"
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["fingerprint"] != fingerprint:
            write_message("warning: The calibration is of other weights and was left out: calibrate anew.")
            return None
        numbers = [*stored["score"], *stored["bounds"], *stored["speech"], *(stored["duration"] or ())]
        points = stored["operating_points"]
        numbers += [point["llr"] for point in points.values() if point is not None]
        fits = stored["schema"] == 1 and stored["score"][0] > 0 and stored["bounds"][0] < 0 < stored["bounds"][1]
        if not fits or not all(math.isfinite(number) for number in numbers):
            raise ValueError
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError):
        raise ValueError("calibration.json is damaged: export the verifier again, or remove the file.") from None
    if stored["speakers"] < ENOUGH_SPEAKERS:
        write_message(
            f"warning: The calibration stands on {stored['speakers']} speakers: below {ENOUGH_SPEAKERS} it may not "
            "hold for others; calibrate on more."
        )
    return stored


def doubts_about(calibration: dict[str, Any], sides: list[Side]) -> list[str]:
    """List why the ratio may not hold: less speech than in the trials, or speech that was found in another way."""
    shorter = min(sides, key=lambda side: side.speech)
    if calibration["duration"] is None:
        return []
    if shorter.network != calibration["network"]:
        return [
            f"The calibration counts speech as {calibration['network'] or 'the level'} finds it, which is not at hand "
            "here: the amount of speech was left out."
        ]
    if shorter.speech < 0.9 * calibration["speech"][0]:
        return [
            f"There is {shorter.speech:.1f} s of speech, and the calibration has seen "
            f"{calibration['speech'][0]:.1f} s at least: the ratio may be too high; give more speech."
        ]
    return []


def check_graph() -> None:
    """Check that the graph is the file that thresholds.json was written for.

    Raises:
        ValueError: for a graph that was damaged or changed.
    """
    try:
        expected = json.loads((HERE / "thresholds.json").read_text(encoding="utf-8")).get("graph")
    except (OSError, ValueError, AttributeError, RecursionError):
        return  # there is none, or `read_threshold` says what is wrong with it
    if isinstance(expected, str):  # earlier versions stored none
        graph = graphs.graph_in(HERE)
        if graphs.digest_of_graph(graph) != expected:
            raise ValueError(f"{graph.name} is damaged or was changed: export the verifier again.")


def line_of(calibration: dict[str, Any], sides: list[Side]) -> tuple[float, float]:
    """Return slope and offset of the log-likelihood ratio over the score, for the speech of the shorter side."""
    shorter = min(sides, key=lambda side: side.speech)
    if calibration["duration"] is None or shorter.network != calibration["network"]:
        return calibration["score"][0], calibration["score"][1]
    a, b, c, e = calibration["duration"]
    low, high = calibration["speech"]
    log_speech = math.log(min(max(shorter.speech, low, 0.1), high))
    return a + e * log_speech, b + c * log_speech


def normalisation(fingerprint: str, calibration: dict[str, Any], sides: list[Side]) -> tuple[float, float]:
    """Return gain and shift of the scores: 1 and 0 where the calibration is of cosines.

    Raises:
        ValueError: for a cohort that is missing, damaged, or of other weights.
    """
    if calibration["cohort"] is None:
        return 1.0, 0.0
    try:
        content = (HERE / "cohort.safetensors").read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")  # the format of safetensors: a length, JSON, numbers
        header = json.loads(content[8:start])
        facts, place = header["__metadata__"], header["embeddings"]
        low, high = place["data_offsets"]
        cohort = np.frombuffer(content[start + low : start + high], "<f4").reshape(place["shape"])
        top_n = int(facts["top_n"])
        digest = hashlib.sha256(cohort.tobytes() + str(top_n).encode()).hexdigest()[:16]
        if facts["fingerprint"] != fingerprint or digest != calibration["cohort"] or not 2 <= top_n <= len(cohort):
            raise ValueError
    except (OSError, KeyError, TypeError, ValueError):
        raise ValueError("cohort.safetensors is missing or damaged: export the verifier again.") from None
    scores = np.stack([side.embedding for side in sides]) @ cohort.T
    nearest = np.partition(scores, -top_n, axis=1)[:, -top_n:]
    deviations = nearest.std(1, ddof=1)
    if not (deviations > LEAST_DEVIATION).all():
        raise ValueError(
            "The nearest speakers of the cohort have equal scores: export a verifier with another cohort."
        )
    return float((1 / deviations).mean()), float((nearest.mean(1) / deviations).mean())


def read_threshold(fingerprint: str, operating_point: str) -> float | None:
    """Read the score from which on two recordings are decided as the same speaker.

    Args:
        fingerprint: fingerprint of the weights of the graph.
        operating_point: one of `OPERATING_POINTS`.

    Returns:
        The threshold; None where it was not measured, or was measured with other weights.

    Raises:
        ValueError: for a damaged thresholds.json.
    """
    file = HERE / "thresholds.json"
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["fingerprint"] != fingerprint:
            return None
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
        write_message(f"{first_line(error)}: pip install numpy soundfile, and a runtime such as onnxruntime.")
        return WRONG_INPUT
    if isinstance(error, ValueError | OSError | MemoryError):
        write_message(f"{first_line(error)}.")
        return WRONG_INPUT
    name = type(error).__name__
    write_message(f"A fault of this program, please report it ({name}: {first_line(error)}).")
    return OUR_FAULT


if __name__ == "__main__":
    # Python ends with 1 where an exception leaves a program, and 1 is a decision: so errors of imports are caught too.
    try:
        import numpy as np

        sys.dont_write_bytecode = True  # the folder stays as it was exported
        sys.path.insert(0, str(HERE))  # `python -P` does not look for modules beside the program
        import decoding
        import graphs
        import speech
        import track

        sys.exit(main())
    except Exception as error:
        sys.exit(report_error(error))
    except KeyboardInterrupt:
        sys.exit(STOPPED)
