"""Embed the recordings of trials as a verifier hears them, with the speech in each."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.trials import Trials
from ..embedding.recordings import Floats, Recording, embed_recordings, sentences_about
from ..embedding.runtimes import BATCH_SIZE, Embedder

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Heard:
    """Hold the recordings of the pairs.

    Attributes:
        embeddings: (embedding_size,), unit length, by name.
        speech: seconds of speech by name.
        network: network that found the speech.
        warnings: sentences about flaws.
    """

    embeddings: dict[str, Floats]
    speech: dict[str, float]
    network: str | None
    warnings: tuple[str, ...]

    def sides(self, first: str, second: str) -> tuple[Floats, Floats, float, str | None]:
        """Return both embeddings of a pair, the speech of the shorter side, and what found it.

        Args:
            first: name of a recording.
            second: name of the other.
        """
        shorter = min(self.speech[first], self.speech[second])
        return self.embeddings[first], self.embeddings[second], shorter, self.network

    def cosines(self, trials: Trials) -> Scores:
        """Compute the cosine of each trial, (trials,).

        Args:
            trials: pairs of names.
        """
        pairs = zip(trials.enrolments, trials.tests, strict=True)
        return np.asarray([float(self.embeddings[first] @ self.embeddings[second]) for first, second in pairs])

    def shorter_speech(self, trials: Trials) -> Scores:
        """Return the speech of the shorter side of each trial, (trials,), in seconds.

        Args:
            trials: pairs of names.
        """
        pairs = zip(trials.enrolments, trials.tests, strict=True)
        return np.asarray([min(self.speech[first], self.speech[second]) for first, second in pairs])


def hear(embedder: Embedder, recordings: Iterable[tuple[str, Recording]]) -> Heard:
    """Embed recordings, each once, a batch at a time.

    Args:
        embedder: the model in its runtime.
        recordings: name and recording of each; they are read a batch at a time.

    Raises:
        ValueError, OSError: as reading and `embed_recordings` do.
    """
    heard = Heard({}, {}, None, ())
    unread = iter(recordings)
    while part := list(itertools.islice(unread, BATCH_SIZE)):
        read = [recording for _, recording in part]
        for (name, recording), vectors in zip(part, embed_recordings(embedder, read), strict=True):
            heard.embeddings[name], heard.speech[name] = vectors.embedding, recording.speech.seconds
        flaws = dict.fromkeys((*heard.warnings, *sentences_about(read)))
        heard = replace(heard, network=read[-1].speech.network, warnings=tuple(flaws))
    return heard
