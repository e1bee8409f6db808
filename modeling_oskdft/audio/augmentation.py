"""Augment waveforms: the result is a function of the crop and of its random generator alone.

Kinds, probabilities and ranges are from the authors' code (scripts/prev and scripts/data_processing at 7ba757d) where
it has them; gain, speed and codecs are ours. libsndfile encodes, soxr resamples.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import check_choice
from .folders import audio_files
from .loading import SAMPLING_RATE, Waveform, load_audio, read_crop

Change = Callable[[Waveform, np.random.Generator], Waveform]

# Signal-to-noise ratio in dB for each of MUSAN's folders.
SNR_RANGES = {"noise": (0.0, 15.0), "music": (5.0, 25.0), "speech": (13.0, 20.0)}
# Fewest and most clips that are averaged; several voices are babble.
CLIPS = {"noise": (1, 1), "music": (1, 1), "speech": (3, 8)}
CODECS = ("telephone", "mulaw", "mp3", "ogg")
TELEPHONE_BAND = (300.0, 3400.0)  # Hz


class WaveformAugmentation:
    """Augment a crop at random.

    First a room, noise, music, babble, babble with music, or nothing is drawn, each equally likely; then clipping, an
    envelope, a gain and a codec are drawn, independently of each other.

    Args:
        noise_root: folder `<noise|music|speech>/<source>/<clip>`, as MUSAN; None: no noise.
        rir_root: any folder of room impulse responses; None: no room.
        probability: probability of augmenting a crop at all.
        clipping_probability: probability of clipping an augmented crop.
        envelope_probability: probability of a volume that slowly rises or falls.
        gain_probability: probability of another level.
        codec_probability: probability of a codec.

    Raises:
        FileNotFoundError: for a folder without audio.
        ValueError: for a probability outside [0, 1].
    """

    def __init__(
        self,
        noise_root: str | Path | None = None,
        rir_root: str | Path | None = None,
        probability: float = 0.6,
        clipping_probability: float = 0.0,
        envelope_probability: float = 0.0,
        gain_probability: float = 0.0,
        codec_probability: float = 0.0,
    ) -> None:
        self.probability = probability
        self.changes: list[tuple[float, Change]] = [
            (clipping_probability, draw_clipping),
            (envelope_probability, draw_envelope),
            (gain_probability, draw_gain),
            (codec_probability, draw_codec),
        ]
        for chance in (probability, *(chance for chance, _ in self.changes)):
            if not 0 <= chance <= 1:
                raise ValueError(f"A probability of augmentation is {chance}: use 0 to 1.")
        self.rooms = [] if rir_root is None else audio_files(rir_root)
        self.noises = {} if noise_root is None else _noises(Path(noise_root))
        self.kinds = self._kinds()

    def facts(self) -> dict[str, Any]:
        """Return the probabilities and a hash of the names of the files, to compare two runs."""
        names = [Path(file).name for file in self.rooms]
        names += [f"{kind}/{Path(file).name}" for kind in sorted(self.noises) for file in self.noises[kind]]
        return {
            "probability": self.probability,
            **{change.__name__: chance for chance, change in self.changes},
            "files": hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()[:16],
        }

    def _kinds(self) -> list[tuple[str, ...]]:
        """List the combinations of room and noises that are drawn, each equally likely."""
        kinds: list[tuple[str, ...]] = [(), *((kind,) for kind in sorted(self.noises))]
        if self.rooms:
            kinds.append(("room",))
        if {"speech", "music"} <= set(self.noises):
            kinds.append(("speech", "music"))
        return kinds

    def __call__(self, waveform: Waveform, generator: np.random.Generator) -> Waveform:
        """Augment a crop.

        Args:
            waveform: (samples,) at 16 kHz; it is not changed.
            generator: source of all draws.

        Returns:
            (samples,), a new array, or the same object where nothing was drawn.
        """
        if generator.random() >= self.probability:
            return waveform
        for kind in self.kinds[generator.integers(len(self.kinds))]:
            waveform = self.surround(waveform, kind, generator)
        for chance, change in self.changes:
            if generator.random() < chance:
                waveform = change(waveform, generator)
        return waveform

    def surround(self, waveform: Waveform, kind: str, generator: np.random.Generator) -> Waveform:
        """Add a room, or clips of one of MUSAN's folders at a random level.

        Args:
            waveform: (samples,) at 16 kHz.
            kind: "room", "noise", "music" or "speech".
            generator: source of all draws.

        Returns:
            (samples,).

        Raises:
            ValueError, FileNotFoundError: for a file that cannot be read.
        """
        if kind == "room":
            return reverberate(waveform, load_audio(self.rooms[generator.integers(len(self.rooms))]))
        files, (fewest, most) = self.noises[kind], CLIPS[kind]
        count = min(int(generator.integers(fewest, most + 1)), len(files))
        chosen = generator.choice(len(files), size=count, replace=False)
        clips = [read_crop(files[index], len(waveform), generator.random()) for index in chosen]
        return add_noise(waveform, np.mean(clips, axis=0), generator.uniform(*SNR_RANGES[kind]))


def _noises(root: Path) -> dict[str, list[str]]:
    """Return the files of each of MUSAN's folders that exists."""
    folders = {kind: root / kind for kind in SNR_RANGES if (root / kind).is_dir()}
    if not folders:
        raise FileNotFoundError(f"'{root}' has none of the folders {', '.join(SNR_RANGES)}: MUSAN's layout is needed.")
    return {kind: audio_files(folder) for kind, folder in folders.items()}


def add_noise(speech: Waveform, noise: Waveform, snr: float) -> Waveform:
    """Add noise at a signal-to-noise ratio.

    Args:
        speech: (samples,).
        noise: (samples,).
        snr: mean power of the speech over that of the added noise, in dB.

    Returns:
        (samples,); the speech itself where the noise is silent.
    """
    power, noise_power = np.mean(np.square(speech)), np.mean(np.square(noise))
    if noise_power == 0:
        return speech
    gain = np.sqrt(power / noise_power / 10 ** (snr / 10))
    return (speech + gain * noise).astype(np.float32)


def reverberate(speech: Waveform, response: Waveform) -> Waveform:
    """Convolve speech with a room impulse response; the direct sound is not delayed, and the mean power is kept.

    Args:
        speech: (samples,).
        response: (response samples,).

    Returns:
        (samples,).
    """
    length = len(speech) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(response, size), size)
    start = int(np.abs(response).argmax())
    wet = wet[start : start + len(speech)]
    power = np.mean(np.square(wet))
    return (wet * np.sqrt(np.mean(np.square(speech)) / power) if power > 0 else wet).astype(np.float32)


def clip(waveform: Waveform, share: float) -> Waveform:
    """Clip a waveform at a share, in (0, 1], of its lowest and of its highest sample.

    Args:
        waveform: (samples,).
        share: share of the lowest and of the highest sample that stays, in (0, 1].

    Returns:
        (samples,).
    """
    return np.clip(waveform, share * waveform.min(), share * waveform.max())


def draw_clipping(waveform: Waveform, generator: np.random.Generator) -> Waveform:
    """Clip a waveform at 0.5 to 0.9 of its peaks.

    Args:
        waveform: (samples,).
        generator: source of the share.

    Returns:
        (samples,).
    """
    return clip(waveform, generator.uniform(0.5, 0.9))


# Easing curves over [0, 1], which rise from 0 to 1 more or less suddenly (names: easings.net).
CURVES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda t: 1 - np.cos(t * np.pi / 2),
    np.square,
    lambda t: t**3,
    lambda t: 1 - np.sqrt(1 - t**2),
    lambda t: 2.0 ** (10 * t - 10),
)


def draw_envelope(waveform: Waveform, generator: np.random.Generator) -> Waveform:
    """Let the volume slowly rise from 0.1-0.3 to 1 over the crop, or fall, as when a speaker walks.

    Args:
        waveform: (samples,).
        generator: source of curve, direction and lowest volume.

    Returns:
        (samples,).
    """
    envelope = CURVES[generator.integers(len(CURVES))](np.linspace(0, 1, len(waveform)))
    if generator.random() < 0.5:
        envelope = envelope[::-1]
    floor = generator.uniform(0.1, 0.3)
    return (waveform * (floor + (1 - floor) * envelope)).astype(np.float32)


def draw_gain(waveform: Waveform, generator: np.random.Generator) -> Waveform:
    """Change the level by -20 to 6 dB; without effect where the feature extractor normalises.

    Args:
        waveform: (samples,).
        generator: source of the level.

    Returns:
        (samples,).
    """
    return (waveform * 10 ** (generator.uniform(-20.0, 6.0) / 20)).astype(np.float32)


def draw_codec(waveform: Waveform, generator: np.random.Generator) -> Waveform:
    """Apply one of `CODECS`, at a random compression.

    Args:
        waveform: (samples,) at 16 kHz.
        generator: source of codec and compression.

    Returns:
        (samples,).
    """
    return through_codec(waveform, CODECS[generator.integers(len(CODECS))], float(generator.uniform(0.2, 0.95)))


def through_codec(waveform: Waveform, codec: str, compression: float = 0.5) -> Waveform:
    """Encode and decode a crop with a codec.

    Args:
        waveform: (samples,) at 16 kHz.
        codec: "telephone" (300 to 3,400 Hz, 8 kHz, mu-law), "mulaw" (8 kHz), "mp3" or "ogg" (Vorbis).
        compression: degree of compression of mp3 and ogg, from 0, least, to 1.

    Returns:
        (samples,), not shifted.

    Raises:
        ValueError: for another codec.
    """
    import soundfile

    check_choice("codec", codec, CODECS)
    is_narrow = codec in ("telephone", "mulaw")
    sent = resample(waveform, SAMPLING_RATE, 8000) if is_narrow else waveform
    if codec == "telephone":
        sent = band_pass(sent, 8000, *TELEPHONE_BAND)
    peak = max(float(np.abs(sent).max()), 1e-9) if len(sent) else 1.0
    file = io.BytesIO()
    if is_narrow:
        soundfile.write(file, sent / max(peak, 1.0), 8000, format="WAV", subtype="ULAW")
    else:
        encoding = {"format": "MP3"} if codec == "mp3" else {"format": "OGG", "subtype": "VORBIS"}
        soundfile.write(file, sent / max(peak, 1.0), SAMPLING_RATE, compression_level=compression, **encoding)
    received, rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    received = resample(received, rate, SAMPLING_RATE) * max(peak, 1.0)
    return np.pad(received, (0, max(len(waveform) - len(received), 0)))[: len(waveform)].astype(np.float32)


def band_pass(waveform: Waveform, rate: int, low: float, high: float) -> Waveform:
    """Remove the frequencies below `low` and above `high`, in Hz, from (samples,) at `rate`.

    Args:
        waveform: (samples,).
        rate: sampling rate in Hz.
        low: lowest frequency that is kept, in Hz.
        high: highest frequency that is kept, in Hz.

    Returns:
        (samples,).
    """
    spectrum = np.fft.rfft(waveform)
    frequencies = np.fft.rfftfreq(len(waveform), 1 / rate)
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    return np.fft.irfft(spectrum, len(waveform)).astype(np.float32)


def resample(waveform: Waveform, rate: float, new_rate: float) -> Waveform:
    """Resample a waveform with soxr.

    Args:
        waveform: (samples,).
        rate: its sampling rate; only the ratio of both rates counts.
        new_rate: wanted sampling rate, in the same unit.

    Returns:
        (new samples,); the same object for equal rates.
    """
    import soxr

    return waveform if rate == new_rate else soxr.resample(waveform, rate, new_rate)


def samples_for_speed(num_samples: int, speed: float) -> int:
    """Return the number of recorded samples that a crop of `num_samples` at a speed is made from.

    Args:
        num_samples: length of the crop.
        speed: above 1: faster.
    """
    return int(np.ceil(num_samples * speed))


def change_speed(waveform: Waveform, speed: float, num_samples: int) -> Waveform:
    """Change tempo and pitch together, so that the result is another voice.

    Args:
        waveform: (`samples_for_speed(num_samples, speed)`,) at 16 kHz.
        speed: above 1: faster and higher.
        num_samples: length of the result.

    Returns:
        (num_samples,).
    """
    return np.resize(resample(waveform, SAMPLING_RATE * speed, SAMPLING_RATE), num_samples)
