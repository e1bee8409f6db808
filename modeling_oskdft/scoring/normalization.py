"""Normalise scores by a cohort."""

import numpy as np

from .cosine import Floats


def adaptive_s_norm(scores: Floats, enrolment_cohort: Floats, test_cohort: Floats, top_n: int = 300) -> Floats:
    """Adaptive symmetric score normalisation (Matejka et al., 2017), each side over its own nearest cohort.

    scores: (trials,). enrolment_cohort, test_cohort: (trials, cohort) scores of each side against the cohort, whose
    rows are distinct utterances (the authors' code repeats a row once per trial of its key): products of `unit_length`
    embeddings. Deviations are unbiased.
    """
    if not 2 <= top_n <= enrolment_cohort.shape[1]:
        raise ValueError(f"top_n is {top_n} of a cohort of {enrolment_cohort.shape[1]}: use 2 up to that many.")
    result = np.zeros_like(scores)
    for cohort in (enrolment_cohort, test_cohort):
        nearest = np.partition(cohort, -top_n, axis=1)[:, -top_n:]
        result = result + 0.5 * (scores - nearest.mean(1)) / nearest.std(1, ddof=1)
    return result
