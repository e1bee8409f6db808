"""Read any recording as 16 kHz mono float32, or raise an error of one clear sentence.

soundfile and soxr are imported when they are first used.
"""

import contextlib
import io
import math
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np

from ..errors import printable
from . import ffmpeg
from .forms import (
    SAMPLING_RATE,
    AudioSource,
    Unchecked,
    Waveform,
    checked_array,
    checked_rate,
    plain_source,
)
from .track import WHOLE_SECONDS, Resample, Track

if TYPE_CHECKING:
    from .decoding import Recording

# Extensions of the files that are recordings in folders of data and in lists.
AUDIO_EXTENSIONS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".sph"),
    *ffmpeg.EXTENSIONS,
)


class LoadedAudio(NamedTuple):
    """Hold a recording and notes about it.

    Attributes:
        waveform: (samples,) at 16 kHz, mono.
        notes: rests of sentences that begin with the recording's name, such as "has no last page: its end may be
            missing."
    """

    waveform: Waveform
    notes: tuple[str, ...] = ()


def load_audio(source: AudioSource, channel: int | None = None) -> Waveform:
    """Read a whole recording.

    Warns when the container does not show whether the end of the file is missing.

    Args:
        source: one of `ACCEPTED_SOURCES`. An open file is read from its start, and its position is restored.
        channel: number of the channel to read, from 0; None: the mean of the channels that are not digital silence.

    Returns:
        (samples,) at 16 kHz, mono, float32.

    Raises:
        FileNotFoundError: for a missing file.
        PermissionError: for a file that may not be read.
        ValueError: for a recording that is unreadable, truncated, empty, not finite, or of an impossible rate; for an
            array of integers; for a bare array with several channels, whose rate is unknown; for channels that cancel
            each other.
        TypeError: for an object that is not one of `ACCEPTED_SOURCES`.
    """
    loaded = read_recording(source, channel)
    for note in loaded.notes:
        warnings.warn(f"{name_of(source)} {note}", stacklevel=2)
    return loaded.waveform


def read_recording(source: AudioSource, channel: int | None = None) -> LoadedAudio:
    """Read a whole recording as `load_audio` does, but return its warnings as notes.

    Args:
        source: recording, as in `load_audio`.
        channel: number of the channel, as in `load_audio`.

    Raises:
        ValueError, OSError, TypeError: as `load_audio`.
    """
    plain = plain_source(source)
    name = name_of(plain)
    if isinstance(plain, tuple):
        frames, rate = checked_array(plain[0]), checked_rate(plain[1], "The array")
        return LoadedAudio(_as_16k_mono(frames, rate, "The array", channel))
    with _opened(plain, name) as recording:
        return _read_whole(recording, name, channel)


def _read_whole(recording: "Recording", name: str, channel: int | None) -> LoadedAudio:
    decoded = [(recording.read(number), part.samplerate) for number, part in enumerate(recording.parts)]
    # A stream without audio may stand between others.
    filled = [(frames, rate) for frames, rate in decoded if frames.size] or decoded[:1]
    parts = [_as_16k_mono(frames, rate, name, channel) for frames, rate in filled]
    return LoadedAudio(parts[0] if len(parts) == 1 else np.concatenate(parts), recording.notes)


class LoadedTrack(NamedTuple):
    """Hold a recording of any length and notes about it.

    Attributes:
        track: the recording at 16 kHz.
        notes: as in `LoadedAudio`.
    """

    track: Track
    notes: tuple[str, ...] = ()


def open_track(source: AudioSource, channel: int | None = None, max_seconds: float | None = None) -> LoadedTrack:
    """Read a recording of any length with bounded memory: one of more than 30 s goes through a temporary file.

    Args:
        source: recording, as in `load_audio`.
        channel: number of the channel, as in `load_audio`.
        max_seconds: seconds from the start that are read; None: all.

    Raises:
        ValueError: for `max_seconds` that are not above 0, for a recording without samples, and as `load_audio`.
        OSError, TypeError: as `load_audio`.
    """
    is_number = isinstance(max_seconds, int | float | np.number)
    if max_seconds is not None and not (is_number and 0 < max_seconds < math.inf):
        raise ValueError(f"max_seconds is {max_seconds!r}: a number of seconds above 0 is needed, or None.")
    from .decoding import checked_blocks

    plain = plain_source(source)
    name = name_of(plain)
    most = None if max_seconds is None else max(round(max_seconds * SAMPLING_RATE), 1)
    if isinstance(plain, tuple):
        return LoadedTrack(Track(read_recording(plain, channel).waveform[:most]))
    with _opened(plain, name, max_seconds) as recording:
        if sum(part.frames / part.samplerate for part in recording.parts) <= WHOLE_SECONDS:
            loaded = _read_whole(recording, name, channel)
            return LoadedTrack(Track(loaded.waveform[:most]), loaded.notes)
        track = Track()
        for number, part in enumerate(recording.parts):
            if most is None or len(track) < most:
                frames = None if most is None else -(-(most - len(track)) * part.samplerate // SAMPLING_RATE)
                blocks = checked_blocks(recording, number, name, frames)
                track.write(blocks, name, channel, _resampler(part.samplerate))
        if not len(track):
            raise ValueError(f"{name} has no samples: give a recording with speech in it.")
        return LoadedTrack(track, recording.notes)


def _resampler(rate: int) -> Resample:
    """Return a function that converts one channel to 16 kHz block by block, with soxr at its high quality."""
    if rate == SAMPLING_RATE:
        return lambda samples, last: samples
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLING_RATE, 1, dtype="float32")
    return lambda samples, last: stream.resample_chunk(np.ascontiguousarray(samples), last)


def read_crop(source: AudioSource, num_samples: int, position: float) -> Waveform:
    """Read a crop of a recording; where the codec can seek, the rest of the file is not decoded.

    Args:
        source: recording, as in `load_audio`.
        num_samples: length of the crop in samples at 16 kHz.
        position: start of the crop, in [0, 1), from the earliest to the latest possible start, both included.

    Returns:
        (num_samples,) at 16 kHz, mono, float32. A shorter recording is repeated from its start, as in the authors'
        code.

    Raises:
        ValueError, OSError, TypeError: as `load_audio`.
    """
    from .decoding import UNKNOWN

    plain = plain_source(source)
    name = name_of(plain)
    if not isinstance(plain, tuple):
        with _opened(plain, name) as recording:
            if len(recording.parts) == 1 and recording.parts[0].frames < UNKNOWN:
                part = recording.parts[0]
                wanted = -(-num_samples * part.samplerate // SAMPLING_RATE)
                latest = max(part.frames - wanted, 0)
                frames = recording.read(0, int(position * (latest + 1)), wanted)
                return np.resize(_as_16k_mono(frames, part.samplerate, name), num_samples)
    whole = read_recording(plain).waveform
    start = int(position * (max(len(whole) - num_samples, 0) + 1))
    return np.resize(whole[start : start + num_samples], num_samples)


def count_samples(source: AudioSource) -> int:
    """Count the samples of a recording at 16 kHz, from its container and headers where these are reliable.

    Args:
        source: recording, as in `load_audio`.

    Raises:
        ValueError, OSError, TypeError: as `load_audio`.
    """
    from .decoding import UNKNOWN

    plain = plain_source(source)
    name = name_of(plain)
    if isinstance(plain, tuple):
        return len(read_recording(plain).waveform)
    with _opened(plain, name) as recording:
        count = 0
        for number, part in enumerate(recording.parts):
            frames = part.frames
            if frames >= UNKNOWN:  # a header without a length
                frames = len(recording.read(number))
            elif (
                part.format == "FLAC" and frames
            ):  # its header does not show a missing end, reading the last sample does
                recording.read(number, frames - 1, 1)
            count += round(frames * SAMPLING_RATE / part.samplerate)
        if count <= 0:
            raise ValueError(f"{name} has no samples: leave it out.")
        return count


def utterance_id(path: str) -> str:
    """Make the utterance id of a path: with forward slashes, and without the extension of an audio file.

    Args:
        path: path of a recording, with slashes or backslashes.
    """
    posix = PurePosixPath(path.replace("\\", "/"))
    return str(posix.with_suffix("")) if posix.suffix.lower() in AUDIO_EXTENSIONS else str(posix)


def name_of(source: object) -> str:
    """Name a recording for a sentence: its path in quotes, with escapes for letters that no terminal can show.

    Args:
        source: one of `ACCEPTED_SOURCES`.

    Returns:
        "'PATH'", "The array" or "The audio file".
    """
    if not isinstance(source, str | PathLike):
        return "The array" if isinstance(source, tuple | np.ndarray) else "The audio file"
    return f"'{printable(os.fspath(source))}'"


# ---- files ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(
    source: str | PathLike[str] | bytes | BinaryIO, name: str, max_seconds: float | None = None
) -> Iterator["Recording"]:
    """Open a recording with soundfile or through ffmpeg; its errors become sentences that begin with its name.

    max_seconds: seconds that are needed; ffmpeg decodes no more.
    """
    from .decoding import NotReadable, open_recording

    with _seekable(source, name) as file:
        try:
            with contextlib.ExitStack() as stack:
                path = file if isinstance(file, str | PathLike) else None
                raw = cast(BinaryIO, file if path is None else stack.enter_context(open(os.fsencode(path), "rb")))
                container = ffmpeg.container_in(raw)
                if container is not None:
                    file, notes = _through_ffmpeg(raw, path, container, name, stack, max_seconds)
                recording = stack.enter_context(open_recording(file))
                if container is not None:
                    recording.notes = notes
                    if recording.parts[0].frames > ffmpeg.LONGEST * recording.parts[0].samplerate:
                        hours = ffmpeg.LONGEST / 3600
                        raise ValueError(f"{name} is longer than {hours:.1f} hours, which is read at most: cut it.")
                yield recording
        except NotReadable as error:
            raise ValueError(f"{name} {error}") from None
        except PermissionError:
            raise PermissionError(f"{name} may not be read: permission is denied.") from None
        except MemoryError:
            raise ValueError(f"{name} is too long for the memory of this machine: cut it.") from None


def _through_ffmpeg(
    raw: BinaryIO,
    path: str | PathLike[str] | None,
    container: str,
    name: str,
    stack: contextlib.ExitStack,
    max_seconds: float | None,
) -> tuple[str, tuple[str, ...]]:
    """Decode an open file with ffmpeg; return a WAV file, and a note where the end of the source is not checked.

    The WAV is removed with the stack.
    """
    from .decoding import END_UNKNOWN

    try:
        notes: tuple[str, ...] = () if ffmpeg.end_is_known(container, raw) else (END_UNKNOWN,)
        raw.seek(0)
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="oskdft"))
        wav = os.path.join(place, "recording.wav")
        seconds = ffmpeg.LONGEST + 1 if max_seconds is None else min(max_seconds + 1, ffmpeg.LONGEST)
        ffmpeg.write_wav(raw.read() if path is None else path, container, wav, seconds)
        return wav, notes
    except FileNotFoundError:
        raise ValueError(
            f"{name} holds audio that ffmpeg reads, and it is not installed: install ffmpeg, or pip install "
            "imageio-ffmpeg, or give wav, flac, ogg or mp3."
        ) from None
    except ValueError as error:
        raise ValueError(f"{name} is damaged or truncated ({error}): restore it or leave it out.") from None


@contextlib.contextmanager
def _seekable(source: str | PathLike[str] | bytes | BinaryIO, name: str) -> Iterator[str | PathLike[str] | BinaryIO]:
    """Yield a path of a file, or an open file at its start, whose position is restored."""
    if isinstance(source, str | PathLike):
        _check_path(source, name)
        yield source
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        if getattr(source, "closed", False):
            raise ValueError(f"{name} is closed: open it again.")
        try:
            position = source.tell() if source.seekable() else None
        except (AttributeError, OSError):
            position = None
        if position is None:  # a pipe, a response: read once
            content = source.read()
            yield io.BytesIO(_binary(content, name))
            return
        source.seek(0)
        _binary(source.read(0), name)
        try:
            yield source
        finally:
            source.seek(position)


def _binary(content: Unchecked, name: str) -> bytes:
    if not isinstance(content, bytes):
        raise TypeError(f"{name} was opened as text: open it with mode 'rb'.")
    return content


def _check_path(path: str | PathLike[str], name: str) -> None:
    try:
        kind = os.stat(os.fsencode(path)).st_mode
    except PermissionError:
        raise PermissionError(f"{name} may not be read: permission is denied.") from None
    except (OSError, ValueError):  # no file, a broken link, a link to itself, a zero byte in the name
        raise FileNotFoundError(f"There is no recording at {name}: check the path.") from None
    if not stat.S_ISREG(kind):  # reading a pipe could wait without end
        raise ValueError(f"{name} is no file but a folder, a pipe or a device: give a recording.")


# ---- samples --------------------------------------------------------------------------------------------------------


def _as_16k_mono(frames: np.ndarray, rate: int, name: str, channel: int | None = None) -> Waveform:
    """Convert (frames, channels) at any rate to (samples,) at 16 kHz, with soxr at its high quality."""
    if frames.size == 0:
        raise ValueError(f"{name} has no samples: give a recording with speech in it.")
    from .decoding import mixed

    mono = mixed(frames, name, channel)
    if rate != SAMPLING_RATE:
        import soxr

        mono = soxr.resample(mono, rate, SAMPLING_RATE)
        if mono.size == 0:
            raise ValueError(f"{name} is shorter than one sample at {SAMPLING_RATE} Hz: give a longer recording.")
    return np.ascontiguousarray(mono, dtype=np.float32)
