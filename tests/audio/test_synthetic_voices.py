from itertools import pairwise

import numpy as np
import pytest

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.audio.synthetic_voices import draw_session, draw_voice, iterate_voices, synthesise, write_voices
from modeling_oskdft.data.trials import make_trials
from modeling_oskdft.scoring.metrics import equal_error_rate


@pytest.fixture(scope="module")
def corpus():
    return dict(iterate_voices(speakers=16, sessions=3, utterances=2, seed=5))


def eer(corpus, feature):
    features = {name: feature(waveform) for name, waveform in corpus.items()}
    matrix = np.stack(list(features.values()))
    features = {name: (value - matrix.mean(0)) / (matrix.std(0) + 1e-9) for name, value in features.items()}
    speakers: dict[str, list[str]] = {}
    for name in corpus:
        speakers.setdefault(name.split("/")[0], []).append(name)
    trials = make_trials(speakers)
    pairs = [(features[a], features[b]) for a, b in zip(trials.enrolments, trials.tests, strict=True)]
    return equal_error_rate([-np.linalg.norm(a - b) for a, b in pairs], trials.labels).value


def level(waveform):
    frames = np.square(waveform[: len(waveform) // 160 * 160]).reshape(-1, 160).mean(1)
    decibels = 10 * np.log10(frames + 1e-10)
    return np.array([decibels.mean(), decibels.std()])


def cepstra(waveform):
    """Mean and deviation of cepstra over frames: a crude ear."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::256] * np.hanning(512)
    edges = np.geomspace(3, 257, 41).astype(int)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    bands = np.log(np.stack([power[:, a : max(b, a + 1)].mean(1) for a, b in pairwise(edges)], axis=1) + 1e-9)
    coefficients = bands @ np.cos(np.pi * np.outer(np.arange(40) + 0.5, np.arange(1, 21)) / 40)
    return np.concatenate([coefficients.mean(0), coefficients.std(0)])


def test_loudness_and_duration_tell_nobody_apart(corpus):
    assert eer(corpus, level) > 0.38
    assert eer(corpus, lambda waveform: np.array([float(len(waveform))])) > 0.42


def test_the_voice_does(corpus):
    assert eer(corpus, cepstra) < 0.3


def test_everything_is_a_function_of_the_seed(corpus):
    again = dict(iterate_voices(speakers=2, sessions=1, utterances=1, seed=5))
    for name, waveform in again.items():
        np.testing.assert_array_equal(waveform, corpus[name])
    other = dict(iterate_voices(speakers=1, sessions=1, utterances=1, seed=6))
    name = "voice000/session0/00"
    assert len(other[name]) != len(corpus[name]) or not np.array_equal(other[name], corpus[name])


def test_waveforms_are_waveforms(corpus):
    for waveform in corpus.values():
        assert waveform.dtype == np.float32 and np.isfinite(waveform).all()
        assert 0 < np.abs(waveform).max() <= 1.0 and 2.5 * 16000 <= len(waveform) <= 4.5 * 16000


def test_the_pitch_is_the_speaker_s():
    generator = np.random.default_rng(0)
    voice = draw_voice(generator)._replace(pitch=150.0, pitch_range=0.1, jitter=0.0, breathiness=1e-3)
    session = draw_session(generator)._replace(noise_db=60.0)
    waveform = synthesise(voice, session, 3.0, generator)
    spectrum = np.abs(np.fft.rfft(waveform, 2**18))
    autocorrelation = np.fft.irfft(spectrum**2)[: 16000 // 50]
    period = 80 + np.argmax(autocorrelation[80:160])  # 100 to 200 Hz
    assert 16000 / period == pytest.approx(150.0, rel=0.12)


def test_files_are_written_once_and_whole(tmp_path):
    write_voices(tmp_path, 2, 1, 2, seed=1)
    files = sorted(tmp_path.rglob("*.flac"))
    assert len(files) == 4 and not list(tmp_path.rglob("*.partial"))
    stamp = files[0].stat().st_mtime_ns
    files[1].unlink()
    write_voices(tmp_path, 2, 1, 2, seed=1)
    assert files[0].stat().st_mtime_ns == stamp and files[1].exists()
    expected = dict(iterate_voices(2, 1, 2, seed=1))["voice000/session0/01"]
    np.testing.assert_allclose(load_audio(files[1]), expected, atol=1e-4)
