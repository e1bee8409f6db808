"""What a container promises against what is there: every file is made here."""

import io
import struct

import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.decoding import NotReadable, open_recording

RATE = 16000


def speech(seconds=1.5, seed=0):
    generator = np.random.default_rng(seed)
    return 0.1 * generator.normal(size=round(seconds * RATE)).astype(np.float32)


def content_of(samples, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, **options)
    return file.getvalue()


def read(content):
    with open_recording(io.BytesIO(content)) as recording:
        return [recording.read(number) for number in range(len(recording.parts))], recording.notes


WRITTEN = [
    *(("WAV", kind) for kind in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610", "G721_32")),
    *(("WAVEX", kind) for kind in ("PCM_16", "PCM_24")),
    *(("RF64", "PCM_16"), ("W64", "PCM_16"), ("W64", "GSM610")),
    *(("AIFF", kind) for kind in ("PCM_16", "PCM_24", "GSM610", "DWVW_16")),
    *(("AU", kind) for kind in ("PCM_16", "G721_32", "G723_24")),
    *(("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("NIST", "PCM_16"), ("SVX", "PCM_16")),
    *(("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("container", "kind"), WRITTEN)
def test_whole_files_are_read_and_cut_ones_are_refused(container, kind):
    samples = speech()
    content = content_of(samples, format=container, subtype=kind)
    (whole,), notes = read(content)
    assert 0 <= len(whole) - len(samples) < 512 and notes == ()  # the last block of a codec is filled up
    (with_junk,), _ = read(content + bytes(3000))
    np.testing.assert_array_equal(with_junk[: len(samples)], whole[: len(samples)])
    for share in (0.5, 0.9):
        with pytest.raises(NotReadable, match="is truncated|is damaged"):
            read(content[: int(share * len(content))])


@pytest.mark.parametrize(("container", "kind"), [("WAV", "GSM610"), ("AU", "G721_32"), ("AIFF", "DWVW_16")])
def test_a_part_of_what_cannot_be_sought_in(container, kind):
    content = content_of(speech(), format=container, subtype=kind)
    (whole,), _ = read(content)
    with open_recording(io.BytesIO(content)) as recording:
        part = recording.read(0, 5000, 3000)
    np.testing.assert_array_equal(part, whole[5000:8000])


def wav(samples, data_size=None, riff_size=None, before=b"", after=b"", order="<"):
    data = (samples * 32767).astype(f"{order}i2").tobytes()
    size = len(data) if data_size is None else data_size
    form = struct.pack(f"{order}HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVEfmt " + struct.pack(f"{order}I", 16) + form + before
    body += b"data" + struct.pack(f"{order}I", size) + data + after
    total = len(body) if riff_size is None else riff_size
    return (b"RIFF" if order == "<" else b"RIFX") + struct.pack(f"{order}I", total) + body


SAMPLES = speech()
WRONG_SIZES = {
    "sox's pipe": {"data_size": 0x7FFFF000, "riff_size": 0x7FFFF024},
    "arecord's pipe": {"data_size": 0x80000000, "riff_size": 0x80000024},
    "ffmpeg's pipe": {"data_size": 0xFFFFFFFF, "riff_size": 0xFFFFFFFF},
    "the largest int": {"data_size": 0x7FFFFFFF, "riff_size": 0x7FFFFFFF},
    "size of the file": {"riff_size": 2 * len(SAMPLES) + 44},
    "header counted in": {"data_size": 2 * len(SAMPLES) + 44},
    "big-endian": {"order": ">"},
    "odd chunk, padded": {"before": b"LIST" + struct.pack("<I", 5) + b"INFOx\0"},
    "odd chunk, no pad": {"before": b"LIST" + struct.pack("<I", 5) + b"INFOx"},
    "cut in metadata": {"after": b"LIST" + struct.pack("<I", 500) + b"INFO"},
}
PLACEHOLDERS = ("sox's pipe", "arecord's pipe", "ffmpeg's pipe", "the largest int")


@pytest.mark.parametrize("name", WRONG_SIZES)
def test_sizes_that_are_wrong_while_all_samples_are_there(name):
    (decoded,), notes = read(wav(SAMPLES, **WRONG_SIZES[name]))
    placeholder_notes = ("has a header without a length, as from a pipe: its end may be missing.",)
    assert len(decoded) == len(SAMPLES) and notes == (placeholder_notes if name in PLACEHOLDERS else ())
    np.testing.assert_allclose(decoded[:, 0], SAMPLES, atol=1e-4)


@pytest.mark.parametrize("sizes", [{"data_size": 0, "riff_size": 0}, {"data_size": 0, "riff_size": 36}])
def test_a_header_that_was_never_finished_is_read_on_and_told_of(sizes):
    (decoded,), notes = read(wav(SAMPLES, **sizes))
    assert len(decoded) == len(SAMPLES) and "never finished" in notes[0]
    au = bytearray(content_of(SAMPLES, format="AU", subtype="PCM_16"))
    au[8:12] = bytes(4)
    (decoded,), notes = read(bytes(au))
    assert len(decoded) == len(SAMPLES) and "never finished" in notes[0]
    aiff = bytearray(content_of(SAMPLES, format="AIFF", subtype="PCM_16"))
    place = aiff.index(b"SSND") + 4
    aiff[place : place + 4], aiff[4:8] = bytes(4), bytes(4)
    (decoded,), notes = read(bytes(aiff))
    assert len(decoded) == len(SAMPLES) and "never finished" in notes[0]


def test_an_empty_recording_stays_empty():
    assert len(read(wav(np.zeros(0)))[0][0]) == 0
    with_metadata = wav(np.zeros(0), after=b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert len(read(with_metadata)[0][0]) == 0


def test_chained_ogg_and_joined_mp3_are_all_of_it():
    for container in ("OGG", "MP3"):
        first, second = (content_of(speech(seed=seed), format=container) for seed in (1, 2))
        alone = [read(content)[0][0] for content in (first, second)]
        parts, notes = read(first + second)
        assert len(parts) == 2 and notes == ()
        for part, expected in zip(parts, alone, strict=True):
            np.testing.assert_allclose(part, expected, atol=1e-6)


def ogg_without_end(content):
    last = content.rindex(b"OggS")
    page = bytearray(content)
    page[last + 5] &= ~4
    page[last + 22 : last + 26] = bytes(4)
    crc = 0
    for byte in page[last:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    page[last + 22 : last + 26] = struct.pack("<I", crc)
    return bytes(page)


def test_an_ogg_whose_last_page_is_not_marked_is_taken_and_told_of():
    content = content_of(speech(), format="OGG")
    for tail in (b"", bytes(70_000)):
        (decoded,), notes = read(ogg_without_end(content) + tail)
        assert len(decoded) == len(speech()) and "no last page" in notes[0]


def without_xing(content):
    """An MP3 of libsndfile begins with a frame that holds a Xing or Info header: the rest is the recording."""
    second = content.index(content[:2], 10)
    assert b"Xing" in content[:second] or b"Info" in content[:second]
    return content[second:]


def test_an_mp3_without_a_header_of_lengths_is_read_to_its_end():
    """Frames of very different sizes: the bit rate of the first says nothing of the number."""
    samples = np.concatenate([0.001 * speech(1.5), speech(4.0), 0.001 * speech(1.5)])
    bare = without_xing(content_of(samples, format="MP3", bitrate_mode="VARIABLE", compression_level=0.2))
    for tail in (b"", b"TAG" + bytes(125), bytes(3000), b"\xff\x00" * 1500):
        (decoded,), notes = read(bare + tail)
        assert abs(len(decoded) - len(samples)) < 3 * 1152 and notes == ()
    _, notes = read(bare[:-20])
    assert "ends within a frame" in notes[0]


def test_headers_that_promise_billions_cost_nothing():
    flac = bytearray(content_of(speech(), format="FLAC"))
    flac[21] |= 0x0F  # the highest bits of the number of samples
    with pytest.raises(NotReadable, match="is truncated|is damaged"):
        read(bytes(flac))
    mp3 = bytearray(content_of(speech(), format="MP3"))
    place = mp3.index(b"Info" if b"Info" in mp3 else b"Xing") + 8
    mp3[place : place + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(NotReadable, match="is truncated"):
        read(bytes(mp3))


@pytest.mark.parametrize("rate", [1, 441, 4_410_000])
def test_rates_at_which_no_speech_is_recorded(rate):
    content = bytearray(wav(SAMPLES))
    content[24:28] = struct.pack("<I", rate)
    with pytest.raises(NotReadable, match=f"sampling rate of {rate} Hz: speech is recorded at 2000 to 1000000 Hz"):
        read(bytes(content))


def test_random_damage_ends_in_a_sentence_or_in_samples():
    generator = np.random.default_rng(0)
    whole = [
        content_of(speech(0.3), format=container)
        for container in ("WAV", "AIFF", "W64", "CAF", "AU", "OGG", "MP3", "FLAC")
    ]
    for number in range(400):
        content = bytearray(whole[number % len(whole)])
        for place in generator.integers(len(content), size=4):
            content[place] = generator.integers(256)
        if generator.random() < 0.3:
            content = content[: generator.integers(len(content))]
        try:
            parts, _ = read(bytes(content))
        except NotReadable as error:
            assert "\n" not in str(error) and str(error).endswith(".")
        else:
            assert sum(part.size for part in parts) <= 40 * len(content)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_pages_that_are_missing_or_changed_are_found(subtype):
    """libsndfile reads on behind a hole and, where it is asked for the rest, gives the end twice."""
    whole = content_of(np.tile(SAMPLES, 12)[: 15 * RATE], format="OGG", subtype=subtype)
    pages = [place for place in range(len(whole)) if whole[place : place + 4] == b"OggS"]
    (decoded,), notes = read(whole)
    assert notes == () and abs(len(decoded) - 15 * RATE) < RATE
    holes = [whole[: pages[5]] + whole[pages[5 + count] :] for count in (1, 3)]
    changed = bytearray(whole)
    changed[(pages[5] + pages[6]) // 2] ^= 1
    for content in (*holes, bytes(changed)):
        with pytest.raises(NotReadable, match="a page of it is missing or changed"):
            read(content)
    first = next(place for place in pages if any(whole[place + 6 : place + 14]))  # before it are the headers
    started_late = whole[:first] + whole[pages[pages.index(first) + 1] :]  # as a stream is recorded from its middle on
    assert len(read(started_late)[0][0]) > 0


def test_an_mp3_whose_header_the_decoder_does_not_see_is_read_whole():
    content = bytearray(content_of(np.tile(SAMPLES, 6), format="MP3"))
    whole = len(read(bytes(content))[0][0])
    content[6] ^= 32  # a bit of the side information, after which mpg123 takes the frame for sound
    assert abs(len(read(bytes(content))[0][0]) - whole) < 4 * 1152


def test_joined_recordings_are_read_or_told_of():
    flac = content_of(SAMPLES, format="FLAC")
    parts, notes = read(flac + flac)
    assert notes == () and [len(part) for part in parts] == 2 * [len(SAMPLES)]
    for kind in ("AU", "CAF", "W64", "NIST"):
        content = content_of(SAMPLES, format=kind, subtype="PCM_16")
        assert read(content)[1] == ()
        (decoded,), notes = read(content + content)
        assert len(decoded) == len(SAMPLES) and "is followed by another recording" in notes[0], kind


@pytest.mark.parametrize(("kind", "place", "form"), [("CAF", 12, ">q"), ("W64", 56, "<Q")])
def test_a_chunk_that_ends_nowhere_is_a_sentence(kind, place, form):
    content = bytearray(content_of(SAMPLES, format=kind, subtype="PCM_16"))
    for length in (2**62, 2**63 - 1):
        content[place : place + 8] = struct.pack(form, length)
        with pytest.raises(NotReadable, match="give wav, flac, ogg or mp3|truncated"):
            read(bytes(content))
