"""Compare trials a second on one core, from names and embeddings to scores, with a loop that a reader would write.

There are as many utterances and trials as VoxCeleb1-E has, and random embeddings of the paper's size.
"""

import time
from typing import Any

import numpy as np

from ..data.trials import Trials
from ..scoring.cosine import score_trials
from ..scoring.metrics import equal_error_rate

UTTERANCES, TRIALS, SIZE, LOOP_TRIALS, ROUNDS = 145_160, 579_818, 192, 20_000, 5


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure both ways; return rows and ratios. numpy computes the inner products of rows on one thread."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(UTTERANCES, SIZE)).astype(np.float32)
    embeddings = {f"id{row % 1251:05d}/{row:06d}/00001": values[row] for row in range(UTTERANCES)}
    names = np.array(list(embeddings), dtype=object)
    enrolments, tests = names[generator.integers(UTTERANCES, size=(2, TRIALS))].tolist()
    trials = Trials(generator.integers(2, size=TRIALS), enrolments, tests)

    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        scores = score_trials(trials, embeddings)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    pairs = zip(enrolments[:LOOP_TRIALS], tests[:LOOP_TRIALS], strict=True)
    loop_scores = [_cosine(embeddings[enrolment], embeddings[test]) for enrolment, test in pairs]
    loop_rate = LOOP_TRIALS / (time.perf_counter() - start)
    start = time.perf_counter()
    equal_error_rate(scores, trials.labels)
    eer_seconds = time.perf_counter() - start

    rate = TRIALS / float(np.median(seconds))
    rows = [
        {"scoring": "loop", "trials/s": loop_rate},
        {"scoring": f"score_trials, {TRIALS:,} trials of {UTTERANCES:,} utterances", "trials/s": rate},
        {"scoring": "EER of these scores", "trials/s": TRIALS / eer_seconds},
    ]
    return rows, {
        "million trials/s (at least 1)": rate / 1e6,
        "times the loop": rate / loop_rate,
        "largest difference from the loop, millionths (at most 1)": 1e6
        * float(np.abs(scores[:LOOP_TRIALS] - loop_scores).max()),
    }


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
