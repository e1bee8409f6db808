"""Find who spoke when in a meeting: speaker turns as RTTM and as a table.

    python examples/downstream/who_spoke_when.py meeting.flac --model org/student --speakers 4 --out meeting.rttm

It finds speech (by Silero's network; by its level without the extra `vad`), cuts it into windows of 1.5 s every
0.75 s, embeds them, and joins windows of similar voices (average linkage of cosines). Between two windows of different
speakers the turn changes half-way. At any time one speaker is named, also where several speak. An hour has at most
4,800 windows; their distances take 92 MB, and four times that for twice the length.

It needs scikit-learn.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio import speech
from modeling_oskdft.audio.loading import SAMPLING_RATE, Waveform, load_audio
from modeling_oskdft.audio.speech import find_speech

FRAME = 0.02  # seconds; the lengths below are in frames
# 1.5 s and 0.75 s: longer windows tell voices better apart, shorter ones find the ends of turns better.
WINDOW, HOP = 75, 37.5
PAUSE, SHORTEST = 25, 10  # a pause below 0.5 s does not end a turn; speech below 0.2 s is a click or a cough
BATCH = 32

Embed = Callable[[list[Waveform]], NDArray[np.float32]]


class Turn(NamedTuple):
    """Hold the speech of one speaker without a pause, from `start` to `end` in seconds."""

    start: float
    end: float
    speaker: str


def who_spoke_when(
    waveform: Waveform, embed: Embed, threshold: float | None = None, speakers: int | None = None
) -> list[Turn]:
    """Find the turns of a recording; give either a threshold or the number of speakers.

    Args:
        waveform: (samples,) at 16 kHz.
        embed: waveforms to (waveforms, embedding_size).
        threshold: mean cosine from which two groups of windows are one speaker.
        speakers: their number.

    Returns:
        The turns in their order; the first speaker is speaker1.

    Raises:
        ValueError: the recording has no speech, or fewer windows than speakers.
    """
    segments = speech_segments(frames_of_speech(waveform))
    if not segments:
        raise ValueError("The recording has no speech: give another one, or record at a higher level.")
    windows = [windows_of(start, end) for start, end in segments]
    samples = round(FRAME * SAMPLING_RATE)
    waveforms = [waveform[first * samples : last * samples] for inside in windows for first, last in inside]
    batches = [waveforms[start : start + BATCH] for start in range(0, len(waveforms), BATCH)]
    labels = cluster(np.concatenate([embed(batch) for batch in batches]), threshold, speakers)
    turns = turns_of(segments, windows, labels)
    seconds = len(waveform) / SAMPLING_RATE  # the last frame may end after the recording
    return [Turn(FRAME * start, min(FRAME * end, seconds), f"speaker{number}") for start, end, number in turns]


def frames_of_speech(waveform: Waveform) -> NDArray[np.bool_]:
    """Find the frames of `FRAME` seconds in whose middle there is speech.

    Args:
        waveform: (samples,) at 16 kHz.

    Returns:
        (frames,) bool.
    """
    samples = round(FRAME * SAMPLING_RATE)
    middles = np.minimum(np.arange(0, len(waveform), samples) + samples // 2, len(waveform) - 1)
    frames: NDArray[np.bool_] = find_speech(waveform).frames[middles // speech.FRAME]
    return frames


def speech_segments(frames: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find spans of speech without a pause of `PAUSE` frames.

    Args:
        frames: (frames,), True where there is speech.

    Returns:
        (first frame, frame after the last) of each span of at least `SHORTEST` frames.
    """
    segments: list[tuple[int, int]] = []
    for start, end in np.flatnonzero(np.diff(frames.astype(int), prepend=0, append=0)).reshape(-1, 2).tolist():
        if segments and start - segments[-1][1] < PAUSE:
            start = segments.pop()[0]
        segments.append((start, end))
    return [(start, end) for start, end in segments if end - start >= SHORTEST]


def windows_of(start: int, end: int) -> list[tuple[int, int]]:
    """Cut a span of speech into windows of whole frames; the last window ends with the span."""
    if end - start <= WINDOW:
        return [(start, end)]
    starts = [*np.arange(start, end - WINDOW, HOP).astype(int).tolist(), end - WINDOW]
    return [(first, first + WINDOW) for first in starts]


def cluster(embeddings: NDArray[np.float32], threshold: float | None, speakers: int | None) -> list[int]:
    """Group windows by speaker.

    Args:
        embeddings: (windows, embedding_size).
        threshold: mean cosine from which two groups are one speaker.
        speakers: their number; one of the two is None.

    Returns:
        A number for each window, 1 for the speaker of the first window.

    Raises:
        ValueError: there are fewer windows than speakers.
    """
    if speakers is not None and not 1 <= speakers <= len(embeddings):
        raise ValueError(f"{speakers} speakers were asked for: the recording has {len(embeddings)} windows of speech.")
    if len(embeddings) == 1:
        return [1]
    distance = None if threshold is None else 1 - threshold
    clustering = AgglomerativeClustering(
        n_clusters=speakers, distance_threshold=distance, metric="cosine", linkage="average"
    )
    numbers: dict[int, int] = {}
    return [numbers.setdefault(label, len(numbers) + 1) for label in clustering.fit_predict(embeddings).tolist()]


def turns_of(
    segments: list[tuple[int, int]], windows: list[list[tuple[int, int]]], labels: list[int]
) -> list[tuple[int, int, int]]:
    """Give every frame the speaker of the window whose middle is nearest.

    Args:
        segments: spans of speech, as `speech_segments` finds them.
        windows: the windows of each span.
        labels: a speaker's number for each window, over all spans.

    Returns:
        (first frame, frame after the last, speaker) of each turn.
    """
    turns: list[tuple[int, int, int]] = []
    numbers = iter(labels)
    for (start, end), inside in zip(segments, windows, strict=True):
        middles = [sum((*window, *following)) // 4 for window, following in pairwise(inside)]
        for first, last in pairwise([start, *middles, end]):
            number = next(numbers)
            if turns and turns[-1][1:] == (first, number):
                first = turns.pop()[0]
            turns.append((first, last, number))
    return turns


def rttm(turns: list[Turn], name: str) -> str:
    """Write turns as NIST's RTTM: type, file, channel, start, duration, two unused, speaker, two unused."""
    name = "_".join(name.split()) or "recording"  # spaces separate the fields
    return "".join(
        f"SPEAKER {name} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> {turn.speaker} <NA> <NA>\n"
        for turn in turns
    )


def table(turns: list[Turn]) -> str:
    """Write a line for each speaker: number of turns, time, and share of the time."""
    total = sum(turn.end - turn.start for turn in turns)
    lines = [f"{'speaker':<12}{'turns':>6}{'seconds':>10}{'share':>8}"]
    for speaker in dict.fromkeys(turn.speaker for turn in turns):
        lengths = [turn.end - turn.start for turn in turns if turn.speaker == speaker]
        lines.append(f"{speaker:<12}{len(lengths):>6}{sum(lengths):>10.1f}{sum(lengths) / total:>8.0%}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Find the turns of a recording, write them as RTTM, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", help="the meeting: wav, flac, ogg or mp3, any rate and channels")
    parser.add_argument("--model", required=True, help="folder or repository of a saved verifier")
    parser.add_argument("--out", required=True, type=Path, help="RTTM file to write")
    number = parser.add_mutually_exclusive_group(required=True)
    number.add_argument("--speakers", type=int, help="how many speak, where that is known")
    number.add_argument(
        "--threshold",
        type=float,
        help="else the mean cosine from which two groups of windows are one speaker: below the model's own threshold, "
        "which is for longer recordings",
    )
    options = parser.parse_args(arguments)
    try:
        waveform = load_audio(options.recording)
        verifier = SpeakerVerifier.from_pretrained(options.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # each window is short, which is intended
            turns = who_spoke_when(waveform, verifier.embed_many, options.threshold, options.speakers)
        options.out.write_text(rttm(turns, Path(options.recording).stem), encoding="utf-8")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(table(turns))


if __name__ == "__main__":
    main()
