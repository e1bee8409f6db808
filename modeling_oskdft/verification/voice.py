"""Describe an enrolled voice, what keeps voices, and the names that voices may have."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import printable

Embeddings = NDArray[np.float32]
LONGEST_NAME = 100  # letters
OTHER_MODEL = (
    "The voices of {} were embedded by another model: open that one, or embed their recordings anew with `oskdft "
    "voices migrate STORE --model MODEL --recordings DIR`."
)
REFUSED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and hidden letters, halves of letters, separators of lines
JOINER = "\u200d"  # within an emoji of several
BLANK = set("\u3164\u2800\u115f\u1160\uffa0")  # letters that are not seen


class NotEnrolled(ValueError):
    """Say that a name is not enrolled."""


class AlreadyEnrolled(ValueError):
    """Say that a name is enrolled already."""


class UnusableVoices(ValueError):
    """Say that no voice can be used: a damaged file, another key, or voices of another model."""


@dataclass(frozen=True)
class Fact:
    """Hold what is known of one stored recording.

    Attributes:
        fingerprint: fingerprint of the model that embedded it.
        size: length of its embedding.
        date: when it was enrolled, in UTC.
        speech: seconds of speech in it.
        consent: note of consent, for the one who asks later.
        calibration: day of the calibration that its quality was judged with; None without one.
    """

    fingerprint: str
    size: int
    date: str
    speech: float
    consent: str = ""
    calibration: str | None = None


@dataclass(frozen=True, eq=False)
class Voice:
    """Hold an enrolled voice.

    Attributes:
        name: name of the speaker.
        embeddings: (recordings, embedding_size), unit length, one row for each recording.
        facts: what is known of each recording.
    """

    name: str
    embeddings: Embeddings
    facts: tuple[Fact, ...]

    @property
    def speech(self) -> float:
        """Return the seconds of speech of all recordings."""
        return sum(fact.speech for fact in self.facts)

    @property
    def vector(self) -> NDArray[np.float32]:
        """Return the mean of the embeddings, weighted by speech, (embedding_size,), unit length."""
        weights = np.asarray([max(fact.speech, 1e-3) for fact in self.facts])
        mean = weights @ self.embeddings.astype(np.float64)
        return (mean / np.linalg.norm(mean)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Index:
    """Hold the vectors of all voices for a search.

    Attributes:
        names: names of the voices.
        vectors: (voices, embedding_size), unit length.
        speech: (voices,), seconds of speech of each.
        population: number of all voices, of which these are candidates; None: these are all.
    """

    names: list[str]
    vectors: Embeddings
    speech: NDArray[np.float64]
    population: int | None = None


class Voices(Protocol):
    """Keep voices: in a file or in memory (`VoiceStore`), or in Qdrant (`QdrantVoices`)."""

    path: Path | None

    def __len__(self) -> int: ...

    def __contains__(self, name: object) -> bool: ...

    def voices(self) -> Mapping[str, Voice]:
        """Return all voices by name."""
        ...

    def get(self, name: str) -> Voice:
        """Return a voice."""
        ...

    def near(self, embedding: NDArray[np.float32], most: int = ...) -> Index:
        """Return the voices, or candidates that are near to an embedding."""
        ...

    def check(self, fingerprint: str) -> None:
        """Check that the voices are of a model."""
        ...

    def add(self, voice: Voice) -> None:
        """Add a voice of a new name."""
        ...

    def extend(self, voice: Voice) -> Voice:
        """Add recordings to a voice."""
        ...

    def forget(self, name: str) -> None:
        """Remove a voice."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a voice another name."""
        ...

    def replace_all(self, voices: list[Voice], expected: Mapping[str, Voice]) -> None:
        """Put other voices in the place of all."""
        ...


def checked_name(name: str) -> str:
    """Check the name of a voice, and bring its letters into one form (Unicode NFC).

    Args:
        name: the name; letters of all scripts and emoji are allowed.

    Raises:
        ValueError: for an empty or long name, for one with slashes, line breaks or letters that are not shown.
        TypeError: for anything but a text.
    """
    if not isinstance(name, str):
        raise TypeError(f"A name of type {type(name).__name__} was given: a text is needed.")
    clean = plain(name)
    if not clean or len(clean) > LONGEST_NAME:
        raise ValueError(
            f"The name '{printable(name[:40])}' has {len(clean)} letters: 1 to {LONGEST_NAME} are needed."
        )
    if clean in (".", "..") or any(
        letter in "/\\" or letter in BLANK or (letter != JOINER and unicodedata.category(letter) in REFUSED)
        for letter in clean
    ):
        raise ValueError(
            f"The name '{printable(clean)}' has slashes, line breaks or hidden letters: give a plain name."
        )
    return clean


def plain(name: str) -> str:
    """Bring the letters of a name into one form (Unicode NFC), without blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def today() -> str:
    """Return this moment in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()
