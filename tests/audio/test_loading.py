import io
import re
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.forms import ACCEPTED_SOURCES
from modeling_oskdft.audio.loading import count_samples, load_audio, read_crop
from tests.light import LIGHT


def tone(seconds=1.0, rate=16000, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(2.0), 16000)
    return tmp_path / "a.flac"


def test_every_kind_of_source_is_the_same_recording(file):
    expected = load_audio(file)
    assert expected.dtype == np.float32 and expected.shape == (32000,)
    content = file.read_bytes()
    sources = [
        str(file),
        content,
        io.BytesIO(content),
        expected,
        (expected, 16000),
        {"bytes": content, "path": "x.flac"},
        {"bytes": None, "path": str(file)},
        {"array": expected, "sampling_rate": 16000},
    ]
    for source in sources:
        np.testing.assert_array_equal(load_audio(source), expected)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_resampled(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate), rate)
    loaded = load_audio(tmp_path / "a.wav")
    assert abs(len(loaded) - 16000) <= 1
    assert np.corrcoef(loaded[2000:14000], tone()[2000:14000])[0, 1] > 0.999


def test_channels_are_mixed(tmp_path):
    left, right = tone(), tone(frequency=880)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-6)
    np.testing.assert_allclose(load_audio((np.stack([left, right]), 16000)), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("extension", ["flac", "wav"])
def test_a_crop_is_a_part_of_the_whole(tmp_path, extension):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 40000).astype(np.float32)
    file = tmp_path / f"a.{extension}"
    soundfile.write(file, noise, 16000)
    whole = load_audio(file)
    for position, start in ((0.0, 0), (0.999999, 8000), (0.5, 4000)):
        np.testing.assert_array_equal(read_crop(file, 32000, position), whole[start : start + 32000])
    # The last start is as likely as any other: the authors' newer code never reaches the last 20 ms.
    assert int(0.999999 * 8001) == 8000


def test_a_short_recording_is_repeated_from_its_start(file):
    whole = load_audio(file)
    crop = read_crop(file, 80000, 0.7)
    np.testing.assert_array_equal(crop, whole[np.arange(80000) % 32000])


def test_a_crop_of_another_rate_and_several_channels(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(3.0, 48000)] * 2, axis=1), 48000)
    crop = read_crop(tmp_path / "a.wav", 16000, 0.3)
    assert crop.shape == (16000,) and np.abs(crop).max() == pytest.approx(0.5, abs=0.01)


def test_a_crop_never_decodes_the_whole_file(file, monkeypatch):
    read = []
    original = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **k: read.append(n) or original(self, n, **k))
    read_crop(file, 8000, 0.4)
    assert read == [8000]


def test_length_from_the_header(tmp_path, file):
    assert count_samples(file) == 32000
    soundfile.write(tmp_path / "b.wav", tone(1.0, 8000), 8000)
    assert count_samples(tmp_path / "b.wav") == 16000


def truncated(tmp_path: Path, extension="flac", **options) -> Path:
    file = tmp_path / f"t.{extension}"
    soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, 80000), 16000, **options)
    load_audio(file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file


def truncated_wav(tmp_path: Path) -> Path:
    return truncated(tmp_path, "wav")


def truncated_vorbis(tmp_path: Path) -> Path:
    return truncated(tmp_path, "ogg")


def truncated_opus(tmp_path: Path) -> Path:
    return truncated(tmp_path, "ogg", subtype="OPUS")


def empty(tmp_path: Path) -> Path:
    with wave.open(str(tmp_path / "e.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    return tmp_path / "e.wav"


def not_audio(tmp_path: Path) -> Path:
    (tmp_path / "n.wav").write_text("this is a letter")
    return tmp_path / "n.wav"


def zero_bytes(tmp_path: Path) -> Path:
    (tmp_path / "z.wav").touch()
    return tmp_path / "z.wav"


def not_finite(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "i.wav", np.full(16000, np.inf), 16000, subtype="FLOAT")
    return tmp_path / "i.wav"


BAD_FILES = [truncated, truncated_wav, truncated_vorbis, truncated_opus, empty, not_audio, zero_bytes, not_finite]


@pytest.mark.parametrize("make", BAD_FILES)
@pytest.mark.parametrize("read", [load_audio, lambda file: read_crop(file, 80000, 0.9)])
def test_a_bad_file_gets_one_sentence_with_its_name(tmp_path, make, read):
    file = make(tmp_path)
    with pytest.raises(ValueError, match=file.name) as error:
        read(file)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_truncated_file_is_found_in_bytes_and_open_files_too(tmp_path):
    content = truncated_wav(tmp_path).read_bytes()
    for source in (content, io.BytesIO(content)):
        with pytest.raises(ValueError, match="is truncated"):
            load_audio(source)


def test_another_kind_of_object_is_named():
    with pytest.raises(TypeError, match=f"A int was given: {re.escape(ACCEPTED_SOURCES)} is needed"):
        load_audio(3)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recording at .*nowhere.wav"):
        load_audio(tmp_path / "nowhere.wav")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 16000), np.float32), "bare array of shape.*give \\(array, rate\\)"),
        ((np.zeros(16000, np.int16), 16000), "array of int16.*full scale"),
        ((np.zeros((1, 2, 3)), 16000), "shape \\(1, 2, 3\\)"),
        ((np.zeros(0), 16000), "no samples"),
        ((np.full(100, np.nan), 16000), "NaN or infinite"),
        ((np.zeros(100), 0), "rate of 0 Hz"),
        ({"sampling_rate": 3}, "audio dict"),
    ],
)
def test_a_bad_array_gets_one_sentence(source, message):
    with pytest.raises(ValueError, match=message):
        load_audio(source)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.wav")
    os.symlink("self.wav", tmp_path / "self.wav")
    for read in (load_audio, count_samples):
        with pytest.raises(ValueError, match="is no file but a folder, a pipe or a device"):
            read(str(tmp_path / "pipe.wav"))
        with pytest.raises(FileNotFoundError, match="no recording at"):
            read(str(tmp_path / "self.wav"))


def test_the_missing_end_of_a_flac_is_noticed_without_decoding_it(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).normal(size=64000) * 0.1, 16000)
    whole = (tmp_path / "a.flac").read_bytes()
    assert count_samples(str(tmp_path / "a.flac")) == 64000
    for share in (0.5, 0.9, 0.99):
        (tmp_path / "a.flac").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match="a.flac' is (damaged|truncated)"):
            count_samples(str(tmp_path / "a.flac"))


def test_arrays_of_every_kind_are_the_same_recording():
    import torch

    samples = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    expected = load_audio((samples, 8000))
    for other in (samples.astype("f8"), samples.astype(">f4"), samples.astype(np.longdouble)):
        np.testing.assert_allclose(load_audio((other, 8000)), expected, atol=1e-6)
    np.testing.assert_allclose(load_audio((samples.astype("f2"), 8000)), expected, atol=1e-3)
    with_gradient = torch.tensor(samples, requires_grad=True)
    for source in (with_gradient, (with_gradient, 16000), {"array": with_gradient, "sampling_rate": 16000}):
        np.testing.assert_array_equal(load_audio(source), samples)
    np.testing.assert_array_equal(load_audio([samples, 16000]), samples)


class Decoder:
    """What `datasets` >= 4 hands over: subscriptable, and no Mapping."""

    def __init__(self, array, rate):
        self.values = {"array": array, "sampling_rate": rate}

    def __getitem__(self, key):
        return self.values[key]


def test_an_audio_decoder_is_a_recording():
    np.testing.assert_array_equal(load_audio(Decoder(tone(), 16000)), tone())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((16000, np.zeros(100, np.int16)), r"\(rate, array\) was given: the order is \(array, rate\)"),
        ((tone(), None), "sampling rate of None: a whole number of Hz"),
        ((tone(), 44.1), "sampling rate of 44.1: a whole number"),
        ((tone(), 441), "sampling rate of 441 Hz: speech is recorded at"),
        ((tone(), "16000"), "sampling rate of '16000'"),
        ((tone(),), "A tuple of 1 was given"),
        ({"array": tone()}, "'sampling_rate' is needed beside 'array'"),
        ((np.full(100, 3e38, np.float32), 16000), "samples that reach 3.0e"),
        ((np.full(100, 1e300), 16000), "NaN or infinite"),
    ],
)
def test_pairs_and_dicts_that_cannot_be_are_said(source, message):
    with pytest.raises(ValueError, match=message):
        load_audio(source)


def test_an_open_file_is_read_from_its_start_and_left_where_it_was(file):
    expected = load_audio(file)
    with open(file, "rb") as handle:
        handle.seek(100)
        for _ in range(2):
            np.testing.assert_array_equal(load_audio(handle), expected)
            assert handle.tell() == 100
    written = io.BytesIO()
    written.write(file.read_bytes())  # at its end
    np.testing.assert_array_equal(load_audio(written), expected)
    with pytest.raises(ValueError, match="is closed: open it again"):
        load_audio(handle)
    with (
        open(file, encoding="latin-1") as text,
        pytest.raises(TypeError, match="was opened as text: open it with mode"),
    ):
        load_audio(text)


def test_a_stream_that_cannot_seek_is_read_once(file):
    class Stream(io.RawIOBase):
        content = file.read_bytes()

        def readable(self):
            return True

        def read(self, size=-1):
            self.content, content = b"", self.content
            return content

    np.testing.assert_array_equal(load_audio(Stream()), load_audio(file))


def test_channels_that_cancel_are_named_and_one_can_be_taken(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 16000)
    soundfile.write(tmp_path / "s.wav", np.stack([samples, -samples], axis=1), 16000)
    with pytest.raises(ValueError, match="s.wav' has channels that cancel.*channel 0 to 1"):
        load_audio(tmp_path / "s.wav")
    np.testing.assert_allclose(load_audio(tmp_path / "s.wav", channel=1), -samples, atol=1e-4)
    with pytest.raises(ValueError, match="channel is 2: .*s.wav' has channels 0 to 1"):
        load_audio(tmp_path / "s.wav", channel=2)
    soundfile.write(tmp_path / "d.wav", np.stack([samples, 0 * samples], axis=1), 16000)
    np.testing.assert_allclose(load_audio(tmp_path / "d.wav"), samples, atol=1e-4)  # a dead channel is left out


def test_names_that_are_not_utf_8_and_names_of_any_language(tmp_path, file):
    import os
    import subprocess
    import sys

    for name in (b"caf\xe9.flac", "話者 1.flac".encode(), b"with\nbreak.flac"):
        place = os.fsencode(tmp_path) + b"/" + name
        with open(place, "wb") as target:
            target.write(file.read_bytes())
        assert len(load_audio(os.fsdecode(place))) == 32000
        code = LIGHT + "from modeling_oskdft.audio.loading import load_audio; print(len(load_audio(sys.argv[1])))"
        environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, env=environment)
        assert done.stdout == "32000\n", done.stderr
    with pytest.raises(FileNotFoundError, match=r"no recording at 'caf\\xe9.wav'"):
        load_audio(os.fsdecode(b"caf\xe9.wav"))


def test_an_unreadable_file_is_said_to_be_one(file, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError, match="a.flac' may not be read: permission is denied"):
        load_audio(file)


def test_a_raw_file_has_no_header(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(32000))
    with pytest.raises(ValueError, match="a.raw' has no header"):
        load_audio(tmp_path / "a.raw")


def test_an_end_that_cannot_be_known_is_a_warning(tmp_path):
    from tests.audio.test_decoding import ogg_without_end

    samples = np.random.default_rng(0).normal(0, 0.1, 24000)
    soundfile.write(tmp_path / "a.ogg", samples, 16000)
    (tmp_path / "a.ogg").write_bytes(ogg_without_end((tmp_path / "a.ogg").read_bytes()))
    with pytest.warns(UserWarning, match="a.ogg' has no last page: its end may be missing"):
        assert len(load_audio(tmp_path / "a.ogg")) == 24000


@pytest.mark.parametrize("kind", ["GSM610", "G721_32"])
def test_crops_of_codecs_that_cannot_seek(tmp_path, kind):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 32000), 16000, subtype=kind)
    whole = load_audio(tmp_path / "a.wav")
    start = int(0.5 * (len(whole) - 8000 + 1))
    np.testing.assert_array_equal(read_crop(tmp_path / "a.wav", 8000, 0.5), whole[start : start + 8000])


def test_the_cases_that_went_wrong_elsewhere(shared):
    """Their expected lengths; what each file is: cases/README.md of the shared folder."""
    place = shared / "cases" / "audio"
    if not place.is_dir():
        pytest.skip("the shared folder has no cases")
    lengths = {
        **dict.fromkeys(("pipe_sox", "riff_is_file_size", "kind_rifx", "list_odd_before_data", "zero_sizes"), 43466),
        **dict.fromkeys(("riff8_data0", "trailing_junk", "whole_wavex16", "whole_rf64", "one_channel_dead"), 43466),
        "odd_24bit_no_pad": 32001,
    }
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, samples in lengths.items():
            assert len(load_audio(place / f"{name}.wav")) == samples == count_samples(place / f"{name}.wav"), name
        assert abs(len(load_audio(place / "vbr_no_xing.mp3")) - 44900) < 600
        assert abs(len(load_audio(place / "two_mp3.mp3")) - 103200) < 2500
        assert len(load_audio(place / "whole_aiff.aiff")) == len(load_audio(place / "no_eos_vorbis.ogg")) == 43466
    for name in ("cut_wav.wav", "cut_wavex16.wav", "cut_rf64.wav", "cut_aiff.aiff", "cut_vorbis.ogg"):
        with pytest.raises(ValueError, match="is truncated"):
            load_audio(place / name)


def content_of(samples, kind):
    written = io.BytesIO()
    soundfile.write(written, samples, 16000, format=kind)
    return written.getvalue()


def test_flac_from_a_pipe_is_read_to_its_end():
    whole = (np.sin(np.arange(48000) / 20) * 0.3).astype(np.float32)
    content = bytearray(content_of(whole, "FLAC"))
    content[21] &= 0xF0  # the number of samples, which a pipe cannot write
    content[22:26] = bytes(4)
    with pytest.warns(UserWarning, match="has a header without a length"):
        assert len(load_audio(bytes(content))) == 48000
    assert count_samples(bytes(content)) == 48000
    assert len(read_crop(bytes(content), 16000, 0.5)) == 16000


def test_an_empty_stream_between_others_is_passed_over():
    voice = (np.sin(np.arange(16000) / 20) * 0.3).astype(np.float32)
    full, empty = content_of(voice, "OGG"), content_of(voice[:0], "OGG")
    assert len(load_audio(full + empty + full)) == 32000
