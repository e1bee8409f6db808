"""What soundfile does not read (AAC in .m4a, as VoxCeleb2 comes) to 16 kHz mono FLAC, once, by ffmpeg."""

import errno
import shutil
import subprocess
from pathlib import Path

from ..audio import SAMPLING_RATE, count_samples
from ..files import whole_file

TRANSCODED = (".m4a", ".aac")
_DEMUXERS = {".m4a": "mov", ".aac": "aac"}


def find_ffmpeg() -> str:
    """The path of ffmpeg: the system's, or that of the package imageio-ffmpeg. Raises `FileNotFoundError`."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise FileNotFoundError(
            "There are .m4a files and no ffmpeg to read them: install ffmpeg, or pip install imageio-ffmpeg."
        ) from None


def transcode(source: Path, target: Path, ffmpeg: str) -> None:
    """Write `target` (.flac) unless it is there; it appears under its name when it is whole.

    The container is taken from the name and only local files are opened, so that a file cannot make ffmpeg read
    another. Raises `ValueError` for a file that is damaged or cut short, `OSError` when the disk is full.
    """
    if target.is_file():
        return
    if not source.is_file():
        raise FileNotFoundError(f"There is no recording at '{source}': check the link or the path.")
    if source.stat().st_size == 0:
        raise ValueError(f"'{source}' is empty: restore it or leave it out.")
    with whole_file(target) as partial:
        command = [ffmpeg, "-nostdin", "-hide_banner", "-v", "error", "-xerror", "-err_detect", "explode", "-y"]
        command += ["-protocol_whitelist", "file", "-f", _DEMUXERS[source.suffix.lower()], "-i", f"file:{source}"]
        command += ["-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLING_RATE), "-sample_fmt", "s16"]
        command += ["-map_metadata", "-1", "-fflags", "+bitexact", "-f", "flac", f"file:{partial}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if "No space left" in done.stderr:
            full = OSError(f"The disk is full while '{target}' is written: make room and run the same command again.")
            full.errno = errno.ENOSPC
            raise full
        if done.returncode or not partial.is_file():
            reason = (done.stderr.strip().splitlines() or [f"ffmpeg ended with {done.returncode}"])[-1]
            raise ValueError(f"'{source}' cannot be transcoded ({reason}): restore it or leave it out.")
        count_samples(str(partial))


def remove_partial_files(folder: Path) -> None:
    """Take away what a run that was killed has left half-written."""
    for file in folder.rglob(".*.partial"):
        file.unlink(missing_ok=True)
