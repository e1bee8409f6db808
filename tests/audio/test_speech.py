import numpy as np
import pytest

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.audio.speech import inspect_recording, speech_seconds

TIME = np.arange(48000) / 16000
NOISE = np.random.default_rng(0).normal(size=48000)


def voice(voices):
    return load_audio(next(voices.rglob("*.flac")))


@pytest.mark.parametrize(
    "sound",
    [
        0.1 * NOISE,
        0.1 * np.sin(2 * np.pi * 50 * TIME),
        0.3 * np.sin(2 * np.pi * 1000 * TIME),
        0.1 * np.sin(2 * np.pi * 50 * TIME) + 0.003 * NOISE,
        0.1 + 0.02 * NOISE,
    ],
    ids=["white noise", "hum", "tone", "hum and hiss", "noise on a constant"],
)
def test_what_is_no_speech_is_told_of(sound):
    assert any(
        "nothing in it that is like speech" in fault for fault in inspect_recording(sound.astype(np.float32), "It")
    )


def test_voices_are_like_speech_at_any_level_and_on_any_constant(voices):
    for file in sorted(voices.rglob("*.flac")):
        assert inspect_recording(load_audio(file), "It") == []
    speech = voice(voices)
    assert speech_seconds(speech + 0.1) == pytest.approx(speech_seconds(speech), abs=0.03)
    quiet = inspect_recording(0.01 * speech / np.abs(speech).max() / 5, "It")
    assert len(quiet) == 1 and "is too quiet" in quiet[0] and "dB of full scale" in quiet[0]


def test_silence_is_refused_whatever_its_constant():
    for level in (0.0, 0.1, -0.9, 1e-5):
        with pytest.raises(ValueError, match="It is silent: give a recording with speech in it"):
            inspect_recording(np.full(48000, level, np.float32), "It")


def test_floats_at_the_scale_of_integers_are_named(voices):
    faults = inspect_recording(32768 * voice(voices), "It")
    assert len(faults) == 1 and "floats in [-1, 1] are wanted; divide by 32768" in faults[0]
