import io

import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.loading import load_audio, open_track
from modeling_oskdft.audio.track import Track, weights_of, windows_over

RATE = 16000


def long_recording(seconds, channels=1, rate=RATE):
    generator = np.random.default_rng(0)
    return (0.1 * generator.normal(size=(round(seconds * rate), channels))).astype(np.float32)


def as_flac(samples, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


@pytest.mark.parametrize("seconds", [3, 31, 65.3])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_track_holds_what_load_audio_reads(seconds, rate):
    content = as_flac(long_recording(seconds, rate=rate), rate)
    whole, track = load_audio(content), open_track(content).track
    assert abs(len(track) - len(whole)) <= 1
    np.testing.assert_allclose(track.read()[: len(whole)], whole[: len(track)], atol=2e-3)
    np.testing.assert_array_equal(np.concatenate(list(track.blocks())), track.read())
    np.testing.assert_array_equal(track.read(16000, 16100), track.read()[16000:16100])


def test_a_dead_channel_is_left_out_of_a_long_recording_as_of_a_short_one():
    samples = long_recording(40, channels=3)
    samples[:, 1] = 0.25  # a constant is no sound
    content = as_flac(samples)
    np.testing.assert_allclose(open_track(content).track.read(), load_audio(content), atol=1e-6)
    np.testing.assert_array_equal(open_track(content, channel=2).track.read(), load_audio(content, channel=2))
    assert float(open_track(as_flac(np.full((RATE * 40, 2), 0.5))).track.read().std()) == 0


def test_channels_that_cancel_are_refused_however_long():
    samples = long_recording(40)
    content = as_flac(np.concatenate([samples, -samples], axis=1))
    with pytest.raises(ValueError, match="channels that cancel each other when they are mixed"):
        open_track(content)
    with pytest.raises(ValueError, match="channel is 2: The audio file has channels 0 to 1"):
        open_track(content, channel=2)


def test_the_first_seconds_alone():
    content = as_flac(long_recording(40))
    for seconds in (0.5, 10, 35):
        part = open_track(content, max_seconds=seconds).track
        np.testing.assert_array_equal(part.read(), load_audio(content)[: round(seconds * RATE)])
    assert len(open_track(long_recording(40)[:, 0], max_seconds=2).track) == 2 * RATE
    with pytest.raises(ValueError, match="max_seconds is 0: a number of seconds above 0 is needed"):
        open_track(content, max_seconds=0)


def test_a_long_recording_whose_end_is_missing_is_refused():
    content = as_flac(long_recording(60))
    with pytest.raises(ValueError, match="truncated|damaged"):
        open_track(content[: len(content) // 2])


def test_windows_cover_the_speech_and_nothing_else():
    def speech_between(start, stop):  # speech from 12 s to 18 s and from 30.2 s on
        return sum(max(0, min(stop / RATE, high) - max(start / RATE, low)) for low, high in ((12, 18), (30.2, 99)))

    windows = windows_over(speech_between, round(36.5 * RATE))
    edges = [(window.start // RATE, round(window.stop / RATE, 1)) for window in windows]
    assert edges == [(12, 14.0), (14, 16.0), (16, 18.0), (30, 32.0), (32, 34.0), (34, 36.5)]
    assert weights_of(windows) == pytest.approx(np.array([2, 2, 2, 1.8, 2, 2.5]) / 12.3)
    (whole,) = windows_over(speech_between, 30 * RATE)
    assert (whole.start, whole.stop) == (0, 30 * RATE)
    (loudest,) = windows_over(lambda start, stop: 0.0, 50 * RATE)
    assert weights_of([loudest]).tolist() == [1.0]


def test_an_array_is_a_track():
    assert Track(np.arange(5, dtype=np.float32)).read(1, 3).tolist() == [1, 2]
