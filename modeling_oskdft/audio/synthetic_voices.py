"""Make synthetic voices, so that everything can be tried without a download: a source-filter model of speech.

A speaker is an anatomy (larynx, vocal tract, breathiness, habits of intonation), a session is a channel, a noise and a
level, an utterance is a random string of syllables. Identity is in the anatomy only: level, duration, text, channel
and noise have the same distribution for every speaker, so that across sessions none of them separates speakers.
Everything is a function of the seed.

Source: a Rosenberg (1971) glottal pulse with jitter, shimmer and aspiration noise. Filter: five formants (vowel
targets after Peterson and Barney, 1952, scaled by the length of the tract), applied as a smooth envelope frame by
frame.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files import whole_file
from .loading import SAMPLING_RATE, Waveform

Floats = NDArray[np.float64]

FRAME, HOP = 512, 128
FREQUENCIES = np.fft.rfftfreq(FRAME, 1 / SAMPLING_RATE)
# F1, F2, F3 in Hz of an adult male tract: i, I, E, ae, a, o, U, u, V, 3.
VOWELS = np.array(
    [
        (270, 2290, 3010),
        (390, 1990, 2550),
        (530, 1840, 2480),
        (660, 1720, 2410),
        (730, 1090, 2440),
        (570, 840, 2410),
        (440, 1020, 2240),
        (300, 870, 2240),
        (640, 1190, 2390),
        (490, 1350, 1690),
    ],
    dtype=np.float64,
)
HIGHER_FORMANTS = (3500.0, 4500.0)


class Voice(NamedTuple):
    """Describe the anatomy and the habits of one speaker."""

    pitch: float  # median fundamental, Hz
    pitch_range: float  # semitones of a phrase accent
    tract: float  # factor on all formants: 1 for 17.5 cm, larger for a shorter tract
    formant_shifts: Floats  # (5,) factor on each formant
    bandwidths: Floats  # (5,) Hz
    open_quotient: float  # share of a period in which the glottis is open
    tilt: float  # dB per octave above 500 Hz, added to that of the pulse
    breathiness: float  # aspiration over voicing
    jitter: float  # relative period noise
    fricative_peak: float  # Hz, where the speaker's "s" is loudest
    rate: float  # syllables a second


class Session(NamedTuple):
    """Describe the channel, noise and level of a session; their distribution is the same for every speaker."""

    channel_db: Floats  # (bins,) smooth frequency response
    noise_db: float  # level of the speech over the noise
    noise_slope: float  # dB per octave of the noise
    level_db: float  # of the recording


def draw_voice(generator: np.random.Generator) -> Voice:
    """Draw a speaker with one of two overlapping kinds of larynx.

    Args:
        generator: source of all values.
    """
    low = generator.random() < 0.5
    return Voice(
        pitch=float(np.exp(generator.normal(np.log(115 if low else 205), 0.16))),
        pitch_range=generator.uniform(1.5, 6.0),
        tract=float(np.clip(generator.normal(1.0 if low else 1.15, 0.06), 0.85, 1.35)),
        formant_shifts=np.exp(generator.normal(0.0, 0.05, size=5)),
        bandwidths=np.array([60.0, 90.0, 120.0, 175.0, 250.0]) * np.exp(generator.normal(0.0, 0.25, size=5)),
        open_quotient=generator.uniform(0.45, 0.8),
        tilt=generator.uniform(-7.0, 0.0),
        breathiness=float(np.exp(generator.normal(np.log(0.04), 0.7))),
        jitter=generator.uniform(0.002, 0.015),
        fricative_peak=generator.uniform(3800, 7000),
        rate=generator.uniform(3.2, 5.5),
    )


def draw_session(generator: np.random.Generator) -> Session:
    """Draw a microphone, a room's noise and a level.

    Args:
        generator: source of all values.
    """
    knots = generator.normal(0.0, 3.0, size=8)
    positions = np.log2(np.maximum(FREQUENCIES, 60.0) / 60.0) / np.log2(8000 / 60) * 7
    return Session(
        channel_db=np.interp(positions, np.arange(8), knots),
        noise_db=generator.uniform(12.0, 35.0),
        noise_slope=generator.uniform(-6.0, 0.0),
        level_db=generator.uniform(-35.0, -15.0),
    )


def synthesise(voice: Voice, session: Session, seconds: float, generator: np.random.Generator) -> Waveform:
    """Synthesise one utterance.

    Args:
        voice: the speaker.
        session: the recording session.
        seconds: length.
        generator: source of the syllables and of all noise.

    Returns:
        (samples,) at 16 kHz, in [-1, 1].
    """
    samples = round(seconds * SAMPLING_RATE)
    frames = samples // HOP + 1
    formants, voicing, frication, loudness = _articulate(voice, frames, generator)
    source = _glottal_source(voice, _interpolate(_intonation(voice, frames, generator), samples), generator)
    speech = _filter(source, _vowel_envelope(voice, formants) * (voicing * loudness)[:, None])
    hiss = _filter(generator.normal(size=samples), _fricative_envelope(voice) * (frication * loudness)[:, None])
    return _record(speech / _rms(speech) + 0.25 * hiss / _rms(hiss), session, generator)


def _articulate(voice: Voice, frames: int, generator: np.random.Generator) -> tuple[Floats, Floats, Floats, Floats]:
    """Draw syllables; return formant tracks (frames, 5), and voicing, frication and loudness, (frames,) each."""
    formants = np.zeros((frames, 5))
    voicing, frication, loudness = np.zeros(frames), np.zeros(frames), np.ones(frames)
    position = 0
    while position < frames:
        length = max(8, round(SAMPLING_RATE / HOP / voice.rate * generator.uniform(0.7, 1.3)))
        onset = min(round(length * generator.uniform(0.2, 0.4)), frames - position)
        end = min(position + length, frames)
        vowel = VOWELS[generator.integers(len(VOWELS))] * np.exp(generator.normal(0.0, 0.03, size=3))
        formants[position:end] = np.concatenate([vowel, HIGHER_FORMANTS])
        kind = generator.integers(4)  # fricative, stop, voiced consonant, none
        voicing[position + onset : end] = 1.0
        voicing[position : position + onset] = (0.0, 0.0, 0.4, 1.0)[kind]
        frication[position : position + onset] = (1.0, 0.0, 0.1, 0.0)[kind]
        if kind == 1 and onset > 2:
            frication[position + onset - 2 : position + onset] = 1.5
        loudness[position:end] = generator.uniform(0.6, 1.0)
        position = end
        if generator.random() < 0.12:  # a short pause
            position += round(generator.uniform(0.08, 0.25) * SAMPLING_RATE / HOP)
    silent = formants[:, 0] == 0
    formants[silent] = np.concatenate([VOWELS[8], HIGHER_FORMANTS])
    width = 7
    smoothed = np.stack([_smooth(track, width) for track in formants.T], axis=1)
    return smoothed, _smooth(voicing, 3), _smooth(frication, 3), _smooth(loudness, width)


def _intonation(voice: Voice, frames: int, generator: np.random.Generator) -> Floats:
    """Draw the fundamental frequency (frames,) in Hz: declination, and accents of the speaker's range."""
    time = np.arange(frames) * HOP / SAMPLING_RATE
    knots = generator.normal(0.0, voice.pitch_range / 2, size=max(3, round(time[-1] * 2.5)))
    accents = np.interp(np.linspace(0, len(knots) - 1, frames), np.arange(len(knots)), knots)
    declination = -voice.pitch_range * 0.4 * (time / max(time[-1], 1e-3) - 0.5)
    mood = generator.normal(0.0, 0.7)  # semitones: the mean pitch of an utterance varies
    return voice.pitch * 2 ** ((_smooth(accents, 15) + declination + mood) / 12)


def _glottal_source(voice: Voice, pitch: Floats, generator: np.random.Generator) -> Floats:
    """Return the derivative of a Rosenberg pulse train at `pitch` (samples,), with jitter, shimmer and aspiration."""
    samples = len(pitch)
    knots = np.arange(0, samples + 80, 80)
    wobble = np.interp(np.arange(samples), knots, generator.normal(size=len(knots)))
    phase = np.cumsum(pitch * (1 + voice.jitter * wobble) / SAMPLING_RATE)
    shimmer = 1 + 0.05 * wobble
    within = phase % 1.0
    rising, falling = voice.open_quotient * 2 / 3, voice.open_quotient / 3
    flow = np.where(within < rising, 0.5 * (1 - np.cos(np.pi * within / rising)), 0.0)
    closing = (within >= rising) & (within < voice.open_quotient)
    flow = np.where(closing, np.cos(0.5 * np.pi * (within - rising) / falling), flow)
    pulses = np.diff(flow, prepend=flow[0]) * shimmer
    aspiration = generator.normal(size=samples) * (0.3 + flow)
    return pulses / _rms(pulses) + voice.breathiness * aspiration / _rms(aspiration) * 3


def _vowel_envelope(voice: Voice, formants: Floats) -> Floats:
    """Return the gain (frames, bins) of the tract: a product of resonances, and the speaker's spectral tilt."""
    centres = formants * voice.tract * voice.formant_shifts
    gain = np.ones((len(formants), len(FREQUENCIES)))
    for formant, bandwidth in zip(centres.T, voice.bandwidths, strict=True):
        square = formant[:, None] ** 2
        gain *= square / np.sqrt((square - FREQUENCIES**2) ** 2 + (bandwidth * FREQUENCIES) ** 2)
    octaves = np.log2(np.maximum(FREQUENCIES, 500.0) / 500.0)
    # 9 dB per octave for radiation and the missing higher formants: a product of five resonances falls too fast.
    return gain * 10 ** ((voice.tilt + 9.0) * octaves / 20)


def _fricative_envelope(voice: Voice) -> Floats:
    """Return the gain (1, bins) of the speaker's hiss."""
    return np.exp(-0.5 * ((FREQUENCIES - voice.fricative_peak) / 1100.0) ** 2)[None, :]


def _filter(signal: Floats, gains: Floats) -> Floats:
    """Apply gains (frames, bins) to a signal (samples,): short-time spectra, overlap-add, squared Hann window."""
    window = np.hanning(FRAME + 1)[:-1]
    padded = np.pad(signal, (FRAME // 2, FRAME))
    starts = np.arange(len(gains)) * HOP
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[starts] * window
    frames = np.fft.irfft(np.fft.rfft(frames, axis=1) * gains, FRAME, axis=1) * window
    out = np.zeros(len(padded) + FRAME)
    for offset in range(FRAME // HOP):  # frames a whole window apart do not overlap: add them at once
        rows = frames[offset :: FRAME // HOP]
        begin = offset * HOP
        out[begin : begin + rows.size] += rows.reshape(-1)[: len(out) - begin]
    return out[FRAME // 2 : FRAME // 2 + len(signal)] / 1.5


def _record(speech: Floats, session: Session, generator: np.random.Generator) -> Waveform:
    """Apply the channel, noise and level of a session."""
    octaves = np.log2(np.maximum(FREQUENCIES, 100.0) / 100.0)
    frames = len(speech) // HOP + 1
    through = _filter(speech, np.broadcast_to(10 ** (session.channel_db / 20), (frames, len(FREQUENCIES))))
    colour = np.broadcast_to(10 ** (session.noise_slope * octaves / 20), (frames, len(FREQUENCIES)))
    noise = _filter(generator.normal(size=len(speech)), colour)
    mixed = through / _rms(through) + noise / _rms(noise) * 10 ** (-session.noise_db / 20)
    mixed *= 10 ** (session.level_db / 20) / _rms(mixed)
    return (mixed / max(1.0, np.abs(mixed).max() / 0.99)).astype(np.float32)


def _smooth(values: Floats, width: int) -> Floats:
    kernel = np.hanning(width + 2)[1:-1]
    return np.convolve(np.pad(values, width // 2, mode="edge"), kernel / kernel.sum(), mode="valid")[: len(values)]


def _interpolate(values: Floats, samples: int) -> Floats:
    return np.interp(np.arange(samples) / HOP, np.arange(len(values)), values)


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))) + 1e-9)


def iterate_voices(
    speakers: int, sessions: int, utterances: int, seed: int = 0, seconds: tuple[float, float] = (2.5, 4.5)
) -> Iterator[tuple[str, Waveform]]:
    """Yield the utterances of a synthetic corpus in a fixed order.

    Args:
        speakers: number of speakers.
        sessions: sessions of each speaker.
        utterances: utterances of each session.
        seed: seed of all random draws.
        seconds: shortest and longest utterance.

    Returns:
        An iterator of (`speaker/session/utterance`, waveform (samples,) at 16 kHz).
    """
    for speaker in range(speakers):
        voice = draw_voice(np.random.default_rng([seed, 0, speaker]))
        for session in range(sessions):
            generator = np.random.default_rng([seed, 1, speaker, session])
            recording_session = draw_session(generator)
            for utterance in range(utterances):
                waveform = synthesise(voice, recording_session, generator.uniform(*seconds), generator)
                yield f"voice{speaker:03d}/session{session}/{utterance:02d}", waveform


def write_voices(
    root: str | Path, speakers: int, sessions: int, utterances: int, seed: int = 0, progress: bool = False
) -> Path:
    """Write a synthetic corpus as FLAC, each file complete or not at all; existing files are kept.

    Args:
        root: folder to write to.
        speakers: number of speakers, as in `iterate_voices`.
        sessions: sessions of each speaker, as in `iterate_voices`.
        utterances: utterances of each session, as in `iterate_voices`.
        seed: seed of all random draws, as in `iterate_voices`.
        progress: show a progress bar.

    Returns:
        The folder.
    """
    import soundfile
    from tqdm.auto import tqdm

    total = speakers * sessions * utterances
    voices = iterate_voices(speakers, sessions, utterances, seed)
    for name, waveform in tqdm(voices, total=total, desc="voices", unit="utt", disable=None if progress else True):
        target = Path(root, f"{name}.flac")
        if target.exists():
            continue
        with whole_file(target) as partial:
            soundfile.write(partial, waveform, SAMPLING_RATE, format="FLAC")
    return Path(root)
