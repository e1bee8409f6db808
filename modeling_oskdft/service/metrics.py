"""Count what a service does, for Prometheus; no names and no audio."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from .refusals import Reason

SCORES = tuple(round(-0.2 + 0.05 * step, 2) for step in range(25))
RATIOS = tuple(range(-12, 13))
SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
CONTENT_TYPE = CONTENT_TYPE_LATEST
Stage = Literal["waiting", "reading", "deciding", "answering"]
Outcome = Literal["same", "different", "none"]
NO_ROUTE = "none"  # of requests that reach no route of ours
NO_ROUTE_STATUSES = (200, 307, 400, 401, 403, 404, 405, 408, 413, 429)


@dataclass(frozen=True)
class Gauges:
    """Hold functions that tell a number when it is asked for."""

    waiting: Callable[[], float]
    running: Callable[[], float]
    voices: Callable[[], float]


class Metrics:
    """Hold the metrics of one service, in a registry of its own.

    Every series begins at 0 before it is needed: Prometheus counts what a series has gained since it first saw it, so
    the event with which a series begins would be lost.

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
        outcomes = ["outcome"]
        self.scores = Histogram("oskdft_score", "Scores by outcome.", outcomes, buckets=SCORES, registry=registry)
        self.ratios = Histogram(
            "oskdft_llr", "Log-likelihood ratios by outcome.", outcomes, buckets=RATIOS, registry=registry
        )
        self._begin()
        facts = {"model": model, "fingerprint": fingerprint, "backend": backend}
        Gauge("oskdft_model", "The served model.", list(facts), registry=registry).labels(**facts).set(1)
        for name, text, tell in (
            ("oskdft_waiting", "Requests that wait for a worker.", gauges.waiting),
            ("oskdft_running", "Requests that are worked on.", gauges.running),
            ("oskdft_voices", "Enrolled voices.", gauges.voices),
        ):
            Gauge(name, text, registry=registry).set_function(tell)

    def _begin(self) -> None:
        for reason in get_args(Reason):
            self.refusals.labels(reason)
        for stage in get_args(Stage):
            self.seconds.labels(stage)
        for outcome in get_args(Outcome):
            self.scores.labels(outcome)
            self.ratios.labels(outcome)
        self.expect(NO_ROUTE, NO_ROUTE_STATUSES)

    def expect(self, route: str, statuses: Iterable[int]) -> None:
        """Begin to count the requests of a route.

        Args:
            route: its path.
            statuses: with which it may be answered.
        """
        for status in statuses:
            self.requests.labels(route, str(status))

    def decided(self, score: float, llr: float | None, same: bool | None) -> None:
        """Count a decision.

        Args:
            score: cosine.
            llr: log-likelihood ratio; None without calibration.
            same: whether the answer is "the same speaker"; None: there is none.
        """
        outcome: Outcome = "none" if same is None else "same" if same else "different"
        self.scores.labels(outcome).observe(score)
        if llr is not None:
            self.ratios.labels(outcome).observe(llr)

    def text(self) -> bytes:
        """Write all metrics as Prometheus reads them."""
        return generate_latest(self.registry)
