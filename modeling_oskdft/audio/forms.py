"""Reduce every form of a recording to a path, bytes, an open file, or (array, rate)."""

import contextlib
from collections.abc import Mapping
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
SAMPLING_RATE = 16000
# Every form of a recording that is accepted. A torch tensor counts as an array, and so does the "array" of an audio
# dict or of an audio decoder of `datasets`, beside its "sampling_rate".
ACCEPTED_SOURCES = (
    f"a path, bytes, an open file, a NumPy array at {SAMPLING_RATE} Hz, (array, rate) or an audio dict or decoder of "
    "datasets"
)
AudioSource = str | PathLike[str] | bytes | BinaryIO | np.ndarray | tuple[np.ndarray, int] | Mapping[str, Any]

Unchecked = Any  # an object from a caller, before it is checked


def plain_source(source: Unchecked) -> Unchecked:
    """Reduce a source to a path, bytes, an open file, or (array, rate).

    Args:
        source: one of `ACCEPTED_SOURCES`.

    Raises:
        ValueError: for an array or a dict that is not complete.
        TypeError: for an object that is not one of `ACCEPTED_SOURCES`.
    """
    if isinstance(source, Mapping):
        return _from_mapping(source)
    source = _without_torch(source)
    if isinstance(source, np.ndarray):
        if source.ndim != 1:
            raise ValueError(
                f"A bare array of shape {source.shape} was given: one channel at {SAMPLING_RATE} Hz is needed; give "
                "(array, rate) to have it mixed and resampled."
            )
        return source, SAMPLING_RATE
    if isinstance(source, tuple | list):
        return _from_pair(source)
    if isinstance(source, str | PathLike | bytes) or hasattr(source, "read"):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if hasattr(source, "__getitem__"):  # an audio decoder of `datasets` >= 4
        with contextlib.suppress(Exception):
            return plain_source({"array": source["array"], "sampling_rate": source["sampling_rate"]})
    raise TypeError(f"A {type(source).__name__} was given: {ACCEPTED_SOURCES} is needed.")


def _without_torch(value: Unchecked) -> Unchecked:
    """Convert a tensor to an array, also a tensor with a gradient or on a GPU."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") and hasattr(value, "cpu") else value


def _from_mapping(source: Mapping[str, Any]) -> Unchecked:
    if source.get("array") is not None:
        if source.get("sampling_rate") is None:
            raise ValueError(
                f"An audio dict with keys {sorted(source)} was given: 'sampling_rate' is needed beside 'array'."
            )
        return _from_pair((source["array"], source["sampling_rate"]))
    for key in ("bytes", "path"):
        value = source.get(key)
        if value is not None and not isinstance(value, Mapping):
            return plain_source(value)
    raise ValueError(f"An audio dict with keys {sorted(source)} was given: 'array', 'bytes' or 'path' is needed.")


def _from_pair(source: tuple[Any, ...] | list[Any]) -> tuple[np.ndarray, Any]:
    if len(source) != 2:
        raise ValueError(f"A {type(source).__name__} of {len(source)} was given: (array, rate) is needed.")
    array, rate = (_without_torch(value) for value in source)
    if np.ndim(array) == 0 and np.ndim(rate) > 0:
        raise ValueError(
            "(rate, array) was given: the order is (array, rate), with floating-point samples in [-1, 1]."
        )
    return np.asarray(array), rate.item() if isinstance(rate, np.ndarray) and rate.ndim == 0 else rate


def checked_rate(rate: Unchecked, name: str) -> int:
    """Return a sampling rate as a whole number.

    Args:
        rate: the rate in Hz.
        name: name of the recording, for the sentence.

    Raises:
        ValueError: for anything but a whole number at which speech is recorded.
    """
    from .decoding import FASTEST, SLOWEST

    is_number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not is_number or not float(rate).is_integer():
        raise ValueError(f"{name} has a sampling rate of {rate!r}: a whole number of Hz is needed, such as 16000.")
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(
            f"{name} has a sampling rate of {rate} Hz: speech is recorded at {SLOWEST} to {FASTEST} Hz; check how it "
            "was written."
        )
    return int(rate)


def checked_array(array: np.ndarray) -> Waveform:
    """Convert an array to (samples, channels), float32.

    Args:
        array: (samples,), or a two-dimensional array, whose shorter axis is the channels.

    Raises:
        ValueError: for integers, and for other numbers of dimensions.
    """
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"An array of {array.dtype} was given: floating-point samples in [-1, 1] are needed; divide integers by "
            "their full scale (32768 for int16)."
        )
    if array.ndim not in (1, 2):
        raise ValueError(f"An array of shape {array.shape} was given: (samples,) or (samples, channels) is needed.")
    with np.errstate(over="ignore"):
        array = np.ma.filled(array, 0.0).astype(np.float32)  # float16, longdouble and big-endian ones as well
    if array.ndim == 1:
        return array[:, None]
    return array if array.shape[0] >= array.shape[1] else array.T
