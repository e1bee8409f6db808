"""Time what a decision costs beside an embedding: verify, identify among many voices, s-norm, calibration."""

from typing import Any

import numpy as np

from ..evaluation.cost import alternating_medians
from ..scoring.calibration import Calibration, Rates
from ..scoring.normalization import Cohort
from ..verification.decision import Evidence, decide
from ..verification.enrolment import nearest
from ..verification.voice import Index

SIZE, COHORT, TRIALS = 192, 6000, 1_000_000
VOICES = (10**3, 10**5, 10**6)
UTTERANCES = 20_000  # of the million trials
SECONDS_OF_S_NORM = 30  # that a million trials may take


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure all in one run, in turn; returns rows and ratios. NumPy works on its own threads."""
    generator = np.random.default_rng(0)

    def unit(rows: int) -> np.ndarray:
        values = generator.normal(size=(rows, SIZE)).astype(np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    calibration, cohort = _calibration(), Cohort(unit(COHORT), "a" * 64, 300)
    query, other = unit(2)
    indexes = {voices: Index([f"{n}" for n in range(voices)], unit(voices), np.full(voices, 5.0)) for voices in VOICES}
    calls: dict[str, Any] = {
        "verify two embeddings: score, ratio, decision": lambda: decide(
            Evidence(float(query @ other), 3.0, "silero"), None, calibration
        ),
        "the same with s-norm, cohort of 6,000": lambda: decide(
            Evidence(float(query @ other), 3.0, "silero", cohort.line(query, other)), None, calibration
        ),
    }
    for voices, index in indexes.items():
        calls[f"identify among {voices:,} voices"] = lambda index=index: nearest(
            index, query, 3.0, "silero", calibration, 3
        )
    medians = alternating_medians(calls, rounds=5)
    rows: list[dict[str, Any]] = [{"what": name, "milliseconds": 1000 * value} for name, value in medians.items()]
    del indexes
    embeddings = unit(UTTERANCES)
    pairs = generator.integers(UTTERANCES, size=(2, TRIALS))
    scores = np.einsum("ij,ij->i", embeddings[pairs[0]], embeddings[pairs[1]])
    normalise = {"s-norm": lambda: cohort.normalise_rows(scores, embeddings, *pairs)}
    seconds = alternating_medians(normalise, rounds=1)["s-norm"]
    rows.append({"what": f"s-norm of {TRIALS:,} trials of {UTTERANCES:,} recordings", "milliseconds": 1000 * seconds})
    first = medians["identify among 1,000 voices"]
    return rows, {
        "identify among 1,000,000 / 1,000 voices": medians["identify among 1,000,000 voices"] / first,
        f"seconds of s-norm for a million trials (at most {SECONDS_OF_S_NORM})": seconds,
    }


def _calibration() -> Calibration:
    curve = {"llr": [-5.0, 5.0]} | dict.fromkeys(Rates._fields, [0.5, 0.5])
    return Calibration(
        fingerprint="a" * 64,
        score=(10.0, -5.0),
        bounds=(-8.0, 9.0),
        trials=10_000,
        target_trials=5_000,
        speakers=100,
        data="made up",
        date="2026-11-26",
        cllr=0.2,
        min_cllr=0.2,
        operating_points={},
        curve=curve,
        duration=(8.0, -4.0, -1.0, 2.0),
        speech=(1.0, 8.0),
        network="silero",
    )
