"""Augmentation of waveforms: rooms and noise. A function of the crop and of the generator that the crop brings."""

from pathlib import Path

import numpy as np

from ..audio import AUDIO_EXTENSIONS, Waveform, load_audio, read_crop

# Decibels of speech over noise, by the class of the source (MUSAN's folders), as in the authors' recipe.
SNR_RANGES = {"noise": (0.0, 15.0), "music": (5.0, 15.0), "speech": (13.0, 20.0)}


class RoomsAndNoise:
    """With `probability`, a room or a noise (one kind a crop) of folders laid out like simulated_rirs and MUSAN.

    noise_root: `<noise|music|speech>/<source>/<clip>`; rir_root: any folder of impulse responses; either may be None.
    Raises `FileNotFoundError` for a folder without audio.
    """

    def __init__(self, noise_root: str | Path | None, rir_root: str | Path | None, probability: float = 0.6) -> None:
        self.probability = probability
        self.sources: dict[str, list[str]] = {}
        if rir_root is not None:
            self.sources["room"] = _files(Path(rir_root))
        if noise_root is not None:
            found = {kind: Path(noise_root, kind) for kind in SNR_RANGES if Path(noise_root, kind).is_dir()}
            if not found:
                raise FileNotFoundError(
                    f"'{noise_root}' has none of the folders {', '.join(SNR_RANGES)}: MUSAN's layout is needed."
                )
            self.sources |= {kind: _files(folder) for kind, folder in found.items()}
        if not self.sources:
            raise ValueError("Augmentation was asked for without noise_root and rir_root: name at least one.")

    def __call__(self, waveform: Waveform, generator: np.random.Generator) -> Waveform:
        """waveform: (samples,). Returns a new array of that length, or the same object where nothing was drawn."""
        if generator.random() >= self.probability:
            return waveform
        kind = sorted(self.sources)[generator.integers(len(self.sources))]
        file = self.sources[kind][generator.integers(len(self.sources[kind]))]
        if kind == "room":
            return reverberate(waveform, load_audio(file))
        noise = read_crop(file, len(waveform), generator.random())
        return add_noise(waveform, noise, generator.uniform(*SNR_RANGES[kind]))


def add_noise(speech: Waveform, noise: Waveform, snr: float) -> Waveform:
    """`speech` plus `noise` scaled so that their mean powers stand `snr` decibels apart. Both: (samples,)."""
    power, noise_power = np.mean(np.square(speech)), np.mean(np.square(noise))
    if noise_power == 0:
        return speech
    gain = np.sqrt(power / noise_power / 10 ** (snr / 10))
    return (speech + gain * noise).astype(np.float32)


def reverberate(speech: Waveform, response: Waveform) -> Waveform:
    """`speech` in a room, its direct sound in place and its power kept. speech: (samples,)."""
    length = len(speech) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(response, size), size)
    start = int(np.abs(response).argmax())
    wet = wet[start : start + len(speech)]
    power = np.mean(np.square(wet))
    return (wet * np.sqrt(np.mean(np.square(speech)) / power) if power > 0 else wet).astype(np.float32)


def _files(root: Path) -> list[str]:
    files = sorted(str(file) for file in root.rglob("*") if file.suffix.lower() in AUDIO_EXTENSIONS)
    if not files:
        raise FileNotFoundError(f"'{root}' has no wav, flac or ogg files: give a folder of recordings.")
    return files
