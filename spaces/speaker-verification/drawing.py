"""Pictures as SVG: sharp at any width, and in the page's own colours, light or dark."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modeling_oskdft.audio.loading import SAMPLING_RATE
from modeling_oskdft.audio.speech import FRAME, speech_frames

WIDTH, LEFT, RIGHT = 480, 8, 8
BINS = 48
# From silence to loud: the page's ground shows through where there is nothing.
_STOPS = np.array([[0, 0, 0, 0], [49, 46, 129, 150], [79, 70, 229, 220], [236, 72, 153, 245], [253, 224, 71, 255]])


def distributions(
    quantiles: dict[str, list[float]], threshold: float | None, score: float | None, said: dict[str, str]
) -> str:
    """Both score distributions as areas, the threshold and the score as lines. quantiles: as in `thresholds.json`."""
    values = [np.asarray(quantiles[kind]) for kind in ("non_target", "target")]
    marks = [one for one in (threshold, score) if one is not None]
    low = min(*(float(one[0]) for one in values), *marks, -0.2) - 0.05
    high = max(*(float(one[-1]) for one in values), *marks, 0.8) + 0.05
    height, base = 208, 168

    def across(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(one, edges)[0] / len(one) for one in values]
    top = max(float(share.max()) for share in shares)
    parts = [_open(height, said["distribution"])]
    for kind, share in zip(("non-target", "target"), shares, strict=True):
        smooth = np.convolve(share, [0.25, 0.5, 0.25], mode="same") / top
        middles = (edges[:-1] + edges[1:]) / 2
        line = " ".join(f"{across(x):.1f},{base - 124 * y:.1f}" for x, y in zip(middles, smooth, strict=True))
        ends = f"{across(middles[0]):.1f},{base} {line} {across(middles[-1]):.1f},{base}"
        parts.append(f'<polygon class="{kind}" points="{ends}"/>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in np.arange(np.ceil(low * 5) / 5, high, 0.2):
        number = f"{tick:.1f}".replace("-0.0", "0.0")
        parts.append(f'<text class="tick" x="{across(float(tick)):.1f}" y="{base + 16}">{number}</text>')
    parts.append(f'<rect class="key target" x="{LEFT}" y="{base + 26}" width="12" height="12" rx="3"/>')
    parts.append(f'<text class="keyword" x="{LEFT + 18}" y="{base + 36}">{said["target"]}</text>')
    parts.append(f'<rect class="key non-target" x="{LEFT + 150}" y="{base + 26}" width="12" height="12" rx="3"/>')
    parts.append(f'<text class="keyword" x="{LEFT + 168}" y="{base + 36}">{said["non_target"]}</text>')
    if threshold is not None:
        parts.append(_mark("threshold", across(threshold), 34, base, f"{said['threshold']} {threshold:.2f}"))
    if score is not None:
        parts.append(_mark("score", across(score), 14, base, f"{said['score']} {score:.2f}"))
    return "".join([*parts, "</svg>"])


def _mark(kind: str, x: float, y: float, base: float, label: str) -> str:
    side, shift = ("end", -6) if x > WIDTH / 2 else ("start", 6)
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" y2="{base}"/>'
        f'<text class="{kind}" text-anchor="{side}" x="{x + shift:.1f}" y="{y}">{label}</text>'
    )


def recording(waveform: NDArray[np.float32], label: str, said: dict[str, str]) -> str:
    """Waveform above spectrogram on one time axis, speech shaded. waveform: (samples,) at 16 kHz."""
    height, middle, reach = 196, 40, 34
    spoken = speech_frames(waveform)
    seconds, inner = len(waveform) / SAMPLING_RATE, WIDTH - LEFT - RIGHT
    parts = [_open(height, f"{label}: {said['spectrogram']}")]
    step = inner / len(waveform)
    for start, end in _spans(spoken):
        x, width = LEFT + start * FRAME * step, (min(end * FRAME, len(waveform)) - start * FRAME) * step
        parts.append(f'<rect class="speech" x="{x:.1f}" y="2" width="{width:.1f}" height="76" rx="2"/>')
    columns = np.array_split(waveform, min(inner // 2, len(waveform)))
    loudest = max(float(np.abs(waveform).max()), 1e-4)
    upper = [f"{LEFT + 2 * i:.0f},{middle - reach * float(c.max()) / loudest:.1f}" for i, c in enumerate(columns)]
    lower = [f"{LEFT + 2 * i:.0f},{middle - reach * float(c.min()) / loudest:.1f}" for i, c in enumerate(columns)]
    parts.append(f'<polygon class="wave" points="{" ".join(upper + lower[::-1])}"/>')
    parts.append(
        f'<image x="{LEFT}" y="84" width="{inner}" height="90" preserveAspectRatio="none" '
        f'href="{_spectrogram(waveform)}"/>'
    )
    every = next(one for one in (0.5, 1, 2, 5, 10, 30) if seconds / one <= 8 or one == 30)
    for tick in np.arange(0, seconds + 1e-6, every):
        x = LEFT + tick / seconds * inner
        parts.append(f'<text class="tick" x="{min(max(x, 14), WIDTH - 16):.1f}" y="{height - 6}">{tick:g} s</text>')
    return "".join([*parts, "</svg>"])


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
