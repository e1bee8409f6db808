"""Check the values of fields against ranges and choices."""

import math
import numbers
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..errors import check_choice


class Range(NamedTuple):
    """Numbers from `low` to `high`, without an end that is open."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            return False
        number = float(value)
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return above and below

    def __str__(self) -> str:
        least = f"above {self.low:g}" if self.low_open else f"at least {self.low:g}"
        most = f"below {self.high:g}" if self.high_open else f"at most {self.high:g}"
        return " and ".join(text for text, end in ((least, self.low), (most, self.high)) if math.isfinite(end))


AT_LEAST_0, AT_LEAST_1, ABOVE_0 = Range(0), Range(1), Range(0, low_open=True)
SHARE, OPEN_SHARE = Range(0, 1), Range(0, 1, True, True)


def check_ranges(arguments: object, ranges: Mapping[str, Range]) -> None:
    """Refuse a field whose value lies outside its range; None is no value.

    Raises:
        ValueError: naming the first such field.
    """
    for name, allowed in ranges.items():
        value = getattr(arguments, name)
        if value is not None and value not in allowed:
            raise ValueError(f"{name} is {value}: a number of {allowed} is needed.")


def check_choices(arguments: object, choices: Mapping[str, Collection[str]]) -> None:
    """Refuse a field whose value is none of its choices.

    Raises:
        ValueError: naming the first such field.
    """
    for name, allowed in choices.items():
        check_choice(name, getattr(arguments, name), allowed)
