"""Quantise an exported graph: convolutions statically, by calibrated ranges; products of matrices dynamically.

Measurements decided what is quantised, and for convolutions they are repeated for every model:

- onnxruntime runs quantised 1-D convolutions faster than float ones, and two-part ones too, see
  `two_part_convolutions`: `benchmark inference` has the figures.
- The convolution that reads the waveform stays float: with one input channel the quantised kernel is much slower.
- The other convolutions are quantised as long as the embeddings of some calibration recordings keep a cosine of
  `FLOOR` to the float ones, for all of them together. The front end of models with GroupNorm fails: its activations
  follow the loudness of the speech. One step of a scale for the loudest frame is more than the whole signal in a quiet
  frame, and the LayerNorm that follows brings quiet frames back to full size.
- A convolution that fails is tried in two parts, if it has no padding, dilation or groups; otherwise it stays float.
- Products of matrices take a new scale at every run: they lose little.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..audio.folders import walk_audio
from ..audio.loading import SAMPLING_RATE, AudioSource, Waveform, load_audio
from ..embedding.graphs import open_session
from .two_part_convolutions import can_be_split, split

if TYPE_CHECKING:
    import onnx

RECORDINGS, SECONDS = 48, 4  # that calibrate: at most so many, evenly spaced, and so much of each
JUDGES = 16  # of the calibration recordings, on which the error of a choice is measured
FLOOR = 0.999  # cosine to float32, of all convolutions together
FEW_RECORDINGS = 16  # with fewer, ranges and errors depend on single voices
SILENT_PEAK = 1e-3  # of full scale; a recording with a lower peak has no speech


@dataclass(frozen=True)
class Quantised:
    """Names of the convolutions by their precision.

    Args:
        int8: quantised in one part.
        two_parts: quantised in two parts.
        float32: left in float32.
    """

    int8: tuple[str, ...]
    two_parts: tuple[str, ...]
    float32: tuple[str, ...]


def check_calibration(int8: bool, calibration: str | Path | None, split: str | None) -> None:
    """Check that int8 has the audio that it needs, and that nothing else has.

    Args:
        int8: whether int8 is asked for.
        calibration: folder or manifest of speech.
        split: of the manifest.

    Raises:
        ValueError: naming what is missing or has no effect.
    """
    if int8 and calibration is None:
        raise ValueError(
            "int8 was asked for without calibration: give a folder or a manifest of a few dozen recordings."
        )
    if calibration is not None and not int8:
        raise ValueError(f"calibration is '{calibration}' for a float32 export: ask for int8, or leave it out.")
    if split is not None and calibration is None:
        raise ValueError(f"split is '{split}' without calibration: it is of a calibration manifest; leave it out.")


def calibration_recordings(source: str | Path, shortest: int, split: str | None = None) -> list[Waveform]:
    """Load the beginnings of some recordings of a folder, at any depth, or of a manifest.

    Args:
        source: the folder or the manifest.
        shortest: samples that a recording needs.
        split: take only the rows of the manifest with this split.

    Returns:
        At most `RECORDINGS` waveforms, (samples,) at 16 kHz, of at most `SECONDS`.

    Raises:
        FileNotFoundError: where there is no such folder or file.
        ValueError: for no recordings at all, or none that is long enough and not silent.
    """
    if not Path(source).exists():
        raise FileNotFoundError(f"There is no calibration audio at '{source}': give a folder or a manifest of speech.")
    audio: list[AudioSource]
    if Path(source).is_dir() and split is None:
        audio = _evenly_spaced(list(walk_audio(source)), RECORDINGS)
    else:
        from ..data.sources import load_manifest

        manifest = load_manifest(source, split)
        audio = [manifest.audio(row) for row in _evenly_spaced(range(len(manifest)), RECORDINGS)]
    if not audio:
        raise ValueError(f"'{source}' has no recordings to calibrate with: give a folder with wav, flac or ogg files.")
    waveforms = [load_audio(recording)[: SECONDS * SAMPLING_RATE] for recording in audio]
    usable = [waveform for waveform in waveforms if len(waveform) >= shortest and np.abs(waveform).max() > SILENT_PEAK]
    if not usable:
        raise ValueError(
            f"Every calibration recording of '{source}' is silent or too short: give recordings with speech in them."
        )
    if len(usable) < FEW_RECORDINGS:
        warnings.warn(f"'{source}' has {len(usable)} recordings to calibrate with: give a few dozen.", stacklevel=3)
    return usable


def quantise(path: Path, target: Path, recordings: Sequence[Waveform], floor: float = FLOOR) -> Quantised:
    """Write the int8 form of a float graph.

    Args:
        path: file of the float graph.
        target: file to write.
        recordings: recordings of speech, (samples,) at 16 kHz.
        floor: lowest cosine to the float embeddings that the int8 convolutions may reach together.

    Returns:
        The precision of every convolution.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(path)
    convolutions = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    candidates = [name for name in convolutions if name not in _reading_the_waveform(model)]
    with tempfile.TemporaryDirectory() as scratch, quiet():
        static = StaticConvolutions(path, Path(scratch), recordings)
        # Half of the error budget for convolutions in one part, so that the rest is left for two-part ones.
        int8 = harmless(candidates, (1 + floor) / 2, lambda names: static.cosine(names, []))
        rejected = [name for name in candidates if name not in int8 and can_be_split(convolutions[name])]
        two_parts = harmless(rejected, floor, lambda names: static.cosine(int8, names))
        # Weights have a scale for each output channel: no slower, and nearer.
        quantize_dynamic(
            static.quantised(int8, two_parts),
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
    changed = {*int8, *two_parts}
    return Quantised(tuple(int8), tuple(two_parts), tuple(name for name in convolutions if name not in changed))


def harmless(candidates: list[str], floor: float, cosine: Callable[[list[str]], float]) -> list[str]:
    """Choose candidates that together keep the cosine at the floor: all of them, or else one after the other.

    Args:
        candidates: names of convolutions, in the order in which they are tried.
        floor: cosine that the chosen ones must keep.
        cosine: function that measures the cosine, for a list of names.

    Returns:
        The chosen names.
    """
    if not candidates or cosine(candidates) >= floor:
        return candidates
    chosen: list[str] = []
    for name in candidates:
        if cosine([*chosen, name]) >= floor:
            chosen.append(name)
    return chosen


class StaticConvolutions:
    """Write graphs with some convolutions in int8, by ranges that are calibrated once.

    Args:
        path: file of the float graph.
        folder: folder for the graphs.
        recordings: recordings of speech, (samples,) at 16 kHz.
    """

    def __init__(self, path: Path, folder: Path, recordings: Sequence[Waveform]) -> None:
        self.path, self.folder, self.recordings = path, folder, recordings
        self.judges = _evenly_spaced(recordings, JUDGES)
        self.expected = embeddings(path, self.judges)

    def cosine(self, int8: list[str], two_parts: list[str]) -> float:
        """Measure the lowest cosine to the float embeddings, with these convolutions in int8.

        Args:
            int8: names of the convolutions in one part.
            two_parts: names of the convolutions in two parts.
        """
        changed = embeddings(self.quantised(int8, two_parts), self.judges)
        return float((changed * self.expected).sum(1).min())

    def quantised(self, int8: list[str], two_parts: list[str]) -> Path:
        """Write the graph with these convolutions in int8; the first call decides which ranges are known.

        Args:
            int8: names of the convolutions in one part.
            two_parts: names of the convolutions in two parts.

        Returns:
            The file of the graph.
        """
        import onnx
        from onnxruntime.quantization import QuantType, quantize_static
        from onnxruntime.quantization.calibrate import load_tensors_data

        target, ranges_file = self.folder / "static.onnx", self.folder / "ranges.json"
        if int8:
            quantize_static(
                self.path,
                target,
                _CalibrationReader(self.recordings),
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=int8,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_cache_path=ranges_file,
            )
        model = onnx.load(target if int8 else self.path)
        if two_parts:
            stored = {name: data.range_value for name, data in load_tensors_data(ranges_file).items()}
            ranges = {name: (float(np.min(low)), float(np.max(high))) for name, (low, high) in stored.items()}
            split(model, two_parts, ranges)
        onnx.save(model, target)
        return target


class _CalibrationReader:
    """Give onnxruntime's calibration one recording at a time: in a batch it would calibrate the padding too."""

    def __init__(self, recordings: Sequence[Waveform]) -> None:
        self.waveforms: Iterator[Waveform] = iter(recordings)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the inputs of the graph for the next recording; None after the last one."""
        waveform = next(self.waveforms, None)
        return None if waveform is None else _inputs_of(waveform)


def embeddings(path: Path, recordings: Sequence[Waveform]) -> NDArray[np.float32]:
    """Embed recordings by a graph, one at a time.

    Args:
        path: file of the graph.
        recordings: (samples,) at 16 kHz.

    Returns:
        (recordings, embedding_size), of unit length.
    """
    session = open_session(path)
    raw = np.concatenate([session.run(None, _inputs_of(waveform))[0] for waveform in recordings])
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and logs of the exporters in a block; errors still come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _inputs_of(waveform: Waveform) -> dict[str, np.ndarray]:
    """Return the inputs of the graph for one recording, without padding."""
    return {"input_values": waveform[None], "attention_mask": np.ones((1, len(waveform)), np.int64)}


def _reading_the_waveform(model: "onnx.ModelProto") -> set[str]:
    """Return the names of the convolutions with one input channel in one group."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    names = set()
    for node in model.graph.node:
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if node.op_type == "Conv" and groups == 1 and shapes.get(node.input[1], (0, 0))[1] == 1:
            names.add(node.name)
    return names


def _evenly_spaced(items: Sequence[Any], count: int) -> list[Any]:
    """Choose at most `count` of the items, evenly spaced."""
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, min(count, len(items)))]
