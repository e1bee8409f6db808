"""Who spoke when: speaker turns of a meeting, as RTTM and as a table.

    python examples/downstream/who_spoke_when.py meeting.flac --model org/student --speakers 4 --out meeting.rttm

Finds speech by its level, cuts it into windows of 1.5 s every 0.75 s, embeds them, and joins windows of like voices
(average linkage of cosines). Between two windows of different speakers the turn passes half-way. At any time one
speaker is named, also where several speak, and loud noise is taken for speech. An hour has 4,800 windows at most;
their distances take 92 MB, and four times that for twice the length.

Wants scikit-learn.
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
from modeling_oskdft.audio.loading import SAMPLING_RATE, Waveform, load_audio
from modeling_oskdft.audio.speech import speech_frames

FRAME = 0.02  # seconds, as speech_frames has it; everything below is counted in these
WINDOW, HOP = 75, 37.5  # 1.5 s and 0.75 s: longer windows know voices better, shorter ones the ends of turns
PAUSE, SHORTEST = 25, 10  # a pause below 0.5 s does not end a turn; speech below 0.2 s is a click or a cough
BATCH = 32

Embed = Callable[[list[Waveform]], NDArray[np.float32]]


class Turn(NamedTuple):
    """One speaker without a pause, from start to end in seconds."""

    start: float
    end: float
    speaker: str


def who_spoke_when(
    waveform: Waveform, embed: Embed, threshold: float | None = None, speakers: int | None = None
) -> list[Turn]:
    """The turns of a recording in their order; the first who speaks is speaker1.

    waveform: (samples,) at 16 kHz. embed: waveforms to (waveforms, embedding_size). Give one of threshold, the mean
    cosine from which two groups of windows are one speaker, and speakers, their number.
    """
    found = stretches(speech_frames(waveform))
    if not found:
        raise ValueError("The recording has no speech: give another one, or record at a higher level.")
    cut = [windows(start, end) for start, end in found]
    samples = round(FRAME * SAMPLING_RATE)
    pieces = [waveform[first * samples : last * samples] for part in cut for first, last in part]
    batches = [pieces[start : start + BATCH] for start in range(0, len(pieces), BATCH)]
    labels = cluster(np.concatenate([embed(batch) for batch in batches]), threshold, speakers)
    turns = turns_of(found, cut, labels)
    seconds = len(waveform) / SAMPLING_RATE  # the last frame may be longer than what is left
    return [Turn(FRAME * start, min(FRAME * end, seconds), f"speaker{number}") for start, end, number in turns]


def stretches(speech: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of speech without a longer pause."""
    found: list[tuple[int, int]] = []
    for start, end in np.flatnonzero(np.diff(speech.astype(int), prepend=0, append=0)).reshape(-1, 2).tolist():
        if found and start - found[-1][1] < PAUSE:
            start = found.pop()[0]
        found.append((start, end))
    return [(start, end) for start, end in found if end - start >= SHORTEST]


def windows(start: int, end: int) -> list[tuple[int, int]]:
    """Windows over one stretch, the last one at its end; whole frames, so that each has speech in it."""
    if end - start <= WINDOW:
        return [(start, end)]
    starts = [*np.arange(start, end - WINDOW, HOP).astype(int).tolist(), end - WINDOW]
    return [(first, first + WINDOW) for first in starts]


def cluster(embeddings: NDArray[np.float32], threshold: float | None, speakers: int | None) -> list[int]:
    """A number for each window, 1 for the first one's speaker."""
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
    found: list[tuple[int, int]], cut: list[list[tuple[int, int]]], labels: list[int]
) -> list[tuple[int, int, int]]:
    """(first frame, frame after the last, speaker): a frame is of the window whose middle is nearest."""
    turns: list[tuple[int, int, int]] = []
    numbers = iter(labels)
    for (start, end), part in zip(found, cut, strict=True):
        middles = [(one[0] + one[1] + other[0] + other[1]) // 4 for one, other in pairwise(part)]
        for first, last in pairwise([start, *middles, end]):
            number = next(numbers)
            if turns and turns[-1][1:] == (first, number):
                first = turns.pop()[0]
            turns.append((first, last, number))
    return turns


def rttm(turns: list[Turn], name: str) -> str:
    """The turns as NIST's RTTM: type, file, channel, start, duration, two unused, speaker, two unused."""
    name = "_".join(name.split()) or "recording"  # fields are told apart by spaces
    return "".join(
        f"SPEAKER {name} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> {turn.speaker} <NA> <NA>\n"
        for turn in turns
    )


def table(turns: list[Turn]) -> str:
    """A line for each speaker: turns, time, and share of the time."""
    total = sum(turn.end - turn.start for turn in turns)
    lines = [f"{'speaker':<12}{'turns':>6}{'seconds':>10}{'share':>8}"]
    for speaker in dict.fromkeys(turn.speaker for turn in turns):
        own = [turn.end - turn.start for turn in turns if turn.speaker == speaker]
        lines.append(f"{speaker:<12}{len(own):>6}{sum(own):>10.1f}{sum(own) / total:>8.0%}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, find the turns, write and print."""
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
            warnings.simplefilter("ignore", UserWarning)  # that windows are short: they are meant to be
            turns = who_spoke_when(waveform, verifier.embed_many, options.threshold, options.speakers)
        options.out.write_text(rttm(turns, Path(options.recording).stem), encoding="utf-8")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(table(turns))


if __name__ == "__main__":
    main()
