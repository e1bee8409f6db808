"""int8 for an exported graph: convolutions statically, with ranges from recordings; products of matrices dynamically.

What is quantised was decided by measuring, and for convolutions it is measured again for every model:

- onnxruntime runs quantised 1-D convolutions faster than float ones, and also those in two parts, see
  `two_part_convolutions`: `benchmark inference` has the figures.
- The convolution that reads the waveform stays float: with one input channel the quantised kernel is much slower.
- Every other one is quantised where that changes no embedding of some calibration recordings by more than `FLOOR`. The
  front end of models with GroupNorm fails: its activations follow the loudness of the speech, so that one step of a
  scale for the loudest frame is more than all there is in a quiet one, and the LayerNorm that follows brings the
  quiet ones back to full size.
- What fails is tried in two parts, and stays float where that fails as well.
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

from ..audio.folders import walk_audio
from ..audio.loading import SAMPLING_RATE, Waveform, load_audio
from ..embedding.runtimes import open_session
from .two_part_convolutions import can_be_split, split

if TYPE_CHECKING:
    import onnx

RECORDINGS, SECONDS = 48, 4  # that calibrate: this many at most, evenly spaced, this much of each
JUDGES = 16  # of them, which a convolution must not change
FLOOR = 0.999  # cosine to float32, of all convolutions together
FEW = 16  # recordings: with fewer, ranges and judgement hang on single voices
QUIETEST = 1e-3  # of full scale; a recording that stays below holds no speech


@dataclass(frozen=True)
class Quantised:
    """Names of the convolutions that became int8, of those that did in two parts, and of those that stay float."""

    int8: tuple[str, ...]
    two_parts: tuple[str, ...]
    float32: tuple[str, ...]


def calibration_recordings(source: str | Path, shortest: int, split: str | None = None) -> list[Waveform]:
    """The beginnings of some recordings of a folder (at any depth) or a manifest, at 16 kHz.

    shortest: samples that one needs. split: rows of a manifest whose split is this one. Raises `FileNotFoundError` and
    `ValueError` where there is nothing, or nothing but silence.
    """
    if not Path(source).exists():
        raise FileNotFoundError(f"There is no calibration audio at '{source}': give a folder or a manifest of speech.")
    audio: list[Any]
    if Path(source).is_dir() and split is None:
        audio = list(walk_audio(source))
    else:
        from ..data.sources import load_manifest

        manifest = load_manifest(source, split)
        audio = [manifest.audio(row) for row in _some(range(len(manifest)))]
    if not audio:
        raise ValueError(f"'{source}' has no recordings to calibrate with: give a folder with wav, flac or ogg files.")
    waveforms = [load_audio(one)[: SECONDS * SAMPLING_RATE] for one in _some(audio)]
    heard = [waveform for waveform in waveforms if len(waveform) >= shortest and np.abs(waveform).max() > QUIETEST]
    if not heard:
        raise ValueError(
            f"Every calibration recording of '{source}' is silent or too short: give recordings with speech in them."
        )
    if len(heard) < FEW:
        warnings.warn(f"'{source}' has {len(heard)} recordings to calibrate with: give a few dozen.", stacklevel=3)
    return heard


def quantise(path: Path, target: Path, recordings: Sequence[Waveform], floor: float = FLOOR) -> Quantised:
    """Write the int8 form of the float graph at `path` to `target`.

    recordings: of speech, (samples,) at 16 kHz. floor: the cosine that the convolutions in int8 must keep together.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(path)
    convolutions = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    candidates = [name for name in convolutions if name not in _reading_the_waveform(model)]
    with tempfile.TemporaryDirectory() as place, quiet():
        static = StaticConvolutions(path, Path(place), recordings)
        # Half of what may be lost is for those in one part, so that they leave something to those in two.
        kept = harmless(candidates, (1 + floor) / 2, lambda names: static.cosine(names, []))
        others = [name for name in candidates if name not in kept and can_be_split(convolutions[name])]
        two_parts = harmless(others, floor, lambda names: static.cosine(kept, names))
        # Weights by output channel: no slower, and nearer.
        quantize_dynamic(
            static.quantised(kept, two_parts),
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
    changed = {*kept, *two_parts}
    return Quantised(tuple(kept), tuple(two_parts), tuple(name for name in convolutions if name not in changed))


def harmless(candidates: list[str], floor: float, cosine: Callable[[list[str]], float]) -> list[str]:
    """Those that can be int8 and together keep the cosine: all, or else one after the other, while they do."""
    if not candidates or cosine(candidates) >= floor:
        return candidates
    kept: list[str] = []
    for name in candidates:
        if cosine([*kept, name]) >= floor:
            kept.append(name)
    return kept


class StaticConvolutions:
    """Graphs with some convolutions in int8, from ranges that are calibrated once."""

    def __init__(self, path: Path, place: Path, recordings: Sequence[Waveform]) -> None:
        self.path, self.place, self.recordings = path, place, recordings
        self.judges = [recordings[row] for row in _some(range(len(recordings)), JUDGES)]
        self.expected = embeddings(path, self.judges)

    def cosine(self, names: list[str], two_parts: list[str]) -> float:
        """The lowest, between embeddings with these convolutions in int8, the second ones in two parts, and none."""
        found = embeddings(self.quantised(names, two_parts), self.judges)
        return float((found * self.expected).sum(1).min())

    def quantised(self, names: list[str], two_parts: list[str]) -> Path:
        """A graph with these convolutions in int8; the first call decides which ranges are known."""
        import onnx
        from onnxruntime.quantization import QuantType, quantize_static
        from onnxruntime.quantization.calibrate import load_tensors_data

        target, ranges = self.place / "static.onnx", self.place / "ranges.json"
        if names:
            quantize_static(
                self.path,
                target,
                _Reader(self.recordings),
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=names,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_cache_path=ranges,
            )
        model = onnx.load(target if names else self.path)
        if two_parts:
            known = {name: data.range_value for name, data in load_tensors_data(ranges).items()}
            split(
                model,
                two_parts,
                {name: (float(np.min(low)), float(np.max(high))) for name, (low, high) in known.items()},
            )
        onnx.save(model, target)
        return target


class _Reader:
    """Recordings as onnxruntime's calibration asks for them, one at a time: padding would be calibrated as well."""

    def __init__(self, recordings: Sequence[Waveform]) -> None:
        self.waiting: Iterator[Waveform] = iter(recordings)

    def get_next(self) -> dict[str, np.ndarray] | None:
        waveform = next(self.waiting, None)
        return None if waveform is None else _inputs(waveform)


def embeddings(path: Path, recordings: Sequence[Waveform]) -> np.ndarray:
    """(recordings, embedding_size) of a graph, of unit length."""
    session = open_session(path)
    found = np.concatenate([session.run(None, _inputs(waveform))[0] for waveform in recordings])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _inputs(waveform: Waveform) -> dict[str, np.ndarray]:
    return {"input_values": waveform[None], "attention_mask": np.ones((1, len(waveform)), np.int64)}


def _reading_the_waveform(model: "onnx.ModelProto") -> set[str]:
    """Convolutions with one input channel in one group."""
    shapes = {weights.name: tuple(weights.dims) for weights in model.graph.initializer}
    found = set()
    for node in model.graph.node:
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        if node.op_type == "Conv" and groups == 1 and shapes.get(node.input[1], (0, 0))[1] == 1:
            found.add(node.name)
    return found


def _some(items: Sequence[Any], count: int = RECORDINGS) -> list[Any]:
    """`count` of them at most, evenly spaced."""
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, min(count, len(items)))]


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters tell of their own inner life; what matters to the user comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
