"""Write examples of every augmentation of one recording: WAV files and a sheet of spectrograms."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..files import whole_file
from .augmentation import (
    CODECS,
    WaveformAugmentation,
    change_speed,
    draw_clipping,
    draw_envelope,
    draw_gain,
    samples_for_speed,
    through_codec,
)
from .loading import SAMPLING_RATE, Waveform, load_audio

LONGEST_SECONDS = 10
SPEEDS = (0.9, 1.1)
SHEET_COLUMNS = 3


def write_examples(
    file: str | Path,
    out: str | Path,
    noise_root: str | Path | None = None,
    rir_root: str | Path | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write one WAV for each augmentation, three for all augmentations together, and `spectrograms.png`.

    Args:
        file: any recording; its first 10 s are used.
        out: folder to write to.
        noise_root: folder of noises as in `WaveformAugmentation`; None: no noise.
        rir_root: folder of impulse responses; None: no room.
        seed: seed of the random draws.

    Returns:
        The WAV files and then the sheet.

    Raises:
        ValueError, FileNotFoundError: as `load_audio` and `WaveformAugmentation` do.
    """
    import soundfile

    waveform = load_audio(str(file))[: LONGEST_SECONDS * SAMPLING_RATE]
    augmentation = WaveformAugmentation(noise_root, rir_root, 1.0, 0.3, 0.3, 0.3, 0.3)
    files, examples = [], {}
    for number, (name, example) in enumerate(_examples(waveform, augmentation, np.random.default_rng(seed))):
        target = Path(out) / f"{number:02d}_{name.replace(' ', '_')}.wav"
        with whole_file(target) as partial:
            # Samples are floats, so that writing clips nothing.
            soundfile.write(partial, example, SAMPLING_RATE, format="WAV", subtype="FLOAT")
        files.append(target)
        examples[name] = example
    sheet = Path(out) / "spectrograms.png"
    _draw(examples, Path(file).name, sheet)
    return [*files, sheet]


def _examples(
    waveform: Waveform, augmentation: WaveformAugmentation, generator: np.random.Generator
) -> Iterator[tuple[str, Waveform]]:
    yield "clean", waveform
    for kind in (*augmentation.noises, *(["room"] if augmentation.rooms else [])):
        yield {"speech": "babble"}.get(kind, kind), augmentation.surround(waveform, kind, generator)
    yield "clipping", draw_clipping(waveform, generator)
    yield "envelope", draw_envelope(waveform, generator)
    yield "gain", draw_gain(waveform, generator)
    for codec in CODECS:
        yield codec, through_codec(waveform, codec)
    for speed in SPEEDS:
        length = int(len(waveform) / max(SPEEDS))
        yield f"speed {speed}", change_speed(waveform[: samples_for_speed(length, speed)], speed, length)
    for number in range(1, 4):
        yield f"drawn {number}", augmentation(waveform, generator)


def _draw(examples: dict[str, Waveform], title: str, target: Path) -> None:
    """Draw all spectrograms on one scale of decibels, so that levels can be compared."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(examples) // SHEET_COLUMNS)
    figure, grid = pyplot.subplots(
        rows,
        SHEET_COLUMNS,
        figsize=(12, 1.9 * rows + 0.8),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    image: Any = None
    top = _decibels(examples["clean"]).max()
    for axes, (name, waveform) in zip(grid.flat, examples.items(), strict=False):
        image = axes.imshow(
            _decibels(waveform),
            origin="lower",
            aspect="auto",
            extent=(0, len(waveform) / SAMPLING_RATE, 0, SAMPLING_RATE / 2000),
            vmin=top - 80,
            vmax=top,
            cmap="magma",
        )
        axes.set_title(name, fontsize=10)
    for axes in grid.flat[len(examples) :]:
        axes.set_visible(False)
    figure.supxlabel("seconds", fontsize=10)
    figure.supylabel("kHz", fontsize=10)
    figure.suptitle(title, fontsize=11)
    figure.colorbar(image, ax=grid, label="dB", shrink=0.6)
    with whole_file(target) as partial:
        figure.savefig(partial, format="png", dpi=110)
    pyplot.close(figure)


def _decibels(waveform: Waveform, size: int = 400, step: int = 160) -> np.ndarray:
    """Return the power in windows of 25 ms every 10 ms, (frequencies, frames) in dB."""
    padded = np.pad(waveform, (0, max(size - len(waveform), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::step] * np.hanning(size)
    return 10 * np.log10(np.square(np.abs(np.fft.rfft(frames))).T + 1e-10)
