"""Score trials by the cosine of embeddings."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..data.trials import Trials

Floats = NDArray[np.floating]
# What a trial is scored on, by the name of the scoring: whole utterances, 5 segments of 3 s of each, or both.
SCORINGS: dict[str, tuple[str, ...]] = {
    "full": ("utterances",),
    "segments": ("segments",),
    "combined": ("utterances", "segments"),
}
BLOCK = 2048  # trials


def unit_length(embeddings: Floats) -> Floats:
    """Divide embeddings by their norm.

    Args:
        embeddings: (..., embedding_size).

    Returns:
        (..., embedding_size), unit length along the last axis.

    Raises:
        ValueError: for an embedding that is zero or not finite.
    """
    norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError("An embedding is zero or not finite, so it has no direction: look at its recording.")
    return embeddings / norms


def score_trials(trials: Trials, embeddings: Mapping[str, Floats]) -> Floats:
    """Score every trial by the cosine, or with segments by the mean cosine over all pairs of segments.

    Args:
        trials: the trials.
        embeddings: utterance id to (embedding_size,) or (segments, embedding_size), not normalised.

    Returns:
        (trials,), in [-1, 1].

    Raises:
        ValueError: naming an utterance without an embedding, or with one that is zero or not finite.
    """
    row_of = {name: row for row, name in enumerate(trials.utterances())}
    missing = [name for name in row_of if name not in embeddings]
    if missing:
        raise ValueError(
            f"The trials name {len(missing)} utterances that the data do not have, '{missing[0]}' first: give the "
            "data folder that belongs to the list."
        )
    rows = [embeddings[name] for name in row_of]
    matrix = np.concatenate(rows, axis=None).reshape(len(rows), -1, rows[0].shape[-1])
    norms = np.linalg.norm(matrix, axis=-1)
    without_direction = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)).all(1))
    if len(without_direction):
        name = list(row_of)[without_direction[0]]
        raise ValueError(f"The embedding of '{name}' is zero or not finite: look at that recording.")
    matrix /= norms[..., None]
    # The mean cosine over all pairs of segments is the inner product of the mean directions.
    directions = matrix[:, 0] if matrix.shape[1] == 1 else matrix.mean(1)
    enrolments = np.fromiter(map(row_of.__getitem__, trials.enrolments), np.int64, len(trials.enrolments))
    tests = np.fromiter(map(row_of.__getitem__, trials.tests), np.int64, len(trials.tests))
    return _products(directions, enrolments, tests)


def _products(directions: Floats, enrolments: NDArray[np.int64], tests: NDArray[np.int64]) -> Floats:
    """Multiply the two rows of each trial, in blocks that stay in the processor's cache."""
    scores = np.empty(len(enrolments), directions.dtype)
    for start in range(0, len(scores), BLOCK):
        block = slice(start, start + BLOCK)
        first, second = directions[enrolments[block]], directions[tests[block]]
        np.einsum("ij,ij->i", first, second, out=scores[block])
    return scores


def combined_scores(full: Floats, segments: Floats) -> Floats:
    """Average the scores of whole utterances and of segments, as the paper does.

    Args:
        full: (trials,), cosines of whole utterances.
        segments: (trials,), mean cosines of segments.

    Returns:
        (trials,).
    """
    return (full + segments) / 2
