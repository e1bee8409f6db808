import os
import subprocess

import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.transcoding import remove_partial_files, transcode


@pytest.fixture
def m4a(tmp_path, ffmpeg):
    source = tmp_path / "in" / "-é weird.m4a"
    source.parent.mkdir()
    tone = ["-f", "lavfi", "-i", "sine=440:d=2:r=44100", "-ac", "2", "-c:a", "aac"]
    subprocess.run([ffmpeg, "-v", "error", *tone, f"file:{source}"], check=True)
    return source


def test_m4a_becomes_16_khz_mono_flac_once(tmp_path, ffmpeg, m4a):
    target = tmp_path / "out" / "a" / "1.flac"
    transcode(m4a, target, ffmpeg)
    samples, rate = soundfile.read(target)
    assert rate == 16000 and samples.ndim == 1 and abs(len(samples) - 32000) < 2048
    assert np.abs(np.fft.rfft(samples[4000:20000])).argmax() == 440
    before = target.stat().st_mtime_ns
    transcode(m4a, target, "/nowhere/ffmpeg")  # not run again
    assert target.stat().st_mtime_ns == before
    other = tmp_path / "out" / "b.flac"
    transcode(m4a, other, ffmpeg)
    assert other.read_bytes() == target.read_bytes()


def test_damaged_and_malicious_files_leave_nothing(tmp_path, ffmpeg, m4a):
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, np.zeros(16000), 16000)
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n".encode()
    whole = m4a.read_bytes()
    contents = (b"", whole[: len(whole) // 2], b"nonsense" * 100, playlist)
    reasons = ("is empty", "cannot be transcoded", "cannot be read", "cannot be read")
    for number, (content, reason) in enumerate(zip(contents, reasons, strict=True)):
        bad = tmp_path / "in" / f"bad{number}.m4a"
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=f"bad{number}.m4a' {reason}"):
            transcode(bad, tmp_path / "out" / f"{number}.flac", ffmpeg)
    with pytest.raises(FileNotFoundError, match="no recording at"):
        transcode(tmp_path / "in" / "none.m4a", tmp_path / "out" / "none.flac", ffmpeg)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_said(tmp_path, m4a):
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\necho 'out.flac: No space left on device' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(OSError, match="disk is full .* run the same command again"):
        transcode(m4a, tmp_path / "1.flac", str(fake))


def test_what_a_killed_run_left_goes(tmp_path):
    (tmp_path / "a").mkdir()
    left, kept = tmp_path / "a" / ".1.flac.77.partial", tmp_path / "a" / "1.flac"
    left.touch()
    kept.touch()
    remove_partial_files(tmp_path)
    assert kept.exists() and not left.exists()


def test_what_a_living_process_writes_stays(tmp_path):
    dead, running, other = (
        tmp_path / f".{name}.partial" for name in ("abc.999999999.1", f"abc.{os.getpid()}.1", "odd")
    )
    for file in (dead, running, other):
        file.touch()
    remove_partial_files(tmp_path)
    assert running.exists() and not dead.exists() and not other.exists()


def test_matroska_that_is_cut_is_no_recording(tmp_path, ffmpeg):
    make = ["-v", "error", "-f", "lavfi", "-i", "sine=440:d=5", "-c:a", "libopus", str(tmp_path / "whole.webm")]
    subprocess.run([ffmpeg, *make], check=True)
    whole = (tmp_path / "whole.webm").read_bytes()
    (tmp_path / "a.webm").write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(ValueError, match="a.webm' is truncated"):
        transcode(tmp_path / "a.webm", tmp_path / "a.flac", ffmpeg)
    assert not (tmp_path / "a.flac").exists()
