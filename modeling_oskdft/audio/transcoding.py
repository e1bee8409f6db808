"""Transcode files that only ffmpeg reads, such as the AAC in .m4a of VoxCeleb2, once to 16 kHz mono FLAC."""

import errno
import os
from pathlib import Path

import soundfile

from ..files import whole_file
from .ffmpeg import container_in, end_is_known, input_options, run_ffmpeg
from .loading import SAMPLING_RATE, count_samples, load_audio, name_of


def transcode(source: Path, target: Path, ffmpeg: str) -> None:
    """Transcode a recording to FLAC, unless `target` exists; `target` appears when it is complete.

    The container is recognised by the content and only local files are opened, so that a file cannot make ffmpeg read
    another one.

    Args:
        source: the recording.
        target: path to write, ends in .flac.
        ffmpeg: path of ffmpeg.

    Raises:
        FileNotFoundError: for a source that does not exist.
        ValueError: for a file that is empty, damaged or truncated.
        OSError: when the disk is full.
    """
    if target.is_file():
        return
    if not source.is_file():
        raise FileNotFoundError(f"There is no recording at '{source}': check the link or the path.")
    if source.stat().st_size == 0:
        raise ValueError(f"'{source}' is empty: restore it or leave it out.")
    with source.open("rb") as file:
        container = container_in(file)
        try:
            if container is not None:
                end_is_known(container, file)
        except ValueError as error:
            raise ValueError(f"{name_of(source)} is truncated ({error}): restore it or leave it out.") from None
    if container is None:  # the name ends in .m4a, the content is of another format
        waveform = load_audio(source)
        with whole_file(target) as partial:
            soundfile.write(partial, waveform, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
        return
    with whole_file(target) as partial:
        command = ["-y", *input_options(container), "-i", f"file:{source}"]
        command += ["-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLING_RATE), "-sample_fmt", "s16"]
        command += ["-map_metadata", "-1", "-fflags", "+bitexact", "-f", "flac", f"file:{partial}"]
        _, reason = run_ffmpeg(ffmpeg, command)
        if reason is not None and "No space left" in reason:
            full = OSError(f"The disk is full while '{target}' is written: make room and run the same command again.")
            full.errno = errno.ENOSPC
            raise full
        if reason is not None or not partial.is_file():
            raise ValueError(f"{name_of(source)} cannot be transcoded ({reason}): restore it or leave it out.")
        count_samples(str(partial))


def remove_partial_files(folder: Path) -> None:
    """Remove the partial files below a folder that killed runs have left; files of running processes stay.

    Args:
        folder: searched at every depth.
    """
    for file in folder.rglob(".*.partial"):
        if not _writer_runs(file.name):
            file.unlink(missing_ok=True)


def _writer_runs(name: str) -> bool:
    """Return whether the process runs whose number stands in the name of a partial file of `whole_file`."""
    try:
        os.kill(int(name.split(".")[2]), 0)
    except (ValueError, IndexError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
