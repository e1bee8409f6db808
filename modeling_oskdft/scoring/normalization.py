"""Normalise scores with a cohort of other speakers."""

import numpy as np

from .cosine import Floats


def adaptive_s_norm(scores: Floats, enrolment_cohort: Floats, test_cohort: Floats, top_n: int = 300) -> Floats:
    """Normalise scores adaptively and symmetrically: adaptive S-norm (Matejka et al., 2017).

    Each side of a trial is normalised with the mean and the unbiased standard deviation of its nearest cohort.

    Args:
        scores: (trials,).
        enrolment_cohort: (trials, cohort), scores of the enrolments against the cohort: inner products of
            `unit_length` embeddings. The cohort has distinct utterances, where the authors' code repeats a row once
            for each trial of its key.
        test_cohort: (trials, cohort), scores of the tests against the cohort.
        top_n: number of nearest cohort utterances that are used.

    Returns:
        (trials,), normalised scores.

    Raises:
        ValueError: for a top_n below 2 or above the size of the cohort.
    """
    if not 2 <= top_n <= enrolment_cohort.shape[1]:
        raise ValueError(f"top_n is {top_n} of a cohort of {enrolment_cohort.shape[1]}: use 2 up to that many.")
    result = np.zeros_like(scores)
    for cohort in (enrolment_cohort, test_cohort):
        nearest = np.partition(cohort, -top_n, axis=1)[:, -top_n:]
        result = result + 0.5 * (scores - nearest.mean(1)) / nearest.std(1, ddof=1)
    return result
