"""What soundfile does not read (AAC in m4a and mp4, Opus in webm, what telephones and browsers make), by ffmpeg."""

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import BinaryIO

# What a file begins with, from which byte on, and ffmpeg's name of the container. The name of a file decides nothing:
# it must not make ffmpeg open another file, as a playlist would.
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
)
EXTENSIONS = (".m4a", ".aac", ".mp4", ".m4b", ".mov", ".3gp", ".webm", ".mka", ".mkv", ".amr", ".wma", ".wv", ".ape")
LONGEST = 12_600  # seconds, 3.5 hours
PATIENCE = 3600.0  # seconds that ffmpeg may take
# Containers that say nothing of their end, or not always.
_OPEN_ENDED = ("aac", "amr", "asf", "flv")
_SEGMENT = b"\x18\x53\x80\x67"  # of Matroska and WebM, RFC 9559, section 5.1


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
            "There are files that want ffmpeg, such as m4a or webm, and none is here: install ffmpeg, or pip install "
            "imageio-ffmpeg."
        ) from None


def container_of(start: bytes) -> str | None:
    """Ffmpeg's name of the container of a file that begins like this; None for what is not read by ffmpeg."""
    return next((name for place, magic, name in _CONTAINERS if start[place : place + len(magic)] == magic), None)


def container_in(file: BinaryIO) -> str | None:
    """As `container_of`, of an open file, which is left at its start; an ID3 tag before the audio is passed over."""
    from .decoding import tag_size

    file.seek(0)
    file.seek(tag_size(file.read(10)))
    start = file.read(16)
    file.seek(0)
    return container_of(start)


def end_is_known(container: str, file: BinaryIO) -> bool:
    """Whether ffmpeg would say that the end of a file is missing. Raises `ValueError` where it is seen to be."""
    if container != "matroska":
        return container not in _OPEN_ENDED
    file.seek(0)
    start = file.read(4096)
    place = start.find(_SEGMENT) + len(_SEGMENT)
    if place < len(_SEGMENT) or place >= len(start) or not start[place]:
        return False
    width = 9 - start[place].bit_length()  # of a size: as many bytes as the first has zeros, and one
    size = int.from_bytes(start[place : place + width], "big") & ((1 << 7 * width) - 1)
    if size == (1 << 7 * width) - 1:  # written while it was recorded
        return False
    if place + width + size > file.seek(0, io.SEEK_END):
        raise ValueError("its end is missing")
    return True


def input_options(container: str) -> list[str]:
    """Options before `-i` that make a damaged file an error, and keep ffmpeg from opening anything else."""
    return [
        *("-nostdin", "-hide_banner", "-v", "error", "-xerror", "-err_detect", "explode"),
        *("-protocol_whitelist", "file", "-f", container),
    ]


def run_ffmpeg(ffmpeg: str, arguments: list[str], patience: float = PATIENCE) -> tuple[bytes, str | None]:
    """What ffmpeg wrote to its standard output, and the last line of what it said when it failed.

    patience: seconds after which it is ended.
    """
    try:
        done = subprocess.run([ffmpeg, *arguments], capture_output=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return b"", f"ffmpeg took more than {patience:.0f} s"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return done.stdout, (said or [f"ffmpeg ended with {done.returncode}"])[-1] if done.returncode else None


def to_wav(
    source: str | bytes | os.PathLike[str], container: str, seconds: float = LONGEST + 1, patience: float = PATIENCE
) -> bytes:
    """The first audio stream of a file as WAV, at its own rate and with its channels.

    source: a path, or the content of a file. seconds: that are read at most. Raises `FileNotFoundError` without ffmpeg
    and `ValueError` with ffmpeg's reason for a file that is damaged, or cut short where ffmpeg can tell.
    """
    ffmpeg = find_ffmpeg()
    with tempfile.TemporaryDirectory() as place:
        if isinstance(source, bytes):
            path = os.path.join(place, "recording")
            Path(path).write_bytes(source)
        else:
            path = os.path.abspath(os.fspath(source))
        arguments = [*input_options(container), "-i", f"file:{path}", "-map", "0:a:0"]
        arguments += ["-t", str(seconds), "-c:a", "pcm_s16le", "-f", "wav", "-"]
        content, reason = run_ffmpeg(ffmpeg, arguments, patience)
    if reason is not None:
        raise ValueError(reason)
    return content
