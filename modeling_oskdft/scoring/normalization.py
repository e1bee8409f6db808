"""Normalise scores with a cohort of other speakers: adaptive S-norm (P. Matejka et al., Interspeech 2017).

Each side of a trial has the mean and the unbiased standard deviation of its nearest cohort speakers. The normalised
score is the mean of (score - mean) / deviation of the two sides, so it is a straight line over the score.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.trials import Trials
from ..errors import first_line
from ..files import whole_file
from .cosine import Floats, unit_length

COHORT_NAME = "cohort.safetensors"
TOP_N = 300  # nearest speakers; the paper's reference value
BLOCK = 1 << 24  # scores that are held at a time: 64 MB in float32
LEAST_DEVIATION = 1e-6
NO_SPREAD = (
    "The nearest speakers of the cohort have equal scores, so there is no deviation to divide by: give a cohort of "
    "more and of different speakers."
)


class CohortStatistics(NamedTuple):
    """Hold what the nearest cohort speakers of embeddings score.

    Attributes:
        means: (embeddings,).
        deviations: (embeddings,), unbiased, above 0.
    """

    means: Floats
    deviations: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Hold the mean embeddings of speakers to normalise with.

    Attributes:
        embeddings: (speakers, embedding_size), unit length, one row for each speaker; they are voices.
        fingerprint: fingerprint of the model that made them.
        top_n: nearest speakers that are used.
    """

    embeddings: NDArray[np.float32]
    fingerprint: str
    top_n: int = TOP_N

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or not 2 <= self.top_n <= len(self.embeddings):
            raise ValueError(f"top_n is {self.top_n} of a cohort of {len(self.embeddings)}: use 2 up to that many.")

    def __repr__(self) -> str:
        return f"Cohort(speakers={len(self.embeddings)}, top_n={self.top_n})"

    @classmethod
    def of_speakers(
        cls,
        embeddings: Mapping[str, Floats],
        speaker_of: Mapping[str, str],
        fingerprint: str,
        top_n: int | None = None,
    ) -> "Cohort":
        """Average the embeddings of each speaker.

        Args:
            embeddings: utterance id to (embedding_size,).
            speaker_of: utterance id to speaker.
            fingerprint: fingerprint of the model.
            top_n: nearest speakers that are used; None: `TOP_N`, or all where there are fewer.
        """
        rows_of: dict[str, list[Floats]] = {}
        for name, embedding in embeddings.items():
            rows_of.setdefault(speaker_of[name], []).append(unit_length(embedding))
        means = np.stack([np.mean(rows, axis=0) for _, rows in sorted(rows_of.items())])
        wanted = min(TOP_N, len(means)) if top_n is None else top_n
        return cls(unit_length(means).astype(np.float32), fingerprint, wanted)

    @property
    def digest(self) -> str:
        """Return 16 hexadecimal digits that a calibration states."""
        content = np.ascontiguousarray(self.embeddings, "<f4").tobytes() + str(self.top_n).encode()
        return hashlib.sha256(content).hexdigest()[:16]

    def statistics(self, embeddings: Floats) -> CohortStatistics:
        """Score embeddings against the cohort, in blocks.

        Args:
            embeddings: (embeddings, embedding_size), unit length.

        Raises:
            ValueError: for a cohort without spread, and for embeddings of another size.
        """
        if embeddings.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"Embeddings of size {embeddings.shape[1]} were given with a cohort of {self.embeddings.shape[1]}: "
                "use the cohort of this model."
            )
        rows = max(1, BLOCK // len(self.embeddings))
        cohort = self.embeddings.T
        parts = [
            nearest_statistics(embeddings[start : start + rows].astype(np.float32, copy=False) @ cohort, self.top_n)
            for start in range(0, len(embeddings), rows)
        ]
        return CohortStatistics(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def line(self, enrolment: Floats, test: Floats) -> tuple[float, float]:
        """Return gain and shift of one trial: gain * score - shift is its normalised score.

        Args:
            enrolment: (embedding_size,), unit length.
            test: (embedding_size,), unit length.

        Raises:
            ValueError: for a cohort without spread.
        """
        gains, shifts = _lines(self.statistics(np.stack([enrolment, test])))
        return float(gains.sum() / 2), float(shifts.sum() / 2)

    def normalise(self, scores: Floats, trials: Trials, embeddings: Mapping[str, Floats]) -> Floats:
        """Normalise the scores of trials, with the statistics of each utterance computed once.

        Args:
            scores: (trials,).
            trials: the trials.
            embeddings: utterance id to (embedding_size,), of any length.

        Returns:
            (trials,), finite.

        Raises:
            ValueError: for a cohort without spread.
        """
        names = trials.utterances()
        row_of = {name: row for row, name in enumerate(names)}
        enrolments, tests = (np.asarray([row_of[name] for name in side]) for side in (trials.enrolments, trials.tests))
        return self.normalise_rows(
            scores, unit_length(np.stack([embeddings[name] for name in names])), enrolments, tests
        )

    def normalise_rows(
        self, scores: Floats, embeddings: Floats, enrolments: NDArray[np.int64], tests: NDArray[np.int64]
    ) -> Floats:
        """Normalise the scores of trials whose sides are rows of a matrix.

        Args:
            scores: (trials,).
            embeddings: (utterances, embedding_size), unit length.
            enrolments: (trials,), row of each enrolment.
            tests: (trials,), row of each test.

        Returns:
            (trials,), finite.

        Raises:
            ValueError: for a cohort without spread.
        """
        gains, shifts = _lines(self.statistics(embeddings))
        return (scores * (gains[enrolments] + gains[tests]) - shifts[enrolments] - shifts[tests]) / 2

    def save(self, folder: str | Path) -> None:
        """Write `cohort.safetensors` into a folder, whole or not at all."""
        from safetensors.numpy import save

        facts = {"fingerprint": self.fingerprint, "top_n": str(self.top_n)}
        with whole_file(Path(folder, COHORT_NAME)) as file:
            file.write_bytes(save({"embeddings": np.ascontiguousarray(self.embeddings, np.float32)}, facts))

    @classmethod
    def load(cls, path: str | Path) -> "Cohort":
        """Read a cohort.

        Raises:
            ValueError: for a file that holds none, or embeddings that are not finite.
        """
        from safetensors import safe_open

        try:
            with safe_open(str(path), "np") as file:
                facts, embeddings = file.metadata() or {}, file.get_tensor("embeddings")
            # As they are: a calibration states the digest of these bits.
            if embeddings.ndim != 2 or not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3):
                raise ValueError("its embeddings have no unit length")
            return cls(embeddings, facts["fingerprint"], int(facts["top_n"]))
        except Exception as error:  # a damaged file can raise any error
            raise ValueError(f"'{path}' does not hold a cohort ({first_line(error)}): make it anew.") from None


def adaptive_s_norm(scores: Floats, enrolment_cohort: Floats, test_cohort: Floats, top_n: int = TOP_N) -> Floats:
    """Normalise scores whose cohort scores are given.

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
        ValueError: for a top_n below 2 or above the size of the cohort, and for a cohort without spread.
    """
    if not 2 <= top_n <= enrolment_cohort.shape[1]:
        raise ValueError(f"top_n is {top_n} of a cohort of {enrolment_cohort.shape[1]}: use 2 up to that many.")
    result = np.zeros_like(scores)
    for cohort in (enrolment_cohort, test_cohort):
        means, deviations = nearest_statistics(cohort, top_n)
        result = result + 0.5 * (scores - means) / deviations
    return result


def nearest_statistics(cohort_scores: Floats, top_n: int) -> CohortStatistics:
    """Compute mean and unbiased deviation of the highest cohort scores of each row.

    Args:
        cohort_scores: (embeddings, cohort).
        top_n: number of the highest scores.

    Raises:
        ValueError: for a row whose highest scores are equal.
    """
    nearest = np.partition(cohort_scores, -top_n, axis=1)[:, -top_n:]
    deviations = nearest.std(1, ddof=1)
    if not (deviations > LEAST_DEVIATION).all():
        raise ValueError(NO_SPREAD)
    return CohortStatistics(nearest.mean(1), deviations)


def _lines(statistics: CohortStatistics) -> tuple[Floats, Floats]:
    """Return gain and shift of each side."""
    return 1 / statistics.deviations, statistics.means / statistics.deviations
