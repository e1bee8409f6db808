"""Any recording as 16 kHz mono float32, or one clear sentence. soundfile and soxr are imported when first used."""

import io
import os
import stat
from collections.abc import Mapping
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from soundfile import SoundFile

Waveform = NDArray[np.float32]
# A path, the bytes of a file, an open binary file, an array at 16 kHz, (array, rate), or a `datasets` audio dict.
AudioSource = str | PathLike[str] | bytes | BinaryIO | np.ndarray | tuple[np.ndarray, int] | Mapping[str, Any]

SAMPLING_RATE = 16000
AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg")  # what data folders are searched for
_NAMED_EXTENSIONS = (*AUDIO_EXTENSIONS, ".opus", ".mp3", ".m4a", ".aac")  # what lists may name


def load_audio(source: AudioSource) -> Waveform:
    """The whole recording, (samples,), 16 kHz, mono.

    Raises `FileNotFoundError` for a missing file and `ValueError` for one that is unreadable, truncated, empty, or not
    finite; for an array of integers; for a bare array with several channels, whose rate nobody knows.
    """
    source = _without_dict(source)
    if isinstance(source, np.ndarray):
        if source.ndim != 1:
            raise ValueError(
                f"A bare array of shape {source.shape} was given: one channel at {SAMPLING_RATE} Hz is needed; give "
                "(array, rate) to have it mixed and resampled."
            )
        source = (source, SAMPLING_RATE)
    if isinstance(source, tuple):
        return _as_16k_mono(_checked_array(source[0]), int(source[1]), "The array")
    with _open(source) as file:
        frames = _read(file, 0, file.frames, _name(source))
        return _as_16k_mono(frames, file.samplerate, _name(source))


def read_crop(source: AudioSource, num_samples: int, position: float) -> Waveform:
    """`num_samples` of a file at 16 kHz, read by seeking: the rest of the file is never decoded.

    position: in [0, 1), where the crop lies between the earliest and the latest possible start, both included.
    A shorter recording is repeated from its start, as the authors do. Errors as in `load_audio`.
    """
    source = _without_dict(source)
    if isinstance(source, np.ndarray | tuple):
        whole = load_audio(source)
        start = int(position * (max(len(whole) - num_samples, 0) + 1))
        return np.resize(whole[start : start + num_samples], num_samples)
    with _open(source) as file:
        wanted = -(-num_samples * file.samplerate // SAMPLING_RATE)
        latest = max(file.frames - wanted, 0)
        frames = _read(file, int(position * (latest + 1)), min(wanted, file.frames), _name(source))
        return np.resize(_as_16k_mono(frames, file.samplerate, _name(source)), num_samples)


def count_samples(source: AudioSource) -> int:
    """The length of a file in samples at 16 kHz, from its header. Errors as in `load_audio`."""
    with _open(_without_dict(source)) as file:
        if file.frames <= 0:
            raise ValueError(f"{_name(source)} has no samples: leave it out.")
        if file.format == "FLAC":  # its header knows nothing of a missing end
            _read(file, file.frames - 1, 1, _name(source))
        return round(file.frames * SAMPLING_RATE / file.samplerate)


def utterance_id(path: str) -> str:
    """The path of a recording as an utterance id: POSIX, without the extension of an audio file."""
    posix = PurePosixPath(path.replace("\\", "/"))
    return str(posix.with_suffix("")) if posix.suffix.lower() in _NAMED_EXTENSIONS else str(posix)


def _without_dict(source: AudioSource) -> AudioSource:
    if not isinstance(source, Mapping):
        return source
    if source.get("array") is not None:
        return np.asarray(source["array"]), int(source["sampling_rate"])
    if source.get("bytes") is not None:
        return source["bytes"]
    if source.get("path") is not None:
        return source["path"]
    raise ValueError(f"An audio dict with keys {sorted(source)} was given: 'array', 'bytes' or 'path' is needed.")


def _name(source: object) -> str:
    return f"'{source}'" if isinstance(source, str | PathLike) else "The audio file"


def _open(source: AudioSource) -> "SoundFile":
    import soundfile

    if isinstance(source, str | PathLike):
        try:
            kind = os.stat(source).st_mode
        except OSError:  # nothing, a link into nothing or to itself
            raise FileNotFoundError(f"There is no recording at '{source}': check the path.") from None
        if not stat.S_ISREG(kind):  # a pipe would be waited for
            raise ValueError(f"'{source}' is no file but a folder, a pipe or a device: give a recording.")
    elif not isinstance(source, bytes) and not hasattr(source, "read"):
        raise TypeError(
            f"A {type(source).__name__} was given: a path, bytes, an open file, a NumPy array at {SAMPLING_RATE} Hz, "
            "(array, rate) or an audio dict is needed."
        )
    handle = io.BytesIO(source) if isinstance(source, bytes) else cast(str | PathLike[str] | BinaryIO, source)
    try:
        file = soundfile.SoundFile(handle)
        if _is_cut_short(file, handle):
            file.close()
            raise ValueError(f"{_name(source)} is truncated: its end is missing; restore it or leave it out.")
        return file
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{_name(source)} cannot be read ({str(error).rstrip('.')}): give wav, flac, ogg or mp3, and check that "
            "the file is complete."
        ) from None


def _is_cut_short(file: "SoundFile", handle: str | PathLike[str] | BinaryIO) -> bool:
    """Whether a WAV or Ogg file ends before it says. libsndfile shortens such files and says nothing."""
    if file.format not in ("WAV", "OGG"):
        return False  # FLAC: reading tells
    if isinstance(handle, str | PathLike):
        with open(handle, "rb") as raw:
            return _ends_early(raw, file.format)
    position = handle.tell()
    try:
        return _ends_early(handle, file.format)
    finally:
        handle.seek(position)


def _ends_early(raw: BinaryIO, container: str) -> bool:
    size = raw.seek(0, io.SEEK_END)
    if container == "WAV":
        raw.seek(4)
        promised = int.from_bytes(raw.read(4), "little") + 8
        return size < promised < 2**32 - 8  # larger values mean "unknown", as streams write them
    raw.seek(max(size - 65536, 0))  # an Ogg page is at most 65,307 bytes
    tail = raw.read()
    last_page = tail.rfind(b"OggS")
    return last_page < 0 or not tail[last_page + 5] & 4  # the flag of the last page of a stream


def _read(file: "SoundFile", start: int, frames: int, name: str) -> Waveform:
    """(frames, channels) from `start`, exactly as many as asked for."""
    import soundfile

    if file.frames <= 0:
        raise ValueError(f"{name} has no samples: give a recording with speech in it.")
    try:
        if start:
            file.seek(start)
        block = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name} is damaged ({str(error).rstrip('.')}): restore it or leave it out.") from None
    if len(block) < frames:
        raise ValueError(f"{name} is truncated ({len(block)} of {frames} samples could be read): restore it.")
    return block


def _checked_array(array: np.ndarray) -> Waveform:
    """(samples,) or two-dimensional, the shorter axis being the channels. Returns (samples, channels)."""
    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"An array of {array.dtype} was given: floating-point samples in [-1, 1] are needed; divide integers by "
            "their full scale (32768 for int16)."
        )
    if array.ndim not in (1, 2):
        raise ValueError(f"An array of shape {array.shape} was given: (samples,) or (samples, channels) is needed.")
    if array.ndim == 1:
        return array[:, None]
    return array if array.shape[0] >= array.shape[1] else array.T


def _as_16k_mono(frames: np.ndarray, rate: int, name: str) -> Waveform:
    """(frames, channels) at any rate to (samples,) at 16 kHz; soxr, high quality."""
    mono = frames.mean(axis=1, dtype=np.float32) if frames.shape[1] > 1 else frames[:, 0]
    if mono.size == 0:
        raise ValueError(f"{name} has no samples: give a recording with speech in it.")
    if not np.isfinite(mono).all():
        raise ValueError(f"{name} has NaN or infinite samples: finite audio is needed; check how it was written.")
    if rate != SAMPLING_RATE:
        import soxr

        if rate <= 0:
            raise ValueError(f"{name} has a sampling rate of {rate} Hz: a positive one is needed.")
        mono = soxr.resample(mono, rate, SAMPLING_RATE)
    return np.ascontiguousarray(mono, dtype=np.float32)
