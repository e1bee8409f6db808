"""Read, make and write trial lists, with and without scores."""

import math
import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..audio.loading import utterance_id
from ..files import read_text, whole_file


class Trials(NamedTuple):
    """A trial list: labels (1 same, 0 different), enrolment and test utterance of each, as utterance ids."""

    labels: NDArray[np.int64]
    enrolments: list[str]
    tests: list[str]

    def utterances(self) -> list[str]:
        """Every utterance of the list, once, in the order of first appearance."""
        return list(dict.fromkeys([*self.enrolments, *self.tests]))

    def speakers(self, speaker_of: Mapping[str, str]) -> list[tuple[str, str]]:
        """The two speakers of each trial. speaker_of: utterance id to speaker."""
        return [(speaker_of[a], speaker_of[b]) for a, b in zip(self.enrolments, self.tests, strict=True)]

    def where(self, rows: Sequence[int]) -> "Trials":
        """The trials with these numbers."""
        chosen = list(rows)
        return Trials(
            self.labels[chosen], [self.enrolments[row] for row in chosen], [self.tests[row] for row in chosen]
        )

    def among(self, utterances: Container[str]) -> "Trials":
        """The trials both of whose recordings are among these."""
        pairs = enumerate(zip(self.enrolments, self.tests, strict=True))
        return self.where([row for row, (a, b) in pairs if a in utterances and b in utterances])

    def across_sessions(self) -> "Trials":
        """Without the trials of one session: there, channel, noise and level are the same as well.

        A session is everything of an utterance id but its last component.
        """
        pairs = enumerate(zip(self.enrolments, self.tests, strict=True))
        return self.where([row for row, (a, b) in pairs if a.rpartition("/")[0] != b.rpartition("/")[0]])


def read_trials(path: str | Path) -> Trials:
    """Read `label enrol test` lines, VoxCeleb's format.

    Raises `FileNotFoundError`, or `ValueError` naming the line that is not such a trial.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"There is no trial list at '{path}': give a text file of 'label enrol test' lines.")
    labels, enrolments, tests = [], [], []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        words = _words(line, 3)
        if not words:
            continue
        if len(words) != 3 or words[0] not in ("0", "1"):
            raise ValueError(
                f"Line {number} of '{path}' is '{line.strip()[:80]}': 'label enrol test' with label 0 or 1 is needed; "
                "put tabs between the three where names have spaces."
            )
        labels.append(int(words[0]))
        enrolments.append(utterance_id(words[1]))
        tests.append(utterance_id(words[2]))
    if not labels:
        raise ValueError(f"The trial list '{path}' is empty: 'label enrol test' lines are needed.")
    return Trials(np.asarray(labels), enrolments, tests)


def _words(line: str, count: int) -> list[str]:
    """The fields of a line of `count`: between tabs where it has any, else between spaces.

    Quotes keep a name with spaces together where spaces alone give another number of fields; an apostrophe is a
    letter.
    """
    if "\t" in line.strip():
        return [word.strip() for word in line.strip().split("\t")]
    words = line.split()
    if len(words) != count and any(word[0] in "\"'" for word in words):
        with suppress(ValueError):
            return shlex.split(line)
    return words


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Read `first second` lines, paths of recordings, with tabs between them or quotes where names have spaces.

    Raises `FileNotFoundError`, or `ValueError` naming the line that is no such pair.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no list of pairs at '{path}': give a text file of 'first second' lines.")
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = _words(line, 2)
        if words and len(words) != 2:
            raise ValueError(
                f"Line {number} of '{path}' is '{line.strip()[:80]}': two recordings are needed; put a tab "
                "between them where names have spaces."
            )
        if words:
            pairs.append((words[0], words[1]))
    if not pairs:
        raise ValueError(f"The list of pairs '{path}' is empty: 'first second' lines are needed.")
    return pairs


def check_labels(trials: Trials, speaker_of: Mapping[str, str], name: str | Path) -> None:
    """Raise `ValueError` for trials whose label is not what the speakers of the data say.

    speaker_of: utterance id to speaker; trials of utterances that it lacks are passed over.
    """
    wrong = [
        row
        for row, (label, first, second) in enumerate(zip(*trials, strict=True))
        if first in speaker_of and second in speaker_of and (speaker_of[first] == speaker_of[second]) != bool(label)
    ]
    if wrong:
        row = wrong[0]
        raise ValueError(
            f"{len(wrong)} of {len(trials.labels)} trials of '{name}' contradict the speakers of the data, "
            f"'{trials.labels[row]} {trials.enrolments[row]} {trials.tests[row]}' first: 1 is for the same speaker; "
            "correct the list, or name the data that belong to it."
        )


def write_scores(trials: Trials, scores: NDArray[np.floating], path: str | Path) -> None:
    """Write `label enrol test score` lines, separated by tabs."""
    rows = zip(*trials, scores, strict=True)
    lines = (f"{label}\t{first}\t{second}\t{score:.6f}\n" for label, first, second, score in rows)
    with whole_file(path) as file:
        file.write_text("".join(lines), encoding="utf-8")


def read_scores(text: str) -> tuple[list[float], list[int]]:
    """Scores and labels of lines `score label`, separated by spaces or a comma; empty lines count for nothing.

    Raises `ValueError` naming the first line that is something else.
    """
    scores, labels = [], []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.strip():
                score, label = line.replace(",", " ").split()
                scores.append(float(score))
                labels.append({"0": 0, "1": 1}[label])
        except (ValueError, KeyError):
            raise ValueError(
                f"Line {number} is '{line[:40]}': give a score and then 1 or 0, as in '0.73 1'."
            ) from None
    return scores, labels


def write_trials(trials: Trials, path: str | Path) -> None:
    """Write a list that `read_trials` reads: with spaces, or with tabs where a name has a space or a quote.

    Raises `ValueError` for a name with a tab or a line break, which no line can hold.
    """
    names = [*trials.enrolments, *trials.tests]
    for name in names:
        if len(name.splitlines()) > 1 or "\t" in name:
            raise ValueError(f"The utterance {name!r} has a tab or a line break in its name: rename it.")
    between = "\t" if any(" " in name or "'" in name or '"' in name or not name.split() for name in names) else " "
    rows = zip(trials.labels, trials.enrolments, trials.tests, strict=True)
    with whole_file(path) as file:
        file.write_text("".join(f"{between.join(map(str, row))}\n" for row in rows), encoding="utf-8")


def make_trials(utterances: Mapping[str, Iterable[str]], seed: int = 0, most: int = 20000) -> Trials:
    """Every same-speaker pair and as many different-speaker pairs, drawn; at most `most` of each.

    utterances: the utterance ids of each speaker. Raises `ValueError` when there is no pair of one of the kinds.
    """
    if most < 1:
        raise ValueError(f"most is {most}: at least one trial of each kind is needed.")
    generator = np.random.default_rng(seed)
    by_speaker = {speaker: sorted(ids) for speaker, ids in sorted(utterances.items())}
    same = _same_speaker_pairs(list(by_speaker.values()), most, generator)
    if not same or len(by_speaker) < 2:
        raise ValueError(
            f"No trials can be made of {len(by_speaker)} speakers: at least two, one of them with two utterances."
        )
    owner = [(speaker, one) for speaker, ids in by_speaker.items() for one in ids]
    different: dict[tuple[str, str], None] = {}
    possible = (len(owner) ** 2 - sum(len(ids) ** 2 for ids in by_speaker.values())) // 2
    while len(different) < min(len(same), possible):
        first, second = (owner[i] for i in generator.integers(len(owner), size=2))
        if first[0] != second[0] and (second[1], first[1]) not in different:
            different[first[1], second[1]] = None
    pairs = same + list(different)
    labels = np.asarray([1] * len(same) + [0] * len(different))
    return Trials(labels, [first for first, _ in pairs], [second for _, second in pairs])


def _same_speaker_pairs(
    groups: Sequence[Sequence[str]], most: int, generator: np.random.Generator
) -> list[tuple[str, str]]:
    """All pairs within a group, or `most` of them at random, without listing the others."""
    counts = np.array([len(ids) * (len(ids) - 1) // 2 for ids in groups], dtype=np.int64)
    ends = np.cumsum(counts)
    total = int(counts.sum())
    chosen = (
        np.arange(total) if total <= most else np.sort(generator.choice(total, most, replace=False, shuffle=False))
    )
    pairs = []
    for number in chosen:
        group = int(np.searchsorted(ends, number, side="right"))
        within = int(number - (ends[group] - counts[group]))
        # Pair number j * (j - 1) / 2 + i of a group is (i, j) with i < j.
        j = int((1 + math.isqrt(8 * within + 1)) // 2)
        pairs.append((groups[group][within - j * (j - 1) // 2], groups[group][j]))
    return pairs
