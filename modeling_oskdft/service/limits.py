"""Hold what one request, and all requests together, may take."""

from dataclasses import dataclass, field, fields
from typing import TypeVar

Number = TypeVar("Number", int, float)


def _limit(default: Number, text: str) -> Number:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Limits:
    """Hold the limits of a service; each is explained in its `help`, which is that of the option of `oskdft serve`.

    Raises:
        ValueError: for a limit that is not above 0.
    """

    body_bytes: int = _limit(32 * 2**20, "most bytes of a request; a larger one gets 413")
    held_bytes: int = _limit(512 * 2**20, "most bytes of all requests in memory; beyond it 429")
    seconds: float = _limit(600.0, "most seconds of one decoded recording; a longer one gets 413")
    recordings: int = _limit(8, "most recordings in a request")
    recordings_of_voice: int = _limit(100, "most recordings of a voice; a further one gets 507")
    most_voices: int = _limit(100_000, "most enrolled voices; a further one gets 507")
    waiting: int = _limit(64, "requests that may wait for a worker; a further one gets 429")
    patience: float = _limit(30.0, "seconds in which a request is answered, its waiting included; else 503")
    arrival: float = _limit(20.0, "seconds in which a request arrives whole; else 408, or the connection is closed")
    connections: int = _limit(1000, "open connections; a further one gets 503 and is closed")
    leaving: float = _limit(30.0, "seconds that requests in work have after SIGTERM")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 and not (name == "waiting" and value == 0):
                raise ValueError(f"{name} is {value}: a number above 0 is needed.")


def explained_limits() -> list[tuple[str, float, str]]:
    """List the limits as (name, default, text)."""
    defaults = Limits()
    return [(limit.name, getattr(defaults, limit.name), limit.metadata["help"]) for limit in fields(Limits)]
