"""Read with ffmpeg the formats of telephones and browsers that soundfile cannot read: AAC in m4a, Opus in webm."""

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import BinaryIO

# (place in the file, bytes there, ffmpeg's name of the container). The content decides, not the name of the file, so
# that no file makes ffmpeg open another one, as a playlist would.
_CONTAINERS = (
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"free", "mov"),
    (4, b"wide", "mov"),
    (4, b"skip", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\xff\xf0", "aac"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf8", "aac"),
    (0, b"\xff\xf9", "aac"),
    (0, b"#!AMR", "amr"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"),
    (0, b"FLV", "flv"),
    (8, b"AVI ", "avi"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b".RMF", "rm"),
    (0, b"\x0b\x77", "ac3"),
    (0, b"TTA1", "tta"),
    (0, b"MPCK", "mpc8"),
    (0, b"MP+", "mpc"),
    (0, b"DSD ", "dsf"),
)
EXTENSIONS = (
    *(".m4a", ".aac", ".mp4", ".m4b", ".mov", ".3gp", ".webm", ".mka", ".mkv", ".amr", ".wma", ".wv", ".ape"),
    *(".avi", ".mpg", ".mpeg", ".ac3", ".tta", ".mpc", ".dsf", ".flv"),
)
LONGEST = 12_600  # seconds, 3.5 hours
GAPS = 1.2  # of the time stamps, against the time of the samples
PATIENCE = 3600.0  # seconds after which ffmpeg is stopped
# Containers without information about their end, or not always with it.
_OPEN_ENDED = ("aac", "amr", "asf", "flv", "avi", "mpeg", "rm", "ac3", "tta", "mpc8", "mpc", "dsf")
_SEGMENT = b"\x18\x53\x80\x67"  # id of the element that holds the audio in Matroska and WebM, RFC 9559, section 5.1


def find_ffmpeg() -> str:
    """Return the path of ffmpeg: of the system, or of the package imageio-ffmpeg.

    Raises:
        FileNotFoundError: where there is neither.
    """
    path = shutil.which("ffmpeg")
    if path:
        return path
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise FileNotFoundError(
            "There are files that need ffmpeg, such as m4a or webm, and it is not installed: install ffmpeg, or pip "
            "install imageio-ffmpeg."
        ) from None


def container_of(start: bytes) -> str | None:
    """Recognise a container by the first 16 bytes of a file.

    Args:
        start: first 16 bytes of the file.

    Returns:
        Ffmpeg's name of the container; None for a file that is not read by ffmpeg.
    """
    return next((name for place, magic, name in _CONTAINERS if start[place : place + len(magic)] == magic), None)


def container_in(file: BinaryIO) -> str | None:
    """Recognise the container of an open file as `container_of` does; an ID3 tag before the audio is skipped.

    The position is at the start of the file afterwards.

    Args:
        file: an open, seekable file.

    Returns:
        As `container_of`.
    """
    from .decoding import tag_size

    file.seek(0)
    file.seek(tag_size(file.read(10)))
    start = file.read(16)
    file.seek(0)
    return container_of(start)


def end_is_known(container: str, file: BinaryIO) -> bool:
    """Return whether truncation of such a file can be detected.

    Args:
        container: ffmpeg's name of the container.
        file: the open file; its position is moved.

    Raises:
        ValueError: where the end is missing.
    """
    if container != "matroska":
        return container not in _OPEN_ENDED
    file.seek(0)
    start = file.read(4096)
    place = start.find(_SEGMENT) + len(_SEGMENT)
    if place < len(_SEGMENT) or place >= len(start) or not start[place]:
        return False
    width = 9 - start[place].bit_length()  # bytes of the size: the leading zeros of its first byte, and one
    size = int.from_bytes(start[place : place + width], "big") & ((1 << 7 * width) - 1)
    if size == (1 << 7 * width) - 1:  # unknown: the file was written during the recording
        return False
    if place + width + size > file.seek(0, io.SEEK_END):
        raise ValueError("its end is missing")
    return True


def input_options(container: str) -> list[str]:
    """Return the options before `-i` that make a damaged file an error and forbid ffmpeg to open other files.

    Args:
        container: ffmpeg's name of the container.
    """
    return [
        *("-nostdin", "-hide_banner", "-v", "error", "-xerror", "-err_detect", "explode"),
        *("-protocol_whitelist", "file", "-f", container),
    ]


def run_ffmpeg(ffmpeg: str, arguments: list[str], patience: float = PATIENCE) -> tuple[bytes, str | None]:
    """Run ffmpeg.

    Args:
        ffmpeg: path of the program.
        arguments: its arguments.
        patience: seconds after which it is stopped.

    Returns:
        Its standard output, and the last line of its standard error when it failed, else None.
    """
    try:
        done = subprocess.run([ffmpeg, *arguments], capture_output=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return b"", f"ffmpeg took more than {patience:.0f} s"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return done.stdout, (lines or [f"ffmpeg ended with {done.returncode}"])[-1] if done.returncode else None


def write_wav(
    source: str | bytes | os.PathLike[str],
    container: str,
    target: str,
    seconds: float = LONGEST + 1,
    patience: float = PATIENCE,
) -> None:
    """Decode the first audio stream of a file to a WAV file, with its rate and its channels.

    Args:
        source: path, or content, of the file.
        container: ffmpeg's name of the container.
        target: path of the WAV file.
        seconds: length that is read at most.
        patience: seconds after which ffmpeg is stopped.

    Raises:
        FileNotFoundError: where ffmpeg is not installed.
        ValueError: with ffmpeg's reason, for a damaged file, or a truncated one where ffmpeg finds that.
    """
    ffmpeg = find_ffmpeg()
    with tempfile.TemporaryDirectory() as place:
        if isinstance(source, bytes):
            path = os.path.join(place, "recording")
            Path(path).write_bytes(source)
        else:
            path = os.path.abspath(os.fspath(source))
        arguments = [*input_options(container), "-i", f"file:{path}", "-map", "0:a:0"]
        # Time stamps may have gaps, so that a limit of time alone would cut samples in silence: `LONGEST` is checked.
        arguments += ["-t", str(GAPS * seconds), "-c:a", "pcm_s16le", "-rf64", "auto", "-f", "wav", "-y", target]
        _, reason = run_ffmpeg(ffmpeg, arguments, patience)
    if reason is not None:
        raise ValueError(reason)


def to_wav(
    source: str | bytes | os.PathLike[str], container: str, seconds: float = LONGEST + 1, patience: float = PATIENCE
) -> bytes:
    """Decode the first audio stream of a file to the bytes of a WAV file.

    Args:
        source: see `write_wav`, as the other arguments.
        container: see there.
        seconds: see there.
        patience: see there.

    Raises:
        FileNotFoundError, ValueError: as `write_wav`.
    """
    with tempfile.TemporaryDirectory() as place:
        target = os.path.join(place, "recording.wav")
        write_wav(source, container, target, seconds, patience)
        return Path(target).read_bytes()
