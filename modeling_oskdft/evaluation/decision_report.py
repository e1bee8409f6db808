"""Measure what a decision maker asks of a verifier on trials of their own: errors in counts, time, size, slices."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio.forms import SAMPLING_RATE, Waveform
from ..audio.loading import load_audio
from ..audio.speech import inspect
from ..data.manifest import Manifest
from ..data.trials import Trials
from ..embedding.runtimes import Embedder, ExportedEmbedder
from ..scoring.calibration import Calibration
from ..scoring.likelihood_ratios import actual_detection_cost, bayes_threshold, cllr, det_points, min_cllr
from ..scoring.metrics import bootstrap_rates, equal_error_rate, interval_of, min_detection_cost, speaker_weights
from ..scoring.thresholds import OPERATING_POINTS, Thresholds
from .cost import alternating_medians
from .report import report_scores, speakers_of

Floats = NDArray[np.float64]
DRAWS = 500
SLICED_COLUMNS = ("gender", "language", "corpus", "session_id", "age_group", "device", "snr")
DURATIONS = ((0.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, math.inf))  # seconds of speech of the shorter side
LEAST_TRIALS = 20  # of each kind, in a slice
WORST = 10
BINS = 10
CURVE_POINTS = 200
DAY = 24 * 3600


@dataclass(frozen=True)
class Attempts:
    """Hold what a deployment expects.

    Attributes:
        prior: share of attempts that are of the right speaker.
        c_miss: cost of a rejected speaker.
        c_fa: cost of an accepted stranger.
        a_day: attempts a day.
        core_hour: cost of a core for an hour.
    """

    prior: float = 0.5
    c_miss: float = 1.0
    c_fa: float = 1.0
    a_day: int = 1000
    core_hour: float = 0.05


@dataclass(frozen=True)
class HeardUtterances:
    """Hold the speech of utterances.

    Attributes:
        seconds: utterance id to seconds of speech.
        network: network that found it; None for the level.
        flagged: utterance id to sentences about its flaws; utterances without are left out.
    """

    seconds: dict[str, float]
    network: str | None
    flagged: dict[str, list[str]]


def hear_utterances(manifest: Manifest, trials: Trials, progress: bool = False) -> HeardUtterances:
    """Find the speech in every utterance of a trial list.

    Args:
        manifest: the utterances.
        trials: the trials.
        progress: whether to show a bar, where stderr is a terminal.

    Raises:
        ValueError, OSError: for a recording that cannot be read.
    """
    from tqdm.auto import tqdm

    needed = manifest.where("utterance_id", trials.utterances())
    seconds, flagged, network = {}, {}, None
    rows = tqdm(range(len(needed)), desc="speech", unit="utt", disable=None if progress else True)
    for row, name in zip(rows, needed.column("utterance_id"), strict=True):
        inspection = inspect(load_audio(needed.audio(row)))
        seconds[name], network = inspection.speech.seconds, inspection.speech.network
        try:
            sentences = inspection.faults("It")
        except ValueError as error:  # it is silent
            sentences = [str(error)]
        if sentences:
            flagged[name] = sentences
    return HeardUtterances(seconds, network, flagged)


def decision_report(
    scores: NDArray[np.floating],
    trials: Trials,
    manifest: Manifest,
    heard: HeardUtterances,
    thresholds: Thresholds | None,
    calibration: Calibration | None,
    attempts: Attempts,
) -> dict[str, Any]:
    """Measure the error rates of the decisions that the verifier makes now.

    Args:
        scores: (trials,), cosines, or normalised scores for a calibration with a cohort.
        trials: the trials.
        manifest: the utterances.
        heard: their speech.
        thresholds: of the verifier; None: it has none.
        calibration: of the verifier; None: it has none.
        attempts: what a deployment expects.

    Returns:
        Values for JSON: `rates`, `decisions`, `calibration`, `slices`, `worst`, `curves`, `warnings`.

    Raises:
        ValueError: as `report_scores` does, and for a prior or costs outside of their ranges.
    """
    bayes_threshold(attempts.prior, attempts.c_miss, attempts.c_fa)
    values, labels = np.asarray(scores, np.float64), trials.labels
    speakers = speakers_of(manifest)
    pairs = trials.speakers(speakers)
    shorter = np.asarray(
        [min(heard.seconds[a], heard.seconds[b]) for a, b in zip(trials.enrolments, trials.tests, strict=True)]
    )
    llrs = None
    if calibration is not None:
        llrs = np.asarray(
            [calibration.llr(score, speech, heard.network) for score, speech in zip(values, shorter, strict=True)]
        )
    report: dict[str, Any] = {
        "rates": report_scores(values, trials, speakers).as_dict(),
        "attempts": vars(attempts),
        "decisions": _decisions(values, llrs, labels, pairs, thresholds, calibration, attempts),
        "slices": _slices(values, trials, manifest, shorter, pairs),
        "worst": _worst(values, trials, speakers, heard),
        "curves": _curves(values, llrs, labels),
        "speech": {"median": float(np.median(shorter)), "network": heard.network},
        "flagged": len(heard.flagged),
        "utterances": len(heard.seconds),
    }
    if llrs is not None:
        costs = (attempts.prior, attempts.c_miss, attempts.c_fa)
        report["calibration"] = {
            "cllr": cllr(llrs, labels),
            "min_cllr": min_cllr(values, labels),
            "actual_cost": actual_detection_cost(llrs, labels, *costs),
            "min_cost": min_detection_cost(values, labels, *costs),
        }
    return report


def time_and_size(embedders: Mapping[str, Embedder], seconds: float = 3.0, rounds: int = 9) -> dict[str, Any]:
    """Time the way from samples to embedding on one thread, in turn, and count what a core does in a day.

    Args:
        embedders: models in their runtimes by name.
        seconds: length of the recording.
        rounds: timed calls of each.

    Returns:
        `seconds`, `speech_milliseconds` of finding speech, and by name `milliseconds` and `recordings_a_day`.
    """
    waveform = (0.1 * np.random.default_rng(0).normal(size=round(seconds * SAMPLING_RATE))).astype(np.float32)
    with one_thread():
        calls: dict[str, Callable[[], object]] = {
            name: _calls(embedder, waveform) for name, embedder in embedders.items()
        }
        medians = alternating_medians(calls | {"": lambda: inspect(waveform)}, rounds)
    speech = medians.pop("")
    times = {
        name: {"milliseconds": 1000 * value, "recordings_a_day": DAY / (value + speech)}
        for name, value in medians.items()
    }
    return {"seconds": seconds, "speech_milliseconds": 1000 * speech, "models": times}


def _calls(embedder: Embedder, waveform: Waveform) -> Callable[[], object]:
    """Return a call of a model; onnxruntime is opened anew, because a session keeps its number of threads."""
    single = type(embedder)(embedder.path) if isinstance(embedder, ExportedEmbedder) else embedder
    return lambda: single.embed([waveform])


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, and sessions of onnxruntime that are opened inside, work on one thread."""
    import torch

    threads, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if variable is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = variable


def _decisions(
    scores: Floats,
    llrs: Floats | None,
    labels: NDArray[np.int64],
    pairs: Sequence[tuple[str, str]],
    thresholds: Thresholds | None,
    calibration: Calibration | None,
    attempts: Attempts,
) -> list[dict[str, Any]]:
    """Measure the rates of each operating point that the verifier has."""
    rows = []
    for name in (*OPERATING_POINTS, "bayes"):
        accepted, basis = _accepted(name, scores, llrs, thresholds, calibration, attempts)
        if accepted is None:
            continue
        rates = {}
        for kind, wrong, label in (("false_accepts", accepted, 0), ("false_rejects", ~accepted, 1)):
            of_class = labels == label
            draws = [
                float(np.average(wrong[of_class], weights=weights[of_class]))
                for weights in speaker_weights(labels, pairs, DRAWS, seed=0)
            ]
            low, high = interval_of(draws)
            unseen = 1 - 0.05 ** (1 / of_class.sum())  # an error that was never seen may still come (Hanley, 1983)
            rates[kind] = [float(wrong[of_class].mean()), low, max(high, unseen)]
        rows.append({"operating_point": name, "basis": basis, **rates, **_a_day(rates, attempts)})
    return rows


def _accepted(
    name: str,
    scores: Floats,
    llrs: Floats | None,
    thresholds: Thresholds | None,
    calibration: Calibration | None,
    attempts: Attempts,
) -> tuple[NDArray[np.bool_] | None, str]:
    if llrs is not None and calibration is not None:
        point = calibration.operating_points.get(name)
        if name == "bayes":
            return llrs >= bayes_threshold(attempts.prior, attempts.c_miss, attempts.c_fa), "calibration"
        if point is not None:
            return llrs >= point.llr, "calibration"
    threshold = None if thresholds is None else thresholds.values.get(name)
    return (None, "") if threshold is None else (scores >= threshold, "threshold")


def _a_day(rates: Mapping[str, Sequence[float]], attempts: Attempts) -> dict[str, list[float]]:
    """Count the errors of a day: of the right speakers that are rejected, of the strangers that are accepted."""
    right, strangers = attempts.a_day * attempts.prior, attempts.a_day * (1 - attempts.prior)
    return {
        "rejected_a_day": [right * rate for rate in rates["false_rejects"]],
        "accepted_a_day": [strangers * rate for rate in rates["false_accepts"]],
    }


def _slices(
    scores: Floats,
    trials: Trials,
    manifest: Manifest,
    shorter: Floats,
    pairs: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Measure the EER of groups of trials: by speech of the shorter side, and by columns that the data have."""
    groups: list[tuple[str, str, NDArray[np.bool_]]] = []
    for low, high in DURATIONS:
        label = f"{low:g} to {high:g} s" if math.isfinite(high) else f"{low:g} s and more"
        groups.append(("speech", label, (shorter >= low) & (shorter < high)))
    names = manifest.column("utterance_id")
    for column in SLICED_COLUMNS:
        if column not in manifest.table.column_names:
            continue
        value_of = dict(zip(names, manifest.column(column), strict=True))
        first, second = ([str(value_of[name]) for name in side] for side in (trials.enrolments, trials.tests))
        if column == "session_id":  # the folder above: "session1" is another one for each speaker
            folders = ([name.rpartition("/")[0] for name in side] for side in (trials.enrolments, trials.tests))
            same = np.asarray([a == b for a, b in zip(*folders, strict=True)])
            groups += [("session", "the same", same), ("session", "another", ~same)]
            continue
        equal = [a if a == b and a not in ("", "None") else "" for a, b in zip(first, second, strict=True)]
        groups += [(column, value, np.asarray([v == value for v in equal])) for value in sorted(set(equal) - {""})]
    rows = []
    for column, value, chosen in groups:
        of_each = [int(np.sum(trials.labels[chosen] == label)) for label in (0, 1)]
        if min(of_each) < LEAST_TRIALS or chosen.all():
            continue
        labels, picked = trials.labels[chosen], [pair for pair, take in zip(pairs, chosen, strict=True) if take]
        draws, _ = bootstrap_rates([scores[chosen]], labels, picked, draws=DRAWS)
        low, high = interval_of(draws[:, 0])
        rows.append(
            {
                "column": column,
                "value": value,
                "trials": int(chosen.sum()),
                "eer": equal_error_rate(scores[chosen], labels).value,
                "eer_low": low,
                "eer_high": high,
            }
        )
    return rows


def _worst(
    scores: Floats, trials: Trials, speakers: Mapping[str, str], heard: HeardUtterances
) -> dict[str, list[dict[str, Any]]]:
    """List the trials that are most wrong: strangers with the highest scores, same speakers with the lowest."""
    worst = {}
    for kind, label, sign in (("false_accepts", 0, -1), ("false_rejects", 1, 1)):
        rows = np.flatnonzero(trials.labels == label)
        rows = rows[np.argsort(sign * scores[rows], kind="stable")][:WORST]
        worst[kind] = [
            {
                "score": float(scores[row]),
                "enrolment": trials.enrolments[row],
                "test": trials.tests[row],
                "speakers": [speakers[trials.enrolments[row]], speakers[trials.tests[row]]],
                "flaws": [
                    *heard.flagged.get(trials.enrolments[row], []),
                    *heard.flagged.get(trials.tests[row], []),
                ],
            }
            for row in rows
        ]
    return worst


def _curves(scores: Floats, llrs: Floats | None, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Thin the points of the DET curve, and count how often ratios come true."""
    points = det_points(scores, labels)
    rows = np.unique(np.linspace(0, points.probits.shape[1] - 1, CURVE_POINTS).astype(int))
    curves: dict[str, Any] = {"det": points.probits[:, rows].round(4).tolist()}
    if llrs is not None:
        # At equal numbers of both kinds of trial, the share of targets among trials of one ratio is its probability.
        weights = np.where(labels == 1, 0.5 / np.sum(labels == 1), 0.5 / np.sum(labels == 0))
        probability = 1 / (1 + np.exp(-llrs))
        bins = np.clip((probability * BINS).astype(int), 0, BINS - 1)
        curves["reliability"] = [
            [
                float(np.average(probability[bins == number], weights=weights[bins == number])),
                float(np.average(labels[bins == number], weights=weights[bins == number])),
                int(np.sum(bins == number)),
            ]
            for number in range(BINS)
            if np.any(bins == number)
        ]
    return curves
