import io
import subprocess

import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.ffmpeg import container_in, container_of, end_is_known
from modeling_oskdft.audio.loading import count_samples, load_audio, read_crop
from modeling_oskdft.audio.loading import ffmpeg as module

FORMS = {
    **{"m4a": ["-c:a", "aac"], "mp4": ["-c:a", "aac"], "webm": ["-c:a", "libopus"], "aac": ["-c:a", "aac"]},
    **{"avi": ["-c:a", "mp2"], "mpg": ["-c:a", "mp2"], "ac3": ["-c:a", "ac3"], "tta": ["-c:a", "tta"]},
    "flv": ["-c:a", "aac"],
}


@pytest.fixture(params=FORMS)
def recording(request, tmp_path, ffmpeg):
    file = tmp_path / f"a.{request.param}"
    tone = ["-f", "lavfi", "-i", "sine=440:d=2:r=48000"]
    subprocess.run([ffmpeg, "-v", "error", *tone, "-ac", "2", *FORMS[request.param], str(file)], check=True)
    return file


def test_what_telephones_and_browsers_make_is_read_by_every_door(recording):
    waveform = load_audio(recording)
    assert abs(len(waveform) - 32000) < 2500
    assert np.abs(np.fft.rfft(waveform[8000:24000])).argmax() == 440
    np.testing.assert_array_equal(load_audio(recording.read_bytes()), waveform)
    with recording.open("rb") as file:
        np.testing.assert_array_equal(load_audio(file), waveform)
    assert count_samples(recording) == len(waveform)
    crop = read_crop(recording, 8000, 0.5)
    start = int(0.5 * (len(waveform) - 8000 + 1))
    # Resampling rings where a crop begins.
    np.testing.assert_allclose(crop[50:], waveform[start + 50 : start + 8000], atol=2e-2)


def test_a_cut_m4a_is_refused(tmp_path, ffmpeg):
    file = tmp_path / "a.m4a"
    subprocess.run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=440:d=5", "-c:a", "aac", str(file)], check=True)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a.m4a' is damaged or truncated \("):
        load_audio(file)


def test_without_ffmpeg_the_sentence_names_it(tmp_path, monkeypatch):
    def none():
        raise FileNotFoundError

    monkeypatch.setattr(module, "find_ffmpeg", none)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(ValueError, match="a.m4a' holds audio that ffmpeg reads.*install ffmpeg"):
        load_audio(tmp_path / "a.m4a")


def test_the_content_decides_and_not_the_name(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    (tmp_path / "a.wav").rename(tmp_path / "a.m4a")
    assert len(load_audio(tmp_path / "a.m4a")) == 16000
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    assert container_of(playlist) is None
    with pytest.raises(ValueError, match="cannot be read"):
        load_audio(io.BytesIO(playlist))


@pytest.mark.parametrize(
    ("start", "container"),
    [
        (b"\0\0\0\x08wide\0\0", "mov"),
        (b"\0\0\0\x08free\0\0", "mov"),
        (b"\xff\xf0\x50\x80", "aac"),
        (b"\xff\xf8\x50\x80", "aac"),
        (b"\xff\xfb\x50\x80", None),
    ],
)
def test_containers_are_known_by_what_they_begin_with(start, container):
    assert container_of(start) == container


def test_the_end_of_a_segment_is_where_its_size_says():
    head = b"\x1a\x45\xdf\xa3\x84webm" + b"\x18\x53\x80\x67"
    assert end_is_known("matroska", io.BytesIO(head + b"\x84" + bytes(4)))
    assert not end_is_known("matroska", io.BytesIO(head + b"\x01" + b"\xff" * 7 + bytes(4)))  # as browsers write it
    with pytest.raises(ValueError, match="its end is missing"):
        end_is_known("matroska", io.BytesIO(head + b"\x10\x00\x00\x05" + bytes(4)))
    assert end_is_known("mov", io.BytesIO(b"")) and not end_is_known("aac", io.BytesIO(b""))


def test_an_id3_tag_before_the_audio_is_passed_over():
    tag = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)
    assert container_in(io.BytesIO(tag + b"\xff\xf1\x50\x80")) == "aac"
    assert container_in(io.BytesIO(tag + b"\xff\xfb\x50\x80")) is None


def test_a_stream_without_an_end_is_told_of(ffmpeg):
    make = ["-v", "error", "-f", "lavfi", "-i", "sine=440:d=2", "-c:a", "libopus", "-f", "webm", "pipe:1"]
    content = subprocess.run([ffmpeg, *make], capture_output=True, check=True).stdout
    with pytest.warns(UserWarning, match="its end may be missing"):
        assert len(load_audio(content)) > 16000


def test_ffmpeg_is_not_waited_for_without_end(ffmpeg):
    slow = ["-re", "-f", "lavfi", "-i", "sine=440:d=60", "-f", "null", "-"]
    assert module.run_ffmpeg(ffmpeg, slow, patience=0.5) == (b"", "ffmpeg took more than 0 s")


def test_what_is_too_long_for_one_reading_is_refused(ffmpeg, monkeypatch):
    make = ["-v", "error", "-f", "lavfi", "-i", "sine=440:d=4", "-c:a", "aac", "-f", "adts", "pipe:1"]
    content = subprocess.run([ffmpeg, *make], capture_output=True, check=True).stdout
    monkeypatch.setattr(module, "LONGEST", 1)
    with pytest.raises(ValueError, match="is longer than 0.0 hours"):
        load_audio(content)
