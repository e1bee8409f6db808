import subprocess
import sys

import numpy as np
import pytest
import soxr

from modeling_oskdft.audio import speech
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.audio.speech import Inspection, find_speech, inspect_recording, speech_network, speech_seconds

TIME = np.arange(48000) / 16000
NOISE = np.random.default_rng(0).normal(size=48000)
CLICKS = np.where(np.arange(48000) % 16000 < 20, 0.8, 0.0)
CHORDS = sum(0.1 * np.sin(2 * np.pi * note * TIME) * np.exp(-3 * (TIME % 0.5)) for note in (262, 330, 392, 523))
NO_SPEECH = {
    "white noise": 0.1 * NOISE,
    "hum": 0.1 * np.sin(2 * np.pi * 50 * TIME),
    "tone": 0.3 * np.sin(2 * np.pi * 1000 * TIME),
    "hum and hiss": 0.1 * np.sin(2 * np.pi * 50 * TIME) + 0.003 * NOISE,
    "noise on a constant": 0.1 + 0.02 * NOISE,
    "clicks": CLICKS,
    "plucked chords": CHORDS,
}


@pytest.fixture(params=["network", "level"])
def detector(request, monkeypatch):
    if request.param == "level":
        monkeypatch.setattr(speech, "speech_network", lambda: None)
    return request.param


def voice(voices):
    return load_audio(next(voices.rglob("*.flac")))


@pytest.mark.parametrize("sound", NO_SPEECH.values(), ids=NO_SPEECH)
def test_what_is_no_speech_has_no_second_of_speech(sound):
    assert speech_seconds(sound.astype(np.float32)) == 0
    (fault,) = inspect_recording(sound.astype(np.float32), "It")
    assert fault.startswith("It has nothing in it that is like speech")


def test_without_the_network_the_level_and_the_spectrum_decide(monkeypatch):
    monkeypatch.setattr(speech, "speech_network", lambda: None)
    for name in ("white noise", "hum", "tone", "hum and hiss", "noise on a constant"):
        sound = NO_SPEECH[name].astype(np.float32)
        assert speech_seconds(sound) == pytest.approx(3, abs=0.04) and find_speech(sound).network is None
        assert any("nothing in it that is like speech" in fault for fault in inspect_recording(sound, "It"))


def test_voices_are_like_speech_at_any_level_and_on_any_constant(voices, detector):
    for file in sorted(voices.rglob("*.flac")):
        assert inspect_recording(load_audio(file), "It") == []
    recording = voice(voices)
    assert speech_seconds(recording + 0.1) == pytest.approx(speech_seconds(recording), abs=0.07)
    quiet = inspect_recording(0.01 * recording / np.abs(recording).max() / 5, "It")
    assert len(quiet) == 1 and "is too quiet" in quiet[0] and "dB of full scale" in quiet[0]


def test_silence_is_refused_whatever_its_constant(detector):
    for level in (0.0, 0.1, -0.9, 1e-5):
        with pytest.raises(ValueError, match="It is silent: give a recording with speech in it"):
            inspect_recording(np.full(48000, level, np.float32), "It")


def test_pauses_are_no_speech(voices, detector):
    recording, pause = voice(voices), np.zeros(32000, np.float32)
    alone = speech_seconds(recording)
    for rest in (pause, 0.0003 * NOISE[:32000].astype(np.float32)):
        assert speech_seconds(np.concatenate([recording, rest, recording])) == pytest.approx(2 * alone, abs=0.25)


def test_floats_at_the_scale_of_integers_are_named(voices, detector):
    faults = inspect_recording(32768 * voice(voices), "It")
    assert any("floats in [-1, 1] are wanted; divide by 32768" in fault for fault in faults)


@pytest.mark.parametrize("sizes", [(512,), (100, 7, 5000), (16000,), (1, 511, 513)])
def test_blocks_give_what_the_whole_recording_gives(voices, sizes, detector):
    recording = np.concatenate([voice(voices), np.zeros(777, np.float32), 0.5 * voice(voices)])
    inspection, place = Inspection(speech.speech_network()), 0
    for number in range(len(recording)):
        size = sizes[number % len(sizes)]
        inspection.add(recording[place : place + size])
        place += size
        if place >= len(recording):
            break
    whole = find_speech(recording)
    assert inspection.finish().frames.tolist() == whole.frames.tolist()
    assert inspection.speech.samples == len(recording) and inspection.speech.seconds == whole.seconds
    assert inspection.faults("It") == inspect_recording(recording, "It")


def test_seconds_add_up_over_parts(voices):
    found = find_speech(voice(voices))
    edges = [0, 1000, 1024, 20001, found.samples]
    parts = [found.seconds_between(start, stop) for start, stop in zip(edges, edges[1:], strict=False)]
    assert sum(parts) == pytest.approx(found.seconds) and found.seconds <= found.samples / 16000


def test_the_network_in_torch_gives_what_it_gives_in_onnxruntime(voices):
    in_torch = speech.SileroTorch(speech._file_of_silero(speech.TORCH_MODEL))
    recording = voice(voices)
    first, second = Inspection(speech_network()), Inspection(in_torch)
    for inspection in (first, second):
        inspection.add(recording)
        inspection.finish()
    difference = first.speech.frames != second.speech.frames
    assert first.speech.network == second.speech.network == "silero" and difference.mean() <= 0.01


def test_threads_of_torch_stay_as_they_are():
    program = (
        "import torch; torch.set_num_threads(2); import numpy as np; from modeling_oskdft.audio import speech; "
        "speech.speech_seconds(np.zeros(16000, np.float32)); import sys; "
        "print(torch.get_num_threads(), 'silero_vad' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split() == [
        "2",
        "False",
    ]


def test_speech_of_a_telephone_is_told_of(voices, monkeypatch):
    monkeypatch.setattr(speech, "speech_network", lambda: None)  # it hears less in made-up voices without a high band
    for file in sorted(voices.rglob("*.flac")):
        recording = load_audio(file)
        narrow = soxr.resample(soxr.resample(recording, 16000, 8000), 8000, 16000)
        assert inspect_recording(recording, "It") == []
        (fault,) = inspect_recording(narrow, "It")
        assert fault.startswith("It has no speech above 4 kHz, as from a telephone")
