"""Decode recordings completely, and detect truncated files.

libsndfile trusts headers. This file reads the container first: which byte ranges of the file hold audio, whether the
container promises more bytes than the file has (an error), and whether the end can be checked at all (else a note).
It stands alone: an exported folder has a copy beside verify.py. It needs numpy and soundfile. It is one file, because
a second one would have to be imported in one way inside of the package and in another beside verify.py.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np
import soundfile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 1 << 18  # frames decoded at a time, so that a header that promises billions costs no memory
MOST_SAMPLES = 600_000_000  # of all channels at the rate of the file: 3.4 hours of 48 kHz mono, 2.4 GB
LONGEST_HOURS = 24  # of a part that is read block by block
SLOWEST, FASTEST = 2_000, 1_000_000  # sampling rates in Hz; speech is recorded within them
SLACK = 128  # bytes by which a promised size may be too large: some programs count a header or a pad byte
PLACEHOLDER = 0x7FFF0000  # sizes from here on are written in place of an unknown size (sox, arecord, ffmpeg)
UNKNOWN = 1 << 62  # counts of frames from here on are libsndfile's value for an unknown count
LOUDEST = 1e9  # largest sample that is accepted as sound; floating-point files can hold larger ones
CANCELLED = 0.03  # a mix below this share of the loudest channel's level comes from channels in opposite phase
TRUNCATED = "is truncated: its end is missing; restore it or leave it out."
UNFINISHED = "has a header that was never finished: its end may be missing."
NO_LENGTH = "has a header without a length, as from a pipe: its end may be missing."
JOINED = "is followed by another recording, which is not read: cut them apart."
MAGICS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"caff", b"NIST", b"fLaC", b"OggS")
FLAC_START = b"fLaC\0\0\0\x22"  # with the header of the first block, whose length is fixed
MOST_SCANNED = 16 << 20  # bytes of the largest FLAC file that is searched for a second one behind the first
NO_LAST_PAGE = "has no last page: its end may be missing."
END_UNKNOWN = "is of a format whose end is not checked: its end may be missing."
CHECKED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "SVX", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
HALF_A_FRAME = "ends within a frame: its end may be missing."


class NotReadable(ValueError):
    """Carry the fault of a recording, as the rest of a sentence that begins with its name."""


class Piece(NamedTuple):
    """Describe a byte range of a file that decodes as one recording.

    Attributes:
        start: first byte.
        stop: byte behind the last one.
        head: bytes to put before the range.
        patches: pairs (place in the file, bytes) that replace the bytes of the file.
    """

    start: int
    stop: int
    head: bytes = b""
    patches: tuple[tuple[int, bytes], ...] = ()


class Plan(NamedTuple):
    """Describe how to read a file.

    Attributes:
        pieces: its recordings in their order; None: libsndfile reads the file unchanged.
        note: why the end of the file cannot be checked; None where it was.
    """

    pieces: tuple[Piece, ...] | None = None
    note: str | None = None


class Recording:
    """Read an open recording, which has one or more parts.

    Args:
        parts: open files of libsndfile, in their order; each has a sampling rate of its own.
        note: note as in `Plan`.

    Attributes:
        notes: rests of sentences that begin with the recording's name.

    Raises:
        NotReadable: for an impossible sampling rate.
    """

    def __init__(self, parts: list[soundfile.SoundFile], note: str | None) -> None:
        self.parts = parts
        self.notes: tuple[str, ...] = () if note is None else (note,)
        for part in parts:
            if not SLOWEST <= part.samplerate <= FASTEST:
                raise NotReadable(
                    f"has a sampling rate of {part.samplerate} Hz: speech is recorded at {SLOWEST} to {FASTEST} Hz; "
                    "check how it was written."
                )

    def read(self, number: int, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Decode frames of a part.

        Args:
            number: number of the part.
            start: first frame.
            frames: number of frames, at most; None: to the end.

        Returns:
            (frames, channels) float32.

        Raises:
            NotReadable: for a damaged part, for one that has fewer frames than its header promises, or more than
                `MOST_SAMPLES` samples.
        """
        part = self.parts[number]
        wanted = part.frames - start if frames is None else min(frames, part.frames - start)
        try:
            start = self._seek(part, start)
            blocks = self._blocks(part, start + wanted)
        except soundfile.LibsndfileError as error:
            raise NotReadable(f"is damaged ({_reason(error)}): restore it or leave it out.") from None
        decoded = np.concatenate(blocks)[start:] if blocks else np.empty((0, part.channels), np.float32)
        self._check_length(part, len(decoded), wanted)
        return decoded

    def blocks(self, number: int) -> Iterator[np.ndarray]:
        """Decode a part from its start to its end, a block at a time, with bounded memory; once for each recording.

        Args:
            number: number of the part.

        Yields:
            (frames, channels) float32, at most `BLOCK` frames.

        Raises:
            NotReadable: for a damaged part, for one that has fewer frames than its header promises, or lasts longer
                than `LONGEST_HOURS`.
        """
        part, decoded = self.parts[number], 0
        try:
            while len(block := part.read(BLOCK, dtype="float32", always_2d=True)):
                decoded += len(block)
                if decoded > LONGEST_HOURS * 3600 * part.samplerate:
                    raise NotReadable(f"is longer than {LONGEST_HOURS} hours, which is read at most: cut it.")
                yield block
        except soundfile.LibsndfileError as error:
            raise NotReadable(f"is damaged ({_reason(error)}): restore it or leave it out.") from None
        self._check_length(part, decoded, part.frames)

    @staticmethod
    def _check_length(part: soundfile.SoundFile, decoded: int, wanted: int) -> None:
        # mpg123 may leave the last frame of a stream undecoded.
        if decoded < wanted - (2 * 1152 if part.format == "MP3" else 0) and part.frames < UNKNOWN:
            raise NotReadable(f"is truncated ({decoded} of {wanted} samples could be read): restore it.")

    @staticmethod
    def _seek(part: soundfile.SoundFile, start: int) -> int:
        """Go to `start` where the codec can seek; return the number of decoded frames to drop."""
        if start and part.seekable():
            try:
                part.seek(start)
                return 0
            except soundfile.LibsndfileError:
                if part.format == "FLAC":  # FLAC can seek; it fails where the frames at `start` are missing
                    raise
        return start  # decode from the beginning; this works because such a part is read only once

    @staticmethod
    def _blocks(part: soundfile.SoundFile, wanted: int) -> list[np.ndarray]:
        blocks: list[np.ndarray] = []
        missing = wanted
        while missing > 0:
            block = part.read(min(missing, BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                break
            blocks.append(block)
            missing -= len(block)
            if (wanted - missing) * part.channels > MOST_SAMPLES:
                hours = MOST_SAMPLES / part.channels / part.samplerate / 3600
                raise NotReadable(f"is longer than {hours:.1f} hours, which is read at once at most: cut it.")
        return blocks


@contextlib.contextmanager
def open_recording(source: str | bytes | os.PathLike[str] | BinaryIO) -> Iterator[Recording]:
    """Open a recording.

    Args:
        source: path, or an open, seekable binary file, which is read from its start.

    Returns:
        A context manager of the open recording.

    Raises:
        NotReadable: for a file that is no recording, is truncated, or is damaged.
        OSError: for a path that cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        path = os.fsencode(source) if isinstance(source, str | bytes | os.PathLike) else None
        raw = cast(BinaryIO, source if path is None else stack.enter_context(open(path, "rb")))
        plan = plan_of(raw)
        raw.seek(0)
        if plan.pieces is None:
            parts = [_open(path if path is not None else raw)]
            stack.callback(parts[0].close)
            if parts[0].format == "MP3":
                place = raw.tell()  # libsndfile continues from here
                plan = _plan_mp3(raw, parts[0].frames)
                raw.seek(place)
            elif parts[0].format == "FLAC":
                plan = _plan_flac(raw, parts[0].frames)
            elif parts[0].format not in CHECKED:
                plan = Plan(None, END_UNKNOWN)
        if plan.pieces is not None:
            parts = [_open(cast(BinaryIO, _Window(raw, piece))) for piece in plan.pieces]
            for part in parts:
                stack.callback(part.close)
        yield Recording(parts, plan.note)


def check_samples(frames: np.ndarray, name: str) -> None:
    """Check that decoded samples are sound.

    Args:
        frames: (samples, channels).
        name: name of the recording in errors.

    Raises:
        ValueError: for samples that are not finite or exceed `LOUDEST`.
    """
    if not np.isfinite(frames).all():
        raise ValueError(f"{name} has NaN or infinite samples: finite audio is needed; check how it was written.")
    if np.abs(frames).max(initial=0.0) > LOUDEST:
        raise ValueError(
            f"{name} has samples that reach {np.abs(frames).max():.1e}: floats in [-1, 1] are wanted; check how it "
            "was written."
        )


def mixed(frames: np.ndarray, name: str, channel: int | None) -> np.ndarray:
    """Mix the channels of a recording, or select one.

    Args:
        frames: (samples, channels).
        name: name of the recording in errors.
        channel: number of the channel; None: the mean of the channels that are not digital silence.

    Returns:
        (samples,).

    Raises:
        ValueError: for samples that are not finite or exceed `LOUDEST`, for a channel that does not exist, and for
            channels that cancel each other.
    """
    check_samples(frames, name)
    channels = frames.shape[1]
    if channel is not None:
        if not isinstance(channel, int | np.integer) or not 0 <= channel < channels:
            raise ValueError(f"channel is {channel}: {name} has channels 0 to {channels - 1}.")
        return frames[:, channel]
    if channels == 1:
        return frames[:, 0]
    levels = frames.std(axis=0, dtype=np.float64)
    alive = levels > 0
    if not alive.any():
        return frames[:, 0]
    mono: np.ndarray = frames[:, alive].mean(axis=1, dtype=np.float32)
    if alive.sum() > 1 and mono.std(dtype=np.float64) < CANCELLED * levels.max():
        raise ValueError(
            f"{name} has channels that cancel each other when they are mixed: give one of them, channel 0 to "
            f"{channels - 1}."
        )
    return mono


def checked_blocks(recording: Recording, number: int, name: str, frames: int | None = None) -> Iterator[np.ndarray]:
    """Yield the blocks of a part, each checked as `check_samples` does.

    Args:
        recording: the open recording.
        number: number of the part.
        name: name of the recording in errors.
        frames: frames that are read at most; None: all.

    Yields:
        (frames, channels) float32.

    Raises:
        ValueError: as `Recording.blocks` and `check_samples` do.
    """
    for block in recording.blocks(number):
        check_samples(block, name)
        yield block[:frames]
        if frames is not None:
            frames -= len(block)
            if frames <= 0:
                return


class _SoundFile(soundfile.SoundFile):
    """Correct `seekable`, which soundfile calls after every block: libsndfile reports DWVW and FLAC of unknown length.

    Both fail when they seek.
    """

    def seekable(self) -> bool:
        """Return whether the codec can seek."""
        if self.subtype.startswith("DWVW") or self.frames >= UNKNOWN:
            return False
        return bool(super().seekable())


def _open(source: bytes | BinaryIO) -> soundfile.SoundFile:
    try:
        return _SoundFile(source)
    except TypeError:  # soundfile needs a rate for a name that ends in .raw
        raise NotReadable("has no header that says how it was recorded: give wav, flac, ogg or mp3.") from None
    except soundfile.LibsndfileError as error:
        raise NotReadable(
            f"cannot be read ({_reason(error)}): give wav, flac, ogg or mp3, and check that the file is complete."
        ) from None


def _reason(error: soundfile.LibsndfileError) -> str:
    """Return the error text of libsndfile without the name of the file."""
    return str(error.error_string).strip().rstrip(".")


class _Window(io.RawIOBase):
    """Present a piece of a file as a file."""

    def __init__(self, raw: BinaryIO, piece: Piece) -> None:
        self.raw, self.piece = raw, piece
        self.size = len(piece.head) + piece.stop - piece.start
        self.place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = max(offset + (0, self.place, self.size)[whence], 0)
        return self.place

    def read(self, size: int | None = -1) -> bytes:
        size = self.size - self.place if size is None or size < 0 else min(size, self.size - self.place)
        if size <= 0:
            return b""
        head, start = self.piece.head, self.piece.start
        content = head[self.place : self.place + size]
        first = start + max(self.place - len(head), 0)
        self.raw.seek(first)
        rest = bytearray(self.raw.read(size - len(content)))
        for place, patch in self.piece.patches:
            low, high = max(place, first), min(place + len(patch), first + len(rest))
            if low < high:
                rest[low - first : high - first] = patch[low - place : high - place]
        content += bytes(rest)
        self.place += len(content)
        return content

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)


# ---- containers -----------------------------------------------------------------------------------------------------


def plan_of(raw: BinaryIO) -> Plan:
    """Plan how to read a file, by its container.

    Args:
        raw: the open file; its position is moved.

    Raises:
        NotReadable: for a missing end.
    """
    size = raw.seek(0, io.SEEK_END)
    raw.seek(0)
    base = tag_size(raw.read(10))  # an ID3 tag may stand before anything
    raw.seek(base)
    magic = raw.read(16)
    try:
        if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
            return _plan_riff(raw, base, size, magic)
        if magic[:4] == b"riff":
            return _check_and_end(raw, *_find_w64(raw, base), size)
        if magic[:4] == b"FORM":
            return _plan_iff(raw, base, size, magic)
        if magic[:4] in (b".snd", b"dns."):
            return _plan_au(raw, base, size, magic)
        if magic[:4] == b"caff":
            return _check_and_end(raw, *_find_caf(raw, base), size)
        if magic[:7] == b"NIST_1A":
            return _check_and_end(raw, *_find_nist(raw, base), size)
        if magic[:4] == b"OggS":
            return _plan_ogg(raw, base, size)
    except (struct.error, IndexError, ValueError, OverflowError, OSError) as error:
        if isinstance(error, NotReadable):
            raise
    return Plan()  # the header is damaged or of another format: libsndfile reports the error


def tag_size(start: bytes) -> int:
    """Return the bytes of the ID3v2 tag at the start of a file, 0 without a tag.

    Args:
        start: first 10 bytes of the file.
    """
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    return 10 + (start[6] << 21 | start[7] << 14 | start[8] << 7 | start[9])


def _check(place: int, promised: int | None, size: int) -> Plan:
    """Compare the promised bytes of audio from `place` on with the file; None: the container promises none."""
    if promised is not None and promised > size - place + SLACK:
        raise NotReadable(TRUNCATED)
    return Plan(None, NO_LENGTH if promised is None else None)


def _check_and_end(raw: BinaryIO, place: int, promised: int | None, size: int) -> Plan:
    """Do as `_check`, for formats whose reader would decode the bytes behind the audio as audio."""
    plan = _check(place, promised, size)
    if promised and place + promised < size:
        return Plan((Piece(0, place + promised),), plan.note or _note_of_what_follows(raw, place + promised))
    return plan


def _note_of_what_follows(raw: BinaryIO, place: int) -> str | None:
    """Return a note where another recording begins at `place`, perhaps behind a few pad bytes."""
    raw.seek(place)
    return JOINED if raw.read(20).lstrip(b"\0")[:4] in MAGICS else None


def _is_a_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= letter < 127 for letter in name)


def _chunks(raw: BinaryIO, place: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, place of its content, size) of the chunks of a RIFF or IFF file, with or without pad bytes."""
    while place + 8 <= size:
        raw.seek(place)
        name, length = struct.unpack(f"{order}4sI", raw.read(8))
        if not _is_a_name(name):
            return
        yield name, place + 8, length
        place += 8 + length
        if length % 2:
            raw.seek(place)
            after = raw.read(5)
            if not (_is_a_name(after[:4]) and (after[4:] == b"" or not _is_a_name(after[1:5]))):
                place += 1


def _fills(raw: BinaryIO, place: int, size: int, order: str) -> bool:
    """Return whether the rest of a file is whole chunks; then the writer had finished the chunk before them."""
    end = place
    for _, start, length in _chunks(raw, place, size, order):
        end = start + length
    return place < end and 0 <= size - end <= 1


def _plan_riff(raw: BinaryIO, base: int, size: int, magic: bytes) -> Plan:
    """Plan a WAV or RF64 file."""
    order = ">" if magic[:4] == b"RIFX" else "<"
    block, long_size = 1, None
    form, expected, is_padded = b"", base + 12, True
    for name, place, length in _chunks(raw, base + 12, size, order):
        is_padded &= place - 8 == expected
        expected = place + length + length % 2
        raw.seek(place)
        if name == b"ds64":
            long_size = struct.unpack("<8xQ", raw.read(16))[0]
        elif name == b"fmt ":
            block = max(struct.unpack(f"{order}12xH", raw.read(14))[0], 1)
            raw.seek(place - 8)
            form = raw.read(8 + length)
        elif name == b"data":
            promised = long_size if length == 0xFFFFFFFF and long_size is not None else length
            available = size - place
            if promised == 0 and available >= block and not _fills(raw, place, size, order):
                whole = available // block * block
                patches = [(place - 4, struct.pack(f"{order}I", min(whole, 0xFFFFFFFE)))]
                if magic[:4] in (b"RIFF", b"RIFX"):
                    patches.append((base + 4, struct.pack(f"{order}I", min(size - base - 8, 0xFFFFFFFE))))
                return Plan((Piece(base, size, patches=tuple(patches)),), UNFINISHED)
            if not is_padded:  # libsndfile would search the data one byte too late
                raw.seek(base)
                head = raw.read(12) + form + bytes(len(form) % 2)
                plan = _check(place, promised, size)
                return Plan((Piece(place - 8, size, head),), plan.note)
            is_unknown = promised == length and promised >= PLACEHOLDER or promised >= 1 << 62
            return _check(place, None if is_unknown else promised, size)
    return Plan()


def _find_w64(raw: BinaryIO, base: int) -> tuple[int, int | None]:
    """Return the place of the audio and its promised bytes; None for an unknown size."""
    place = base + 40
    while True:
        raw.seek(place)
        name, length = struct.unpack("<16sQ", raw.read(24))
        if name[:4] == b"data":
            return place + 24, length - 24 if 24 <= length < 1 << 62 else None
        place += max(length + 7 & ~7, 24)


def _plan_iff(raw: BinaryIO, base: int, size: int, magic: bytes) -> Plan:
    """Plan an AIFF or AIFC (SSND), 8SVX or 16SV (BODY) file."""
    frame, comm = 1, None
    for name, place, length in _chunks(raw, base + 12, size, ">"):
        raw.seek(place)
        if name == b"COMM":
            channels, _, bits = struct.unpack(">HIH", raw.read(8))
            frame, comm = max(channels * -(-bits // 8), 1), place
        elif name in (b"SSND", b"BODY"):
            inner = 8 if name == b"SSND" else 0  # offset and block size
            available = size - place - inner
            if length <= inner and available >= frame and not _fills(raw, place + length, size, ">"):
                patches = [
                    (place - 4, struct.pack(">I", size - place)),
                    (base + 4, struct.pack(">I", size - base - 8)),
                ]
                if comm is not None:
                    patches.append((comm + 2, struct.pack(">I", available // frame)))
                return Plan((Piece(base, size, patches=tuple(patches)),), UNFINISHED)
            promised = None if length >= 0x7F000000 else length
            return _check(place, promised, size) if name == b"SSND" else _check_and_end(raw, place, promised, size)
    return Plan()


def _plan_au(raw: BinaryIO, base: int, size: int, magic: bytes) -> Plan:
    order = ">" if magic[:4] == b".snd" else "<"
    start, promised = struct.unpack(f"{order}II", magic[4:12])
    if promised == 0 and size > base + start:
        unknown = ((base + 8, struct.pack(f"{order}I", 0xFFFFFFFF)),)
        return Plan((Piece(base, size, patches=unknown),), UNFINISHED)
    return _check_and_end(raw, base + start, None if promised >= PLACEHOLDER else promised, size)


def _find_caf(raw: BinaryIO, base: int) -> tuple[int, int | None]:
    place = base + 8
    while True:
        raw.seek(place)
        name, length = struct.unpack(">4sq", raw.read(12))
        if name == b"data":
            return place + 12, None if length < 0 else length
        place += 12 + max(length, 0)


def _find_nist(raw: BinaryIO, base: int) -> tuple[int, int | None]:
    raw.seek(base)
    head = raw.read(4096).decode("latin-1")
    start = int(head.splitlines()[1])
    fields = {}
    for line in head.splitlines()[2:]:
        entry = line.split(None, 2)  # name, type, value
        if entry[:1] == ["end_head"]:
            break
        if len(entry) == 3:
            fields[entry[0]] = entry[2]
    if "sample_count" not in fields or "shorten" in fields.get("sample_coding", ""):
        return base + start, None
    width = int(fields.get("sample_n_bytes", "2")) * int(fields.get("channel_count", "1"))
    return base + start, int(fields["sample_count"]) * width


def _plan_flac(raw: BinaryIO, expected: int) -> Plan:
    """Plan FLAC files that were joined, of which libsndfile reads the first; it expects `expected` samples in it."""
    unchanged = Plan(None, NO_LENGTH if expected >= UNKNOWN else None)
    place = raw.tell()  # libsndfile continues from here
    if raw.seek(0, io.SEEK_END) > MOST_SCANNED:
        raw.seek(place)
        return unchanged
    raw.seek(0)
    content = raw.read()
    raw.seek(place)
    starts, start = [0], content.find(FLAC_START, 4)
    while start >= 0:
        starts.append(start)
        start = content.find(FLAC_START, start + 4)
    starts = starts[1:] if content.find(FLAC_START) == starts[-1] else starts  # an ID3 tag, and one recording
    if len(starts) < 2:
        return unchanged
    return Plan(_pieces(starts, len(content)))


def _pieces(starts: list[int], stop: int) -> tuple[Piece, ...]:
    """Return recordings that follow each other without a gap; the last one ends at `stop`."""
    return tuple(Piece(*ends) for ends in zip(starts, [*starts[1:], stop], strict=True))


def _plan_ogg(raw: BinaryIO, base: int, size: int) -> Plan:
    """Plan chained Ogg recordings: a page that begins a stream, behind pages that continue one, begins a recording."""
    raw.seek(base)
    content = raw.read()
    starts, place, has_body, ended, end = [base], 0, False, False, base
    last: dict[bytes, tuple[int, bool]] = {}  # for each stream: number of its last page, whether that page had audio
    while (place := content.find(b"OggS", place)) >= 0:
        if place + 27 > len(content):
            raise NotReadable(TRUNCATED)
        flags, segments = content[place + 5], content[place + 26]
        table = content[place + 27 : place + 27 + segments]
        length = 27 + segments + sum(table)
        if len(table) < segments or place + length > len(content):
            raise NotReadable(TRUNCATED)
        page = content[place : place + length]
        stream, number, had_audio = page[14:18], int.from_bytes(page[18:22], "little"), any(page[6:14])
        before = last.get(stream)
        is_gap = before is not None and before[1] and number != before[0] + 1 and not flags & 2
        if is_gap or not _checksum_fits(page):
            raise NotReadable("is damaged: a page of it is missing or changed; restore it or leave it out.")
        last[stream] = number, had_audio
        if flags & 2 and has_body:
            starts.append(base + place)
            has_body = False
        elif not flags & 2:
            has_body = True
        ended = bool(flags & 4)
        place += length
        end = base + place
    note = None if ended else NO_LAST_PAGE
    if len(starts) == 1 and end == size and base == 0:
        return Plan(None, note)
    return Plan(_pieces(starts, end), note)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _checksum_fits(page: bytes) -> bool:
    """Return whether an Ogg page has the CRC of RFC 3533, section 6: zlib's polynomial, with all bits reversed."""
    crc = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2) == int.from_bytes(page[22:26], "little")


# ---- MPEG audio -----------------------------------------------------------------------------------------------------

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBPS = {  # bit rates by (is MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class _Frame(NamedTuple):
    """Describe an MPEG audio frame.

    Attributes:
        place: its first byte in the file.
        length: its bytes.
        kind: version, layer, rate, and whether it is mono; the same for all frames of a stream.
    """

    place: int
    length: int
    kind: tuple[int, int, int, bool]

    @property
    def samples(self) -> int:
        version, layer, _, _ = self.kind
        return 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576

    @property
    def side(self) -> int:
        """Return the bytes of the header and the side information; a Xing header stands behind them."""
        version, _, _, mono = self.kind
        return 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))


def _frame_at(content: bytes, place: int) -> _Frame | None:
    """Return the frame that begins at `place`; None where no frame header stands there."""
    head = content[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, speed = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or speed == 3:
        return None
    rate, kbps, pad = _RATES[version][speed], _KBPS[version == 3, layer][bits - 1], head[2] >> 1 & 1
    if layer == 1:
        length = (12000 * kbps // rate + pad) * 4
    else:
        length = (72000 if layer == 3 and version != 3 else 144000) * kbps // rate + pad
    return _Frame(place, length, (version, layer, rate, head[3] >> 6 == 3))


def _frames(content: bytes) -> Iterator[_Frame]:
    """Yield every frame, the last one also when it is cut off; bytes between frames are skipped."""
    place, kind = 0, None
    while 0 <= place < len(content):
        frame = _frame_at(content, place)
        if frame is not None and frame.kind != kind:  # bytes that look like a header by chance have no next frame
            following = _frame_at(content, frame.place + frame.length)
            if following is None or following.kind != frame.kind:
                frame = None
        if frame is None:
            place = content.find(b"\xff", place + 1)
        elif frame.place + frame.length > len(content):
            yield frame
            return
        else:
            kind = frame.kind
            yield frame
            place = frame.place + frame.length


def _promised(content: bytes, frame: _Frame) -> int | None:
    """Return the frames that a Xing or Info header promises: 0 for a header without a number, None without header."""
    start = frame.place + frame.side
    if content[start : start + 4] in (b"Xing", b"Info"):
        flags, count = struct.unpack(">II", content[start + 4 : start + 12].ljust(8, b"\0"))
        return count if flags & 1 else 0
    return 0 if content[frame.place + 36 : frame.place + 40] == b"VBRI" else None


def _plan_mp3(raw: BinaryIO, expected: int) -> Plan:
    """Plan an MP3 as streams, each with a header that has its number of frames; libsndfile expects `expected` samples.

    Without such a header, libsndfile guesses the number from the bit rate of the first frame; so a right one is added.
    """
    raw.seek(0)
    content = raw.read()
    streams: list[list[_Frame]] = []
    note = None
    for frame in _frames(content):
        if frame.place + frame.length > len(content):
            note = HALF_A_FRAME
        elif not streams or frame.kind != streams[-1][0].kind or _promised(content, frame) is not None:
            streams.append([frame])
        else:
            streams[-1].append(frame)
    pieces, counted = [], 0
    for number, frames in enumerate(streams):
        promised = _promised(content, frames[0])
        with_audio = frames if promised is None else frames[1:]
        if promised and promised > len(with_audio) + 1:
            if number == len(streams) - 1:
                raise NotReadable(TRUNCATED)
            promised = 0
        elif promised:
            note = None if number == len(streams) - 1 else note
        if not with_audio:
            continue
        first, stop = with_audio[0], with_audio[-1].place + with_audio[-1].length
        counted += len(with_audio) * first.samples
        # The decoder takes a header with a changed bit for sound, and then expects another number of samples.
        is_seen = len(streams) > 1 or abs(expected - len(with_audio) * first.samples) <= 4 * first.samples
        if promised and abs(promised - len(with_audio)) <= 1 and is_seen:
            pieces.append(Piece(frames[0].place, stop))
        else:
            pieces.append(Piece(first.place, stop, _xing_header(content, with_audio, stop)))
    is_known = len(pieces) == 1 and (not pieces[0].head or expected == counted)
    tail = content[pieces[-1].stop :] if pieces else b""
    if not pieces or (is_known and (not tail or tail[:3] == b"TAG" or tail[:8] == b"APETAGEX")):
        return Plan(None, note)
    return Plan(tuple(pieces), note)


def _xing_header(content: bytes, frames: list[_Frame], stop: int) -> bytes:
    """Make a silent frame with the number of the frames that follow; empty but for layer 3, where decoders read it."""
    first = frames[0]
    if first.kind[1] != 3:
        return b""
    head = bytearray(content[first.place : first.place + 4])
    head[1] |= 1  # no checksum
    for bits in range(1, 15):
        head[2] = bits << 4 | head[2] & 0x0C
        frame = _frame_at(bytes(head), 0)
        if frame is not None and frame.length >= frame.side + 16:
            break
    assert frame is not None
    xing = b"Xing" + struct.pack(">III", 3, len(frames), stop - first.place + frame.length)
    return (bytes(head) + bytes(frame.side - 4) + xing).ljust(frame.length, b"\0")
