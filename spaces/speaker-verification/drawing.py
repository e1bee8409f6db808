"""Draw pictures as SVG: sharp at any width, and in the page's own colours, light or dark."""

import base64
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modeling_oskdft.audio.loading import SAMPLING_RATE
from modeling_oskdft.audio.speech import FRAME, speech_frames

WIDTH, LEFT, RIGHT = 480, 8, 8
BINS = 48
# Colours (red, green, blue, opacity) from silence to loud; silence is transparent.
_STOPS = np.array([[0, 0, 0, 0], [49, 46, 129, 150], [79, 70, 229, 220], [236, 72, 153, 245], [253, 224, 71, 255]])


def distributions(
    quantiles: dict[str, list[float]], threshold: float | None, score: float | None, texts: dict[str, str]
) -> str:
    """Draw both score distributions as areas, and the threshold and the score as lines.

    Args:
        quantiles: "target" and "non_target" to rising scores, as in `thresholds.json`.
        threshold: where its line is drawn; None: no line.
        score: where its line is drawn; None: no line.
        texts: `words.ANSWERS` of a language.

    Returns:
        SVG.
    """
    scores = [np.asarray(quantiles[kind]) for kind in ("non_target", "target")]
    marks = [mark for mark in (threshold, score) if mark is not None]
    low = min(*(float(kind[0]) for kind in scores), *marks, -0.2) - 0.05
    high = max(*(float(kind[-1]) for kind in scores), *marks, 0.8) + 0.05
    height, base = 208, 168

    def across(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    elements = [_open(height, texts["distribution"]), *_areas(scores, np.linspace(low, high, BINS + 1), across, base)]
    elements.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in np.arange(np.ceil(low * 5) / 5, high, 0.2):
        number = f"{tick:.1f}".replace("-0.0", "0.0")
        elements.append(f'<text class="tick" x="{across(float(tick)):.1f}" y="{base + 16}">{number}</text>')
    elements += [
        _key("target", LEFT, base, texts["target"]),
        _key("non-target", LEFT + 150, base, texts["non_target"]),
    ]
    if threshold is not None:
        elements.append(_mark("threshold", across(threshold), 34, base, f"{texts['threshold']} {threshold:.2f}"))
    if score is not None:
        elements.append(_mark("score", across(score), 14, base, f"{texts['score']} {score:.2f}"))
    return "".join([*elements, "</svg>"])


def _areas(
    scores: list[NDArray[np.float64]], edges: NDArray[np.float64], across: Callable[[float], float], base: int
) -> list[str]:
    """Both distributions, smoothed over three bins, as high as the larger one's peak allows."""
    shares = [np.histogram(kind, edges)[0] / len(kind) for kind in scores]
    top = max(float(share.max()) for share in shares)
    middles = (edges[:-1] + edges[1:]) / 2
    areas = []
    for kind, share in zip(("non-target", "target"), shares, strict=True):
        smooth = np.convolve(share, [0.25, 0.5, 0.25], mode="same") / top
        line = " ".join(f"{across(x):.1f},{base - 124 * y:.1f}" for x, y in zip(middles, smooth, strict=True))
        ends = f"{across(middles[0]):.1f},{base} {line} {across(middles[-1]):.1f},{base}"
        areas.append(f'<polygon class="{kind}" points="{ends}"/>')
    return areas


def _key(kind: str, x: int, base: int, label: str) -> str:
    return (
        f'<rect class="key {kind}" x="{x}" y="{base + 26}" width="12" height="12" rx="3"/>'
        f'<text class="keyword" x="{x + 18}" y="{base + 36}">{label}</text>'
    )


def _mark(kind: str, x: float, y: float, base: float, label: str) -> str:
    side, shift = ("end", -6) if x > WIDTH / 2 else ("start", 6)
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" y2="{base}"/>'
        f'<text class="{kind}" text-anchor="{side}" x="{x + shift:.1f}" y="{y}">{label}</text>'
    )


def recording(waveform: NDArray[np.float32], label: str, texts: dict[str, str]) -> str:
    """Draw a waveform above its spectrogram on one time axis, with speech shaded.

    Args:
        waveform: (samples,) at 16 kHz.
        label: name of the recording.
        texts: `words.ANSWERS` of a language.

    Returns:
        SVG.
    """
    height = 196
    seconds, inner = len(waveform) / SAMPLING_RATE, WIDTH - LEFT - RIGHT
    elements = [_open(height, f"{label}: {texts['spectrogram']}"), *_speech(waveform, inner), _wave(waveform, inner)]
    elements.append(
        f'<image x="{LEFT}" y="84" width="{inner}" height="90" preserveAspectRatio="none" '
        f'href="{_spectrogram(waveform)}"/>'
    )
    every = next(step for step in (0.5, 1, 2, 5, 10, 30) if seconds / step <= 8 or step == 30)
    for tick in np.arange(0, seconds + 1e-6, every):
        x = LEFT + tick / seconds * inner
        elements.append(f'<text class="tick" x="{min(max(x, 14), WIDTH - 16):.1f}" y="{height - 6}">{tick:g} s</text>')
    return "".join([*elements, "</svg>"])


def _speech(waveform: NDArray[np.float32], inner: int) -> list[str]:
    """A shaded box for each span of speech."""
    step = inner / len(waveform)
    boxes = []
    for start, end in _spans(speech_frames(waveform)):
        x, width = LEFT + start * FRAME * step, (min(end * FRAME, len(waveform)) - start * FRAME) * step
        boxes.append(f'<rect class="speech" x="{x:.1f}" y="2" width="{width:.1f}" height="76" rx="2"/>')
    return boxes


def _wave(waveform: NDArray[np.float32], inner: int) -> str:
    """The highest and the lowest sample of every second pixel, as one area."""
    middle, reach = 40, 34
    columns = np.array_split(waveform, min(inner // 2, len(waveform)))
    loudest = max(float(np.abs(waveform).max()), 1e-4)
    upper = [f"{LEFT + 2 * i:.0f},{middle - reach * float(c.max()) / loudest:.1f}" for i, c in enumerate(columns)]
    lower = [f"{LEFT + 2 * i:.0f},{middle - reach * float(c.min()) / loudest:.1f}" for i, c in enumerate(columns)]
    return f'<polygon class="wave" points="{" ".join(upper + lower[::-1])}"/>'


def _open(height: int, label: str) -> str:
    return f'<svg class="picture" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'


def _spans(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))


def _spectrogram(waveform: NDArray[np.float32]) -> str:
    """A PNG as a data address: 25 ms windows, 70 dB from the loudest down."""
    window, hop = 400, max(160, len(waveform) // 480)
    padded = np.pad(waveform, (0, max(0, window - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(window), 512)))[:, :256]
    level = 10 * np.log10(power + 1e-10)
    share = np.clip((level - level.max() + 70) / 70, 0, 1)
    stops = np.linspace(0, 1, len(_STOPS))
    colours = np.stack([np.interp(share, stops, _STOPS[:, channel]) for channel in range(4)], axis=-1)
    pixels = colours.astype(np.uint8).transpose(1, 0, 2)[::-1].copy()
    picture = Image.fromarray(pixels, "RGBA").resize((WIDTH - LEFT - RIGHT, 128))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
