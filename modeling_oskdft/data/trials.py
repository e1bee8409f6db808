"""Read, make and write trial lists, with and without scores."""

import math
import os
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
    """Hold a trial list.

    Attributes:
        labels: (trials,) 1 for a target trial (same speaker), 0 for a non-target trial.
        enrolments: enrolment utterance of each trial, as utterance id.
        tests: test utterance of each trial, as utterance id.
    """

    labels: NDArray[np.int64]
    enrolments: list[str]
    tests: list[str]

    def utterances(self) -> list[str]:
        """Return every utterance of the list once, in the order of first appearance."""
        return list(dict.fromkeys([*self.enrolments, *self.tests]))

    def speakers(self, speaker_of: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return the two speakers of each trial.

        Args:
            speaker_of: utterance id to speaker.
        """
        pairs = zip(self.enrolments, self.tests, strict=True)
        return [(speaker_of[enrolment], speaker_of[test]) for enrolment, test in pairs]

    def where(self, rows: Sequence[int]) -> "Trials":
        """Return the trials with these numbers.

        Args:
            rows: numbers of trials, from 0.
        """
        chosen = list(rows)
        return Trials(
            self.labels[chosen], [self.enrolments[row] for row in chosen], [self.tests[row] for row in chosen]
        )

    def among(self, utterances: Container[str]) -> "Trials":
        """Return the trials whose two utterances are both among `utterances`.

        Args:
            utterances: utterance ids.
        """
        pairs = enumerate(zip(self.enrolments, self.tests, strict=True))
        return self.where([row for row, pair in pairs if all(name in utterances for name in pair)])

    def across_sessions(self) -> "Trials":
        """Keep the trials whose two recordings are of different sessions.

        Recordings of one session share channel, noise and level. A session is an utterance id without its last
        component.
        """
        pairs = enumerate(zip(self.enrolments, self.tests, strict=True))
        return self.where([row for row, pair in pairs if len({name.rpartition("/")[0] for name in pair}) == 2])


def read_trials(path: str | Path) -> Trials:
    """Read `label enrol test` lines, VoxCeleb's format.

    Args:
        path: text file, UTF-8.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: naming the first line that is no trial; for a list without lines.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"There is no trial list at '{path}': give a text file of 'label enrol test' lines.")
    labels, enrolments, tests = [], [], []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        fields = _fields(line, 3)
        if not fields:
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise ValueError(
                f"Line {number} of '{path}' is '{line.strip()[:80]}': 'label enrol test' with label 0 or 1 is needed; "
                "put tabs between the three where names have spaces."
            )
        labels.append(int(fields[0]))
        enrolments.append(utterance_id(fields[1]))
        tests.append(utterance_id(fields[2]))
    if not labels:
        raise ValueError(f"The trial list '{path}' is empty: 'label enrol test' lines are needed.")
    return Trials(np.asarray(labels), enrolments, tests)


def _fields(line: str, count: int) -> list[str]:
    """Split a line at its tabs, or at its spaces where it has no tabs.

    Quotes keep a name with spaces together, but only where splitting at spaces does not give `count` fields: an
    apostrophe may be a letter of a name.
    """
    if "\t" in line.strip():
        return [field.strip() for field in line.strip().split("\t")]
    fields = line.split()
    if len(fields) != count and any(field[0] in "\"'" for field in fields):
        with suppress(ValueError):
            return shlex.split(line)
    return fields


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Read `first second` lines, paths of recordings, with tabs between them or quotes where names have spaces.

    Args:
        path: text file, UTF-8.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: naming the first line that is no pair; for a list without lines.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no list of pairs at '{path}': give a text file of 'first second' lines.")
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = _fields(line, 2)
        if fields and len(fields) != 2:
            raise ValueError(
                f"Line {number} of '{path}' is '{line.strip()[:80]}': two recordings are needed; put a tab "
                "between them where names have spaces."
            )
        if fields:
            pairs.append((fields[0], fields[1]))
    if not pairs:
        raise ValueError(f"The list of pairs '{path}' is empty: 'first second' lines are needed.")
    return pairs


def check_labels(trials: Trials, speaker_of: Mapping[str, str], name: str | Path) -> None:
    """Check the labels of trials against the speakers of the data.

    Args:
        trials: any trials.
        speaker_of: utterance id to speaker; trials with an utterance that it lacks are not checked.
        name: name of the list, for the error.

    Raises:
        ValueError: naming the first trial whose label contradicts the speakers.
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


SAME = ("1", "same", "target", "true", "yes")
DIFFERENT = ("0", "different", "nontarget", "non-target", "impostor", "false", "no")


def label_of(label: object, number: int) -> int:
    """Read the label of a pair.

    Args:
        label: 1 or 0, or a word such as "same" or "different".
        number: number of the pair, for the error.

    Returns:
        1 for the same speaker, 0 for different ones.

    Raises:
        ValueError: for another label.
    """
    word = str(int(label) if isinstance(label, bool | np.bool_) else label).strip().lower()
    if word in SAME or word in DIFFERENT:
        return int(word in SAME)
    raise ValueError(f"The label of pair {number} is '{str(label)[:40]}': 1 or same, and 0 or different are needed.")


def check_two_recordings(first: str, second: str, number: int) -> None:
    """Check that a pair has two recordings.

    Args:
        first: name of a recording.
        second: name of the other.
        number: number of the pair, for the error.

    Raises:
        ValueError: for a recording with itself.
    """
    if first == second or os.path.realpath(first) == os.path.realpath(second):
        raise ValueError(f"Pair {number} compares '{first[:80]}' with itself: give two recordings.")


def components_of(trials: Trials) -> dict[str, str]:
    """Find out which recordings are of one speaker, from target trials alone: those that a chain of them connects.

    Args:
        trials: the trials.

    Returns:
        Utterance id to the first utterance of its speaker.

    Raises:
        ValueError: naming a non-target trial whose recordings are of one speaker by other trials.
    """
    parent = {name: name for name in trials.utterances()}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    rows = list(zip(trials.labels.tolist(), trials.enrolments, trials.tests, strict=True))
    for label, first, second in rows:
        if label:
            parent[root(second)] = root(first)
    for label, first, second in rows:
        if not label and root(first) == root(second):
            raise ValueError(
                f"'{first}' and '{second}' are different speakers by one pair and the same by others: correct the "
                "labels."
            )
    return {name: root(name) for name in parent}


def write_scores(trials: Trials, scores: NDArray[np.floating], path: str | Path) -> None:
    """Write `label enrol test score` lines, separated by tabs.

    Args:
        trials: any trials.
        scores: (trials,).
        path: file to write.
    """
    rows = zip(*trials, scores, strict=True)
    lines = (f"{label}\t{first}\t{second}\t{score:.6f}\n" for label, first, second, score in rows)
    with whole_file(path) as file:
        file.write_text("".join(lines), encoding="utf-8")


def read_scores(text: str) -> tuple[list[float], list[int]]:
    """Read scores and labels from lines `score label`, separated by spaces or a comma; empty lines are ignored.

    Args:
        text: the lines.

    Returns:
        The scores, and the labels (0 or 1).

    Raises:
        ValueError: naming the first line of another form.
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
    """Write a list for `read_trials`: with spaces, or with tabs where a name has a space or a quote.

    Args:
        trials: any trials.
        path: file to write.

    Raises:
        ValueError: for a name with a tab or a line break, which no line can hold.
    """
    names = [*trials.enrolments, *trials.tests]
    for name in names:
        if len(name.splitlines()) > 1 or "\t" in name:
            raise ValueError(f"The utterance {name!r} has a tab or a line break in its name: rename it.")
    needs_tabs = any(" " in name or "'" in name or '"' in name or not name.split() for name in names)
    separator = "\t" if needs_tabs else " "
    rows = zip(trials.labels, trials.enrolments, trials.tests, strict=True)
    with whole_file(path) as file:
        file.write_text("".join(f"{separator.join(map(str, row))}\n" for row in rows), encoding="utf-8")


def make_trials(utterances: Mapping[str, Iterable[str]], seed: int = 0, most: int = 20000) -> Trials:
    """Make a trial list: every same-speaker pair, and as many different-speaker pairs, drawn at random.

    Args:
        utterances: utterance ids of each speaker.
        seed: seed of the random draws.
        most: trials of each kind, at most; same-speaker pairs are drawn as well where there are more.

    Raises:
        ValueError: when there is no pair of one of the kinds, or `most` is below 1.
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
    owned = [(speaker, utterance) for speaker, ids in by_speaker.items() for utterance in ids]
    different: dict[tuple[str, str], None] = {}
    possible = (len(owned) ** 2 - sum(len(ids) ** 2 for ids in by_speaker.values())) // 2
    while len(different) < min(len(same), possible):
        first, second = (owned[index] for index in generator.integers(len(owned), size=2))
        if first[0] != second[0] and (second[1], first[1]) not in different:
            different[first[1], second[1]] = None
    pairs = same + list(different)
    labels = np.asarray([1] * len(same) + [0] * len(different))
    return Trials(labels, [first for first, _ in pairs], [second for _, second in pairs])


def _same_speaker_pairs(
    groups: Sequence[Sequence[str]], most: int, generator: np.random.Generator
) -> list[tuple[str, str]]:
    """Return all pairs within a group, or `most` of them at random, without listing the others."""
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
