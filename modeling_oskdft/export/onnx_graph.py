"""A verifier out of Python: one ONNX graph from raw waveform to embedding, and a page that decides with it.

The graph takes `input_values` (batch, samples), the raw 16 kHz waveform, and `attention_mask` (batch, samples), 1
where audio is real; it gives `embeddings` (batch, embedding_size) as the PyTorch verifier does. The feature
extractor's normalisation is in it.
"""

import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._version import __version__
from ..audio.loading import SAMPLING_RATE, Waveform
from ..embedding.locations import find
from ..embedding.opening import check_feature_extractor
from ..embedding.runtimes import EXPORT_EXTRA, MODEL_NAME, Embedder, OnnxEmbedder, TorchEmbedder
from ..files import replaced_folder, sha256_of
from ..model.modeling_oskdft import OSKDFTForXVector, shortest_input
from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds
from .int8 import Quantised, calibration_recordings, quantise, quiet

VERIFY_NAME = "verify.py"
PACKAGE = Path(__file__).parents[1]
# What decides without this package.
PAGES = ("export/standalone/verify.py", "audio/decoding.py", "audio/speech.py")
WRITTEN = {MODEL_NAME, THRESHOLDS_NAME, *PAGES}
OPSETS = range(18, 24)
OPSET = 20
EPSILON = 1e-7  # of Wav2Vec2FeatureExtractor
PARITY = 1e-4  # in cosine
INT8_COSINE = 0.99  # below, decisions change that are not near the threshold
BATCH = 8
INPUTS, OUTPUT = ("input_values", "attention_mask"), "embeddings"


@dataclass(frozen=True)
class Export:
    """What was written and where. cosine: the lowest to the PyTorch verifier, on what it was tried on."""

    folder: str
    precision: str
    opset: int
    bytes: int
    cosine: float
    int8_convolutions: tuple[str, ...] = ()
    two_part_convolutions: tuple[str, ...] = ()
    float_convolutions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class RawToEmbedding(nn.Module):
    """Feature extractor and verifier as one module: what is traced."""

    def __init__(self, verifier: OSKDFTForXVector, do_normalize: bool) -> None:
        super().__init__()
        self.verifier = verifier
        self.do_normalize = do_normalize

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        """input_values: (batch, samples), raw; attention_mask: (batch, samples). Returns (batch, embedding_size)."""
        valid = attention_mask.to(input_values.dtype)
        waveform = normalised(input_values, valid) if self.do_normalize else input_values * valid
        return self.verifier(waveform, attention_mask).embeddings


def normalised(waveform: Tensor, valid: Tensor) -> Tensor:
    """Zero mean and unit variance over the valid samples of each row, zeros beyond, as `Wav2Vec2FeatureExtractor`.

    waveform, valid (1 or 0): (batch, samples). Returns the same shape.
    """
    count = valid.sum(-1, keepdim=True)
    mean = (waveform * valid).sum(-1, keepdim=True) / count
    centred = (waveform - mean) * valid
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred / (variance + EPSILON).sqrt()


def export_onnx(
    name_or_path: str | Path,
    out: str | Path,
    opset: int = OPSET,
    revision: str | None = None,
    int8: bool = False,
    calibration: str | Path | None = None,
    split: str | None = None,
) -> Export:
    """Write the verifier of a folder or repository to the folder `out`: model.onnx, thresholds.json, verify.py.

    int8: quantised, see `quantization`, which wants `calibration`, a folder or manifest of speech; split: of its rows.
    The folder appears as a whole. Raises `ImportError` without the packages of the extra `export`, `ValueError` for an
    opset that is not supported, for what is no OSKDFTForXVector, for an `out` that holds anything but an export, and
    for calibration audio that is missing or silent; `OSError` as `SpeakerVerifier.from_pretrained`.
    """
    _check_packages()
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}: {OPSETS[0]} to {OPSETS[-1]} are supported, {OPSET} is the default.")
    if int8 and calibration is None:
        raise ValueError(
            "int8 was asked for without calibration: give a folder or a manifest of a few dozen recordings."
        )
    if calibration is not None and not int8:
        raise ValueError(f"calibration is '{calibration}' for a float32 export: ask for int8, or leave it out.")
    if split is not None and calibration is None:
        raise ValueError(f"split is '{split}' without calibration: it is of a calibration manifest; leave it out.")
    _check_place(Path(out))
    name = str(name_or_path)
    source = TorchEmbedder.from_pretrained(name, revision)
    check_feature_extractor(source.feature_extractor, name)
    shortest = shortest_input(source.model.config)
    tried = _noise(shortest) if calibration is None else calibration_recordings(calibration, shortest, split)
    with replaced_folder(out) as folder:
        graph = folder / MODEL_NAME
        write_graph(source, graph, opset, Path(name).name)
        _check_parity(source, OnnxEmbedder(graph), _noise(shortest))
        done = _to_int8(graph, tried) if int8 else None
        _add_thresholds(name, revision, source.fingerprint(), folder)
        for page in PAGES:
            shutil.copy(PACKAGE / page, folder / Path(page).name)
        cosine, size = lowest_cosine(source, OnnxEmbedder(graph), tried), graph.stat().st_size
    if int8 and cosine < INT8_COSINE:
        warnings.warn(
            f"In int8 an embedding of the calibration audio falls to a cosine of {cosine:.3f}: expect other "
            "decisions, or export float32.",
            stacklevel=2,
        )
    if done is None:
        return Export(str(out), "float32", opset, size, cosine)
    return Export(str(out), "int8", opset, size, cosine, done.int8, done.two_parts, done.float32)


def _to_int8(graph: Path, recordings: Sequence[Waveform]) -> Quantised:
    """Put the int8 form in the place of a float graph, with the same metadata."""
    import onnx

    target = graph.with_suffix(".int8")
    done = quantise(graph, target, recordings)
    facts = {entry.key: entry.value for entry in onnx.load(graph, load_external_data=False).metadata_props}
    model = onnx.load(target)
    onnx.helper.set_model_props(model, facts | {"precision": "int8"})
    onnx.checker.check_model(model)
    onnx.save(model, graph)
    target.unlink()
    return done


def _check_parity(source: TorchEmbedder, exported: Embedder, recordings: Sequence[Waveform]) -> None:
    """No graph leaves that computes something else, whatever tracing took for a constant."""
    cosine = min(lowest_cosine(source, exported, batch) for batch in (recordings, recordings[-1:]))
    if not math.isfinite(cosine):
        raise ValueError(
            "The verifier gives NaN or infinite embeddings for noise: export one whose weights are sound."
        )
    if not cosine > 1 - PARITY:
        raise RuntimeError(f"The exported graph is not the verifier (cosine {cosine:.6f}): report this model's shape.")


def write_graph(source: TorchEmbedder, path: Path, opset: int, name: str) -> None:
    """The float32 graph, checked, with what a reader must know of it in its metadata."""
    import onnx

    traced = RawToEmbedding(_plain_copy(source.model), bool(source.feature_extractor.do_normalize)).eval()
    shortest = shortest_input(source.model.config)
    hop = math.prod(source.model.config.encoder_config.conv_stride) * source.model.config.time_reduction
    # Two rows and several frames: tracing takes a size of one for a constant. It would also take the shortest input
    # for a case of its own and trace a second time; the graph is the same for one frame, which `lowest_cosine` tries.
    example = (torch.zeros(2, shortest + 8 * hop), torch.ones(2, shortest + 8 * hop, dtype=torch.long))
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("samples", min=shortest + hop)}
    with quiet():
        try:
            program: Any = torch.onnx.export(
                traced,
                example,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(INPUTS, sizes),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                opset_version=opset,
                verbose=False,
            )
        except RuntimeError as error:  # the exporter's own are such
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"torch cannot export this verifier ({reason}): report its shape.") from error
    program.model.metadata_props.update(
        {
            "name": name,
            "fingerprint": source.fingerprint(),
            "sampling_rate": str(SAMPLING_RATE),
            "shortest_input": str(shortest),
            "precision": "float32",
            "modeling_oskdft": __version__,
        }
    )
    for node in program.model.graph.all_nodes():  # where each was traced: paths of this machine, and 0.4 MB
        node.metadata_props.clear()
    program.save(path)
    onnx.checker.check_model(str(path))


def lowest_cosine(one: Embedder, other: Embedder, recordings: Sequence[Waveform]) -> float:
    """Of the embeddings of the same recordings by two runtimes."""
    batches = [recordings[start : start + BATCH] for start in range(0, len(recordings), BATCH)]
    first, second = (
        torch.from_numpy(np.concatenate([embedder.embed(batch) for batch in batches])) for embedder in (one, other)
    )
    return float(torch.cosine_similarity(first, second).min())


def _noise(shortest: int) -> list[Waveform]:
    """Three lengths, of which the first is the shortest that there can be."""
    generator = np.random.default_rng(0)
    lengths = (shortest, SAMPLING_RATE, 2 * SAMPLING_RATE)
    return [generator.normal(0.0, 0.1, samples).astype(np.float32) for samples in lengths]


def _plain_copy(model: OSKDFTForXVector) -> OSKDFTForXVector:
    """A copy on the CPU whose positional convolution has its weight, and not what the weight is computed from."""
    # Built anew: a deep copy shares the class that carries the parametrisation, so that removing it there would take
    # it from the original as well.
    plain = OSKDFTForXVector(model.config)
    plain.load_state_dict(model.state_dict())
    for module in list(plain.modules()):
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            nn.utils.parametrize.remove_parametrizations(module, "weight")
    return plain.eval()


def _add_thresholds(name: str, revision: str | None, fingerprint: str, folder: Path) -> None:
    found = find(name, THRESHOLDS_NAME, revision)
    if found is None:
        warnings.warn(f"'{name}' has no thresholds: the export gives scores and no decisions.", stacklevel=3)
        return
    thresholds = Thresholds.load(found)
    if thresholds.fingerprint != fingerprint:
        warnings.warn("The thresholds are of other weights and were left out: measure them anew.", stacklevel=3)
        return
    replace(thresholds, graph=sha256_of(folder / MODEL_NAME)).save(folder)


def _check_packages() -> None:
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            import_module(name)
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed, and the export needs it: {EXPORT_EXTRA}.") from None


def _check_place(out: Path) -> None:
    """An export may take the place of an export, or of nothing."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"'{out}' is a file: give a folder that is new, empty, or holds an export.")
    if out.resolve() == Path.cwd() or out.is_mount():
        raise ValueError(
            f"'{out}' is the working directory or a mount, which cannot be replaced: give a folder in it."
        )
    others = sorted({file.name for file in out.iterdir()} - WRITTEN - {f"{MODEL_NAME}.data"})
    if others:
        raise ValueError(
            f"'{out}' holds {others[0]}, which no export wrote: give a folder that is new, empty, or holds an export."
        )
    graph = out / MODEL_NAME
    if graph.exists():
        try:
            OnnxEmbedder(graph)
        except ValueError:
            raise ValueError(f"'{graph}' is no export of this package: give a folder that is new or empty.") from None
