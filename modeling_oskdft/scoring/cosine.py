"""Score trials by the cosine of embeddings."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..data.trials import Trials

Floats = NDArray[np.floating]
SCORINGS = ("full", "segments", "combined")
BLOCK = 2048


def unit_length(embeddings: Floats) -> Floats:
    """Divide by the norm along the last axis. Raises `ValueError` for a zero or non-finite embedding."""
    norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError("An embedding is zero or not finite, so it has no direction: look at its recording.")
    return embeddings / norms


def score_trials(trials: Trials, embeddings: Mapping[str, Floats]) -> Floats:
    """Score of every trial: the cosine, or with segments the mean cosine over all pairs of segments.

    embeddings: utterance id to (embedding_size,) or (segments, embedding_size).
    Raises `ValueError` naming an utterance that has no embedding, or one without a direction.
    """
    row = {name: index for index, name in enumerate(trials.utterances())}
    missing = [name for name in row if name not in embeddings]
    if missing:
        raise ValueError(
            f"The trials name {len(missing)} utterances that the data do not have, '{missing[0]}' first: give the "
            "data folder that belongs to the list."
        )
    found = [embeddings[name] for name in row]
    matrix = np.concatenate(found, axis=None).reshape(len(found), -1, found[0].shape[-1])
    norms = np.linalg.norm(matrix, axis=-1)
    lost = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)).all(1))
    if len(lost):
        raise ValueError(f"The embedding of '{list(row)[lost[0]]}' is zero or not finite: look at that recording.")
    matrix /= norms[..., None]
    directions = matrix[:, 0] if matrix.shape[1] == 1 else matrix.mean(1)
    enrolments = np.fromiter(map(row.__getitem__, trials.enrolments), np.int64, len(trials.enrolments))
    tests = np.fromiter(map(row.__getitem__, trials.tests), np.int64, len(trials.tests))
    return _products(directions, enrolments, tests)


def _products(directions: Floats, enrolments: NDArray[np.int64], tests: NDArray[np.int64]) -> Floats:
    """The inner product of two rows a trial, in blocks that stay in the processor's cache."""
    scores = np.empty(len(enrolments), directions.dtype)
    for start in range(0, len(scores), BLOCK):
        block = slice(start, start + BLOCK)
        first, second = directions[enrolments[block]], directions[tests[block]]
        np.einsum("ij,ij->i", first, second, out=scores[block])
    return scores


def combined_scores(full: Floats, segments: Floats) -> Floats:
    """The paper's score: the mean of the cosine of whole utterances and the mean cosine of segments."""
    return (full + segments) / 2
