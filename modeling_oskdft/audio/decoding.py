"""Reads recordings to their real end: what can be decoded counts, and a missing end is found.

libsndfile believes headers. This file looks at the container first: which stretches of the file hold audio, whether
the container promises more than there is (refused), and whether that can be known at all (a note). It stands alone:
an exported folder has a copy beside verify.py. Needs numpy and soundfile.
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

BLOCK = 1 << 18  # frames decoded at a time: a header that promises billions costs nothing
MOST_SAMPLES = 600_000_000  # of all channels at the file's own rate: 3.4 hours of 48 kHz mono, 2.4 GB
SLOWEST, FASTEST = 2_000, 1_000_000  # Hz; outside, no speech is recorded
SLACK = 128  # bytes that a size may be too large by: a header or a pad byte that was counted in
PLACEHOLDER = 0x7FFF0000  # and above: sizes that programs write when they do not know one (sox, arecord, ffmpeg)
UNKNOWN = 1 << 62  # frames, and above: libsndfile does not know how many
LOUDEST = 1e9  # of samples that are sound at all; floating-point files can hold anything
CANCELLED = 0.03  # of a channel's level: a mix below it is what is left of channels in opposite phase
TRUNCATED = "is truncated: its end is missing; restore it or leave it out."
UNFINISHED = "has a header that was never finished: its end may be missing."
NO_LENGTH = "has a header without a length, as from a pipe: its end may be missing."
JOINED = "is followed by another recording, which is not read: cut them apart."
MAGICS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"caff", b"NIST", b"fLaC", b"OggS")
FLAC_START = b"fLaC\0\0\0\x22"  # with the first block, whose length is fixed
MOST_SCANNED = 16 << 20  # bytes of a FLAC file that is looked through for another one behind it
NO_LAST_PAGE = "has no last page: its end may be missing."
END_UNKNOWN = "is of a format whose end is not checked: its end may be missing."
CHECKED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "SVX", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
HALF_A_FRAME = "ends within a frame: its end may be missing."


class NotReadable(ValueError):
    """What is wrong with a recording, as the rest of a sentence that begins with its name."""


class Piece(NamedTuple):
    """A stretch of a file that decodes as one recording.

    start, stop: in bytes. head: bytes to put before it. patches: (place in the file, bytes) to read instead.
    """

    start: int
    stop: int
    head: bytes = b""
    patches: tuple[tuple[int, bytes], ...] = ()


class Plan(NamedTuple):
    """How to read a file: None for "as it is", else its pieces in order; and what cannot be known of its end."""

    pieces: tuple[Piece, ...] | None = None
    note: str | None = None


class Recording:
    """An open recording: its parts, one after the other, each with a rate of its own, and notes about its end."""

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
        """Frames of a part, (frames, channels) float32. frames: how many at most; None: to the end.

        Raises `NotReadable` for a part that ends before its header says, or is longer than `MOST_SAMPLES`.
        """
        part = self.parts[number]
        wanted = part.frames - start if frames is None else min(frames, part.frames - start)
        try:
            start = self._seek(part, start)
            blocks = self._blocks(part, start + wanted)
        except soundfile.LibsndfileError as error:
            raise NotReadable(f"is damaged ({_reason(error)}): restore it or leave it out.") from None
        found = np.concatenate(blocks)[start:] if blocks else np.empty((0, part.channels), np.float32)
        # mpg123 may leave the last frame of a stream undecoded.
        if len(found) < wanted - (2 * 1152 if part.format == "MP3" else 0) and part.frames < UNKNOWN:
            raise NotReadable(f"is truncated ({len(found)} of {wanted} samples could be read): restore it.")
        return found

    @staticmethod
    def _seek(part: soundfile.SoundFile, start: int) -> int:
        """Go to `start` where the codec can; returns how many frames are left to be thrown away."""
        if start and part.seekable():
            try:
                part.seek(start)
                return 0
            except soundfile.LibsndfileError:
                if part.format == "FLAC":  # it can, and what it looks for is missing
                    raise
        return start  # decoded from the start, where a part is read once

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
    """Open a file by its path or from an open, seekable binary file, which is read from its start.

    Raises `NotReadable` with what is wrong with it, and `OSError` for a path that cannot be opened.
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
                place = raw.tell()  # libsndfile reads on from here
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


def mixed(frames: np.ndarray, name: str, channel: int | None) -> np.ndarray:
    """(samples, channels) to (samples,): one channel, or the mean of those that are not digital silence.

    name: what a sentence calls the recording. Raises `ValueError` for samples that are not sound, for a channel that
    is not there, and for channels that cancel each other.
    """
    if not np.isfinite(frames).all():
        raise ValueError(f"{name} has NaN or infinite samples: finite audio is needed; check how it was written.")
    if np.abs(frames).max(initial=0.0) > LOUDEST:
        raise ValueError(
            f"{name} has samples that reach {np.abs(frames).max():.1e}: floats in [-1, 1] are wanted; check how it "
            "was written."
        )
    channels = frames.shape[1]
    if channel is not None:
        if not 0 <= channel < channels:
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


class _SoundFile(soundfile.SoundFile):
    """libsndfile says that DWVW and FLAC of unknown length can seek, and fails; soundfile asks after every block."""

    def seekable(self) -> bool:
        """Whether the codec can seek."""
        if self.subtype.startswith("DWVW") or self.frames >= UNKNOWN:
            return False
        return bool(super().seekable())


def _open(source: bytes | BinaryIO) -> soundfile.SoundFile:
    try:
        return _SoundFile(source)
    except TypeError:  # a name that ends in .raw
        raise NotReadable("has no header that says how it was recorded: give wav, flac, ogg or mp3.") from None
    except soundfile.LibsndfileError as error:
        raise NotReadable(
            f"cannot be read ({_reason(error)}): give wav, flac, ogg or mp3, and check that the file is complete."
        ) from None


def _reason(error: soundfile.LibsndfileError) -> str:
    """Libsndfile's own words, without the name of the file."""
    return str(error.error_string).strip().rstrip(".")


class _Window(io.RawIOBase):
    """A piece of a file as a file."""

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
    """How to read a file, from its container. raw: at its start. Raises `NotReadable` for a missing end."""
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
    return Plan()  # what is left of a header cannot be understood: libsndfile says what it thinks of it


def tag_size(start: bytes) -> int:
    """Bytes of an ID3v2 tag at the start of a file."""
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    return 10 + (start[6] << 21 | start[7] << 14 | start[8] << 7 | start[9])


def _check(place: int, promised: int | None, size: int) -> Plan:
    """place: where audio begins; promised: its bytes, None where the container does not know."""
    if promised is not None and promised > size - place + SLACK:
        raise NotReadable(TRUNCATED)
    return Plan(None, NO_LENGTH if promised is None else None)


def _check_and_end(raw: BinaryIO, place: int, promised: int | None, size: int) -> Plan:
    """The same for formats whose reader would take what stands behind the audio for audio."""
    plan = _check(place, promised, size)
    if promised and place + promised < size:
        return Plan((Piece(0, place + promised),), plan.note or _note_of_what_follows(raw, place + promised))
    return plan


def _note_of_what_follows(raw: BinaryIO, place: int) -> str | None:
    """A note where another recording begins, perhaps behind a few pad bytes."""
    raw.seek(place)
    return JOINED if raw.read(20).lstrip(b"\0")[:4] in MAGICS else None


def _is_a_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= letter < 127 for letter in name)


def _chunks(raw: BinaryIO, place: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, place of its content, size) of the chunks of a RIFF or IFF file, with or without pad bytes."""
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
    """Whether the rest of a file is whole chunks: then what stands before it was finished."""
    end = place
    for _, start, length in _chunks(raw, place, size, order):
        end = start + length
    return place < end and 0 <= size - end <= 1


def _plan_riff(raw: BinaryIO, base: int, size: int, magic: bytes) -> Plan:
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
            if not is_padded:  # libsndfile would look for the data a byte too late
                raw.seek(base)
                head = raw.read(12) + form + bytes(len(form) % 2)
                plan = _check(place, promised, size)
                return Plan((Piece(place - 8, size, head),), plan.note)
            is_unknown = promised == length and promised >= PLACEHOLDER or promised >= 1 << 62
            return _check(place, None if is_unknown else promised, size)
    return Plan()


def _find_w64(raw: BinaryIO, base: int) -> tuple[int, int | None]:
    place = base + 40
    while True:
        raw.seek(place)
        name, length = struct.unpack("<16sQ", raw.read(24))
        if name[:4] == b"data":
            return place + 24, length - 24 if 24 <= length < 1 << 62 else None
        place += max(length + 7 & ~7, 24)


def _plan_iff(raw: BinaryIO, base: int, size: int, magic: bytes) -> Plan:
    """AIFF and AIFC (SSND), 8SVX and 16SV (BODY)."""
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
        words = line.split(None, 2)
        if words[:1] == ["end_head"]:
            break
        if len(words) == 3:
            fields[words[0]] = words[2]
    if "sample_count" not in fields or "shorten" in fields.get("sample_coding", ""):
        return base + start, None
    width = int(fields.get("sample_n_bytes", "2")) * int(fields.get("channel_count", "1"))
    return base + start, int(fields["sample_count"]) * width


def _plan_flac(raw: BinaryIO, believed: int) -> Plan:
    """Joined FLAC files, one after the other; libsndfile reads the first. believed: its count of samples."""
    alone = Plan(None, NO_LENGTH if believed >= UNKNOWN else None)
    place = raw.tell()  # libsndfile reads on from here
    if raw.seek(0, io.SEEK_END) > MOST_SCANNED:
        raw.seek(place)
        return alone
    raw.seek(0)
    content = raw.read()
    raw.seek(place)
    starts, found = [0], content.find(FLAC_START, 4)
    while found >= 0:
        starts.append(found)
        found = content.find(FLAC_START, found + 4)
    starts = starts[1:] if content.find(FLAC_START) == starts[-1] else starts  # an ID3 tag, and one recording
    if len(starts) < 2:
        return alone
    return Plan(tuple(Piece(a, b) for a, b in zip(starts, [*starts[1:], len(content)], strict=True)))


def _plan_ogg(raw: BinaryIO, base: int, size: int) -> Plan:
    """Pages to chained recordings: after other pages, a page that begins a stream begins a recording."""
    raw.seek(base)
    content = raw.read()
    starts, place, has_body, ended, end = [base], 0, False, False, base
    last: dict[bytes, tuple[int, bool]] = {}  # of each stream, the number of its last page, and whether it had audio
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
    return Plan(tuple(Piece(a, b) for a, b in zip(starts, [*starts[1:], end], strict=True)), note)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _checksum_fits(page: bytes) -> bool:
    """Whether an Ogg page has the CRC of RFC 3533, section 6: zlib's polynomial, its bits the other way round."""
    found = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2) == int.from_bytes(page[22:26], "little")


# ---- MPEG audio -----------------------------------------------------------------------------------------------------

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBPS = {  # by (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class _Frame(NamedTuple):
    """An MPEG audio frame. kind: what is the same for all frames of a stream: version, layer, rate, mono."""

    place: int
    length: int
    kind: tuple[int, int, int, bool]

    @property
    def samples(self) -> int:
        version, layer, _, _ = self.kind
        return 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576

    @property
    def side(self) -> int:
        """Bytes of the header and the side information, behind which a Xing header stands."""
        version, _, _, mono = self.kind
        return 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))


def _frame_at(content: bytes, place: int) -> _Frame | None:
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
    """Every whole frame; what lies between frames is passed over."""
    place, kind = 0, None
    while 0 <= place < len(content):
        frame = _frame_at(content, place)
        if frame is not None and frame.kind != kind:  # an accident of two bytes is followed by no frame like it
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
    """Frames that a Xing or Info header promises: 0 where it does not say; None where the frame holds no header."""
    start = frame.place + frame.side
    if content[start : start + 4] in (b"Xing", b"Info"):
        flags, count = struct.unpack(">II", content[start + 4 : start + 12].ljust(8, b"\0"))
        return count if flags & 1 else 0
    return 0 if content[frame.place + 36 : frame.place + 40] == b"VBRI" else None


def _plan_mp3(raw: BinaryIO, believed: int) -> Plan:
    """Streams of frames, each with a header that says how many there are. believed: libsndfile's count of samples."""
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
        own = frames if promised is None else frames[1:]
        if promised and promised > len(own) + 1:
            if number == len(streams) - 1:
                raise NotReadable(TRUNCATED)
            promised = 0
        elif promised:
            note = None if number == len(streams) - 1 else note
        if not own:
            continue
        counted += len(own) * own[0].samples
        stop = own[-1].place + own[-1].length
        is_seen = len(streams) > 1 or abs(believed - len(own) * own[0].samples) <= 4 * own[0].samples
        if promised and abs(promised - len(own)) <= 1 and is_seen:
            pieces.append(Piece(frames[0].place, stop))
        else:
            pieces.append(Piece(own[0].place, stop, _xing_header(content, own, stop)))
    is_known = len(pieces) == 1 and (not pieces[0].head or believed == counted)
    tail = content[pieces[-1].stop :] if pieces else b""
    if not pieces or (is_known and (not tail or tail[:3] == b"TAG" or tail[:8] == b"APETAGEX")):
        return Plan(None, note)
    return Plan(tuple(pieces), note)


def _xing_header(content: bytes, frames: list[_Frame], stop: int) -> bytes:
    """A frame of silence that says how many frames follow; for layer 3 alone, as decoders look for it."""
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
    said = b"Xing" + struct.pack(">III", 3, len(frames), stop - first.place + frame.length)
    return (bytes(head) + bytes(frame.side - 4) + said).ljust(frame.length, b"\0")
