"""Count what a service does, for Prometheus; no names and no audio."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SCORES = tuple(round(-0.2 + 0.05 * step, 2) for step in range(25))
RATIOS = tuple(range(-12, 13))
SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True)
class Gauges:
    """Hold functions that tell a number when it is asked for."""

    waiting: Callable[[], float]
    running: Callable[[], float]
    voices: Callable[[], float]


class Metrics:
    """Hold the metrics of one service, in a registry of its own.

    Args:
        model: name of the served model.
        fingerprint: fingerprint of its weights.
        backend: its runtime.
        gauges: numbers of this moment.
    """

    def __init__(self, model: str, fingerprint: str, backend: str, gauges: Gauges) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "oskdft_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.refusals = Counter("oskdft_refusals", "Refused requests by reason.", ["reason"], registry=registry)
        self.seconds = Histogram(
            "oskdft_stage_seconds",
            "Time of a stage: waiting, reading, deciding, and answering as a whole.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.speech = Counter("oskdft_speech_seconds", "Seconds of speech that were heard.", registry=registry)
        self.warnings = Counter("oskdft_warned", "Answers with a warning.", registry=registry)
        outcomes = ["outcome"]  # same, different, none
        self.scores = Histogram("oskdft_score", "Scores by outcome.", outcomes, buckets=SCORES, registry=registry)
        self.ratios = Histogram(
            "oskdft_llr", "Log-likelihood ratios by outcome.", outcomes, buckets=RATIOS, registry=registry
        )
        facts = {"model": model, "fingerprint": fingerprint, "backend": backend}
        Gauge("oskdft_model", "The served model.", list(facts), registry=registry).labels(**facts).set(1)
        for name, text, tell in (
            ("oskdft_waiting", "Requests that wait for a worker.", gauges.waiting),
            ("oskdft_running", "Requests that are worked on.", gauges.running),
            ("oskdft_voices", "Enrolled voices.", gauges.voices),
        ):
            Gauge(name, text, registry=registry).set_function(tell)

    def decided(self, score: float, llr: float | None, same: bool | None) -> None:
        """Count a decision.

        Args:
            score: cosine.
            llr: log-likelihood ratio; None without calibration.
            same: whether the answer is "the same speaker"; None: there is none.
        """
        outcome = {True: "same", False: "different", None: "none"}[same]
        self.scores.labels(outcome).observe(score)
        if llr is not None:
            self.ratios.labels(outcome).observe(llr)

    def text(self) -> bytes:
        """Write all metrics as Prometheus reads them."""
        return generate_latest(self.registry)
