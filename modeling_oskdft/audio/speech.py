"""Find speech, and faults of a recording that make a decision unreliable: silence, short speech, clipping, noise.

Level and spectrum decide, so music and animals may pass for speech. This file stands alone: an exported folder has a
copy beside verify.py. It needs numpy.
"""

from __future__ import annotations

import numpy as np

SAMPLING_RATE = 16000
FRAME = 320  # samples: 20 ms
ENOUGH_SPEECH = 1.0  # seconds; below, two recordings of one speaker often score as two speakers
SILENCE = 10 ** (-84 / 20)  # of full scale, as a root mean square: below are the last bits of 16
TOO_QUIET = 10 ** (-60 / 20)  # of the loudest frame: from here on, noise and rounding are near the speech
BELOW_LOUDEST = 10 ** (-35 / 20)  # a frame further below the loudest one is a pause
FULL_SCALE, CLIPPED_SHARE = 0.999, 0.01
WRONG_SCALE = 2.0  # floating-point speech may exceed 1 a little
# None of 400 recordings of real speech is below either (lowest 5.9 dB and 0.35), 31 of 76 of noise and music are.
LEAST_VARIATION, LEAST_VOICED = 5.0, 0.25
ENOUGH_FRAMES = 25
MOST_SPECTRA = 60 * SAMPLING_RATE // FRAME  # frames whose spectra are compared, evenly spaced
WINDOW, SPECTRUM = 512, 1024
BANDS = (np.geomspace(100, 7000, 21) / SAMPLING_RATE * SPECTRUM).astype(int)
PITCH = slice(40, 229)  # lags in samples: 400 to 70 Hz


def inspect_recording(waveform: np.ndarray, name: str) -> list[str]:
    """Inspect a recording for faults that make a decision unreliable.

    Args:
        waveform: (samples,) at 16 kHz.
        name: name of the recording in the sentences.

    Returns:
        A sentence for each fault: less than 1 s of speech, samples beyond [-1, 1], clipping, a low level, or a
        spectrum that is not like speech.

    Raises:
        ValueError: for a silent recording.
    """
    levels = _levels(waveform)
    speech = _louder_than_a_pause(levels)
    seconds = float(speech.sum()) * FRAME / SAMPLING_RATE
    if seconds == 0:
        raise ValueError(f"{name} is silent: give a recording with speech in it.")
    faults = []
    if seconds < ENOUGH_SPEECH:
        faults.append(
            f"{name} has {seconds:.1f} s of speech: below {ENOUGH_SPEECH:.0f} s decisions are unreliable; give more."
        )
    peak = float(np.abs(waveform).max())
    clipped = float(np.mean(np.abs(waveform) >= FULL_SCALE))
    if peak > WRONG_SCALE:
        faults.append(
            f"{name} has samples that reach {peak:,.0f}: floats in [-1, 1] are wanted; divide by 32768 what was "
            "16-bit."
        )
    elif clipped > CLIPPED_SHARE:
        faults.append(
            f"{name} is clipped ({100 * clipped:.1f} % of the samples at full scale): record at a lower level."
        )
    if levels.max() < TOO_QUIET:
        faults.append(
            f"{name} is too quiet ({20 * np.log10(levels.max()):.0f} dB of full scale at its loudest): record at a "
            "higher level."
        )
    if not _is_like_speech(waveform, speech):
        faults.append(
            f"{name} has nothing in it that is like speech: noise, tones and music say nothing about a speaker; "
            "give a recording of a voice."
        )
    return faults


def speech_frames(waveform: np.ndarray) -> np.ndarray:
    """Find the frames with speech: neither silent nor 35 dB below the loudest frame.

    Args:
        waveform: (samples,) at 16 kHz; its mean is removed first.

    Returns:
        (frames,) bool, frames of 20 ms.
    """
    return _louder_than_a_pause(_levels(waveform))


def speech_seconds(waveform: np.ndarray) -> float:
    """Return the seconds of speech in a waveform, (samples,) at 16 kHz.

    Args:
        waveform: (samples,) at 16 kHz.
    """
    return float(np.sum(speech_frames(waveform))) * FRAME / SAMPLING_RATE


def _levels(waveform: np.ndarray) -> np.ndarray:
    """Return the root mean square of each frame, (frames,), without the waveform's mean: a constant is no sound."""
    centred = waveform - np.mean(waveform, dtype=np.float64).astype(np.float32)
    frames = np.pad(centred, (0, -len(centred) % FRAME)).reshape(-1, FRAME)
    return np.sqrt(np.mean(np.square(frames), axis=1, dtype=np.float64))


def _louder_than_a_pause(levels: np.ndarray) -> np.ndarray:
    return levels > max(SILENCE, BELOW_LOUDEST * levels.max(initial=0.0))


def _is_like_speech(waveform: np.ndarray, speech: np.ndarray) -> bool:
    """Return whether the spectrum changes as in speech and some frames have a pitch; True for short recordings."""
    rows = np.flatnonzero(speech[: max(len(waveform) - WINDOW, 0) // FRAME])
    if len(rows) < ENOUGH_FRAMES:
        return True
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_SPECTRA)).astype(int)]
    window = np.hanning(WINDOW)
    frames = (waveform[rows[:, None] * FRAME + np.arange(WINDOW)] - np.mean(waveform)) * window
    power = np.square(np.abs(np.fft.rfft(frames, SPECTRUM)))
    bands = np.add.reduceat(power, BANDS, axis=1)[:, :-1]
    shape = 10 * np.log10(bands + 1e-10)
    shape -= shape.mean(1, keepdims=True)
    correlation = np.fft.irfft(power)[:, PITCH] / (power.sum(1, keepdims=True) / SPECTRUM * 2 + 1e-12)
    of_window = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, SPECTRUM))))
    voiced = (correlation / (of_window[PITCH] / of_window[0]) > 0.5).any(1)
    return bool(shape.std(0).mean() >= LEAST_VARIATION and voiced.mean() >= LEAST_VOICED)
