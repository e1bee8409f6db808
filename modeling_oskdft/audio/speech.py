"""Find speech, and faults of a recording that make a decision unreliable: silence, short speech, clipping, noise.

Silero's network finds speech where it is installed (`pip install 'modeling-oskdft[vad]'`); elsewhere the level
decides, and then noise and music pass for speech. This file stands alone: an exported folder has a copy beside
verify.py. It needs numpy.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

SAMPLING_RATE = 16000
FRAME = 512  # samples: 32 ms, the frame of Silero's network
CONTEXT = 64  # samples before each frame, which the network reads as well
SPEECH_PROBABILITY = 0.5  # Silero's own threshold
ENOUGH_SPEECH = 1.0  # seconds; below, two recordings of one speaker often score as two speakers
SILENCE = 10 ** (-84 / 20)  # of full scale, as a root mean square: below are the last bits of 16
TOO_QUIET = 10 ** (-60 / 20)  # of the loudest frame: from here on, noise and rounding are near the speech
BELOW_LOUDEST = 10 ** (-35 / 20)  # a frame further below the loudest one is a pause
FULL_SCALE, CLIPPED_SHARE = 0.999, 0.01
WRONG_SCALE = 2.0  # floating-point speech may exceed 1 a little
# None of 400 recordings of real speech is below either (lowest 5.9 dB and 0.35), 31 of 76 of noise and music are.
LEAST_VARIATION, LEAST_VOICED = 5.0, 0.25
ENOUGH_FRAMES = 25
MOST_SPECTRA = 60 * SAMPLING_RATE  # samples in which the spectra of a recording without a network are compared
HOP, WINDOW, SPECTRUM = 320, 512, 1024
BANDS = (np.geomspace(100, 7000, 21) / SAMPLING_RATE * SPECTRUM).astype(int)
PITCH = slice(40, 229)  # lags in samples: 400 to 70 Hz
LOW_BAND, HIGH_BAND = slice(10, 109), slice(135, 224)  # of 257 frequencies: 300 to 3400 Hz, 4200 to 7000 Hz
# The high band against the low band, in dB, where it is strongest (95 of 100 frames are below): at least -21 in 250
# wide-band recordings of real speech, at most -34 in recordings at 8 kHz.
NARROW_BAND = -30.0
SEQUENCE_MODEL, TORCH_MODEL = "silero_vad_16k_sequence.onnx", "silero_vad.jit"
LEVEL_ALONE = (
    "Speech was found by its level alone, so noise may count as speech: pip install onnxruntime silero-vad, or "
    "'modeling-oskdft[vad]'."
)


State = Any  # what a network remembers between frames


class SpeechNetwork(Protocol):
    """Compute the probability of speech in frames that follow each other."""

    name: str

    def start(self) -> State:
        """Return the state before the first frame."""
        ...

    def probabilities(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Compute the probability of speech in each frame.

        Args:
            frames: (frames, CONTEXT + FRAME), each with the samples before it.
            state: state behind the frames before.

        Returns:
            (frames,) in [0, 1], and the state behind these frames.
        """
        ...


class SileroSequence:
    """Run Silero's sequence model in onnxruntime, on one thread.

    Args:
        path: the file `silero_vad_16k_sequence.onnx` of the package silero-vad (MIT).

    Raises:
        ImportError: without onnxruntime.
    """

    name = "silero"

    def __init__(self, path: str | Path) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports home from its import on
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def start(self) -> State:
        """Return the state before the first frame, see `SpeechNetwork`."""
        return np.zeros((1, 1, 128), np.float32), np.zeros((1, 1, 128), np.float32)

    def probabilities(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Compute the probability of speech in each frame, see `SpeechNetwork`."""
        hidden, cell = state
        values, hidden, cell = self.session.run(None, {"input": frames, "h": hidden, "c": cell})
        return np.reshape(values, -1), (hidden, cell)


class SileroTorch:
    """Run Silero's model in torch, for machines without onnxruntime; frame by frame.

    Args:
        path: the file `silero_vad.jit` of the package silero-vad (MIT).

    Raises:
        ImportError: without torch.
    """

    name = "silero"

    def __init__(self, path: str | Path) -> None:
        import torch

        self.torch, self.path = torch, str(path)

    def start(self) -> State:
        """Return the state before the first frame: a model of its own, which remembers what it has heard."""
        return self.torch.jit.load(self.path, map_location="cpu").eval()

    def probabilities(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Compute the probability of speech in each frame, see `SpeechNetwork`."""
        with self.torch.inference_mode():
            samples = self.torch.from_numpy(np.ascontiguousarray(frames[:, CONTEXT:]))
            return np.asarray([float(state(frame[None], SAMPLING_RATE)) for frame in samples], np.float32), state


@cache
def speech_network() -> SpeechNetwork | None:
    """Open Silero's network: the file beside this one, as in an export, or the file of the package silero-vad.

    The package is not imported, because its import sets the threads of torch to 1 for the whole process.

    Returns:
        The network, or None where its files, or onnxruntime and torch, are missing.
    """
    for path, kind in ((sequence_model(), SileroSequence), (_file_of_silero(TORCH_MODEL), SileroTorch)):
        if path is not None:
            try:
                return kind(path)
            except ImportError:
                continue
            except Exception as error:  # the errors of onnxruntime have no common class
                raise ValueError(
                    f"'{path.name}', which finds speech, cannot be opened ({type(error).__name__}): install "
                    "silero-vad again, or export the verifier again."
                ) from None
    return None


def sequence_model() -> Path | None:
    """Find the file of Silero's sequence model; None where there is none."""
    beside = Path(__file__).with_name(SEQUENCE_MODEL)
    return beside if beside.is_file() else _file_of_silero(SEQUENCE_MODEL)


def _file_of_silero(name: str) -> Path | None:
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("data") / name
    return path if path.is_file() else None


class Speech(NamedTuple):
    """Hold where speech is in a recording.

    Attributes:
        frames: (frames,) bool, frames of `FRAME` samples; the last one may reach beyond the recording.
        samples: length of the recording.
        network: name of the network that found it; None for the level.
    """

    frames: np.ndarray
    samples: int
    network: str | None

    @property
    def seconds(self) -> float:
        """Return the seconds of speech."""
        return self.seconds_between(0, self.samples)

    def seconds_between(self, start: int, stop: int) -> float:
        """Return the seconds of speech between two samples.

        Args:
            start: first sample.
            stop: sample behind the last one.
        """
        first, last = start // FRAME, -(-min(stop, self.samples) // FRAME)
        edges = np.arange(first, max(last, first) + 1) * FRAME
        covered = np.clip(np.minimum(edges[1:], min(stop, self.samples)) - np.maximum(edges[:-1], start), 0, None)
        return float(covered[self.frames[first:last]].sum()) / SAMPLING_RATE


class Inspection:
    """Inspect a recording that is given block by block: where its speech is, and what is wrong with it.

    Args:
        network: network that finds speech; None for the level alone.
    """

    def __init__(self, network: SpeechNetwork | None) -> None:
        self.network = network
        self._state = None if network is None else network.start()
        self._rest = np.zeros(0, np.float32)  # samples that do not fill a frame yet
        self._context = np.zeros(CONTEXT, np.float32)
        self._kept: list[np.ndarray] = []  # the first minute, for the comparison of spectra
        self._levels: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []
        self._bands: list[np.ndarray] = []
        self.samples, self._clipped, self._peak = 0, 0, 0.0

    def add(self, block: np.ndarray) -> None:
        """Add the samples that follow.

        Args:
            block: (samples,) at 16 kHz.
        """
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        self._clipped += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
        if self.network is None and self.samples < MOST_SPECTRA:
            self._kept.append(block[: MOST_SPECTRA - self.samples])
        self.samples += len(block)
        joined = np.concatenate([self._rest, block]) if len(self._rest) else block
        whole = len(joined) // FRAME * FRAME
        self._rest = joined[whole:].copy()
        self._add_frames(joined[:whole].reshape(-1, FRAME))

    def finish(self) -> Speech:
        """Find the speech, when the last block was added.

        Returns:
            The speech; `faults` may be asked now.
        """
        if len(self._rest):
            self._add_frames(np.pad(self._rest, (0, FRAME - len(self._rest)), mode="edge")[None])
            self._rest = self._rest[:0]
        levels = self.levels
        sounds = levels > SILENCE
        if self.network is None:
            frames = levels > max(SILENCE, BELOW_LOUDEST * levels.max(initial=0.0))
        else:
            frames = (np.concatenate([*self._probabilities, np.zeros(0)]) >= SPEECH_PROBABILITY) & sounds
        self.speech = Speech(frames, self.samples, None if self.network is None else self.network.name)
        return self.speech

    def faults(self, name: str) -> list[str]:
        """List the faults that make a decision unreliable.

        Args:
            name: name of the recording in the sentences.

        Returns:
            A sentence for each fault: no speech, less than 1 s of speech, samples beyond [-1, 1], clipping, a low
            level, or a narrow band.

        Raises:
            ValueError: for a silent recording.
        """
        levels, seconds = self.levels, self.speech.seconds
        if not (levels > SILENCE).any():
            raise ValueError(f"{name} is silent: give a recording with speech in it.")
        faults = []
        if seconds and seconds < ENOUGH_SPEECH:
            faults.append(
                f"{name} has {seconds:.1f} s of speech: below {ENOUGH_SPEECH:.0f} s decisions are unreliable; give "
                "more."
            )
        clipped = self._clipped / self.samples
        if self._peak > WRONG_SCALE:
            faults.append(
                f"{name} has samples that reach {self._peak:,.0f}: floats in [-1, 1] are wanted; divide by 32768 what "
                "was 16-bit."
            )
        elif self.is_clipped:
            faults.append(
                f"{name} is clipped ({100 * clipped:.1f} % of the samples at full scale): record at a lower level."
            )
        is_too_quiet = levels.max() < TOO_QUIET
        if is_too_quiet:
            faults.append(
                f"{name} is too quiet ({20 * np.log10(levels.max()):.0f} dB of full scale at its loudest): record at "
                "a higher level."
            )
        if not self._has_a_voice():
            if is_too_quiet:  # then the network hears nothing, and cannot tell what it would be
                return faults
            faults.append(
                f"{name} has nothing in it that is like speech: noise, tones and music say nothing about a speaker; "
                "give a recording of a voice."
            )
        elif self.is_narrow_band:
            faults.append(
                f"{name} has no speech above 4 kHz, as from a telephone or a narrow-band codec: scores against "
                "wide-band recordings are lower; enrol over the same channel."
            )
        return faults

    @property
    def levels(self) -> np.ndarray:
        """Return the root mean square of each frame without its mean, (frames,): a constant is no sound."""
        return np.concatenate([*self._levels, np.zeros(0)])

    @property
    def is_clipped(self) -> bool:
        """Return whether more than 1 % of the samples are at full scale; never for samples of another scale."""
        return self._peak <= WRONG_SCALE and self._clipped > CLIPPED_SHARE * self.samples

    @property
    def is_narrow_band(self) -> bool:
        """Return whether the speech has hardly any energy above 4.2 kHz, not even in its fricatives."""
        ratios = np.concatenate([*self._bands, np.zeros(0)])[self.speech.frames]
        return len(ratios) >= ENOUGH_FRAMES and bool(np.percentile(ratios, 95) < NARROW_BAND)

    def _add_frames(self, frames: np.ndarray) -> None:
        """Measure frames, (frames, FRAME), and ask the network about them."""
        if not len(frames):
            return
        centred = frames - frames.mean(1, keepdims=True, dtype=np.float64)
        self._levels.append(np.sqrt(np.mean(np.square(centred), axis=1)))
        power = np.square(np.abs(np.fft.rfft(centred * np.hanning(FRAME), axis=1)))
        low, high = (power[:, band].sum(1) for band in (LOW_BAND, HIGH_BAND))
        self._bands.append(10 * np.log10((high + 1e-12) / (low + 1e-12)))
        if self.network is not None:
            before = np.concatenate([self._context[None], frames[:-1, -CONTEXT:]])
            inputs = np.concatenate([before, frames], axis=1).astype(np.float32, copy=False)
            probabilities, self._state = self.network.probabilities(inputs, self._state)
            self._probabilities.append(probabilities)
            self._context = frames[-1, -CONTEXT:].copy()

    def _has_a_voice(self) -> bool:
        if self.network is not None:
            return bool(self.speech.frames.any())
        return _is_like_speech(np.concatenate(self._kept), self.speech.frames)


def inspect(waveform: np.ndarray) -> Inspection:
    """Inspect a whole recording.

    Args:
        waveform: (samples,) at 16 kHz.

    Returns:
        The finished inspection, with its `speech`.
    """
    inspection = Inspection(speech_network())
    for start in range(0, len(waveform), MOST_SPECTRA):  # the network takes memory for each frame of a block
        inspection.add(waveform[start : start + MOST_SPECTRA])
    inspection.finish()
    return inspection


def inspect_recording(waveform: np.ndarray, name: str) -> list[str]:
    """Inspect a recording for faults that make a decision unreliable.

    Args:
        waveform: (samples,) at 16 kHz.
        name: name of the recording in the sentences.

    Returns:
        A sentence for each fault, see `Inspection.faults`.

    Raises:
        ValueError: for a silent recording.
    """
    return inspect(waveform).faults(name)


def find_speech(waveform: np.ndarray) -> Speech:
    """Find the speech in a recording.

    Args:
        waveform: (samples,) at 16 kHz.
    """
    return inspect(waveform).speech


def speech_frames(waveform: np.ndarray) -> np.ndarray:
    """Find the frames with speech.

    Args:
        waveform: (samples,) at 16 kHz.

    Returns:
        (frames,) bool, frames of `FRAME` samples, 32 ms.
    """
    return find_speech(waveform).frames


def speech_seconds(waveform: np.ndarray) -> float:
    """Return the seconds of speech in a waveform, (samples,) at 16 kHz.

    Args:
        waveform: (samples,) at 16 kHz.
    """
    return find_speech(waveform).seconds


def _is_like_speech(waveform: np.ndarray, speech: np.ndarray) -> bool:
    """Return whether the spectrum changes as in speech and some frames have a pitch; True for short recordings."""
    starts = np.arange(0, max(len(waveform) - WINDOW, 0) // HOP) * HOP
    starts = starts[speech[starts // FRAME]]
    if len(starts) < ENOUGH_FRAMES:
        return True
    window = np.hanning(WINDOW)
    frames = (waveform[starts[:, None] + np.arange(WINDOW)] - np.mean(waveform)) * window
    power = np.square(np.abs(np.fft.rfft(frames, SPECTRUM)))
    bands = np.add.reduceat(power, BANDS, axis=1)[:, :-1]
    shape = 10 * np.log10(bands + 1e-10)
    shape -= shape.mean(1, keepdims=True)
    correlation = np.fft.irfft(power)[:, PITCH] / (power.sum(1, keepdims=True) / SPECTRUM * 2 + 1e-12)
    of_window = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, SPECTRUM))))
    voiced = (correlation / (of_window[PITCH] / of_window[0]) > 0.5).any(1)
    return bool(shape.std(0).mean() >= LEAST_VARIATION and voiced.mean() >= LEAST_VOICED)
