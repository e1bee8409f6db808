"""Export a verifier as one ONNX graph from raw waveform to embedding, with a program that decides by it.

The graph takes `input_values` (batch, samples), the raw 16 kHz waveform, and `attention_mask` (batch, samples), 1
where audio is real; it gives `embeddings` (batch, embedding_size) as the PyTorch verifier does. The normalisation of
the feature extractor is part of the graph.
"""

import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._version import __version__
from ..audio.forms import SAMPLING_RATE, Waveform
from ..audio.speech import SEQUENCE_MODEL, sequence_model
from ..embedding.locations import find
from ..embedding.opening import check_feature_extractor
from ..embedding.runtimes import EXPORT_EXTRA, MODEL_NAME, Embedder, OnnxEmbedder, TorchEmbedder
from ..errors import first_line
from ..files import replaced_folder, sha256_of
from ..model.modeling_oskdft import OSKDFTForXVector, shortest_input
from ..scoring.calibration import CALIBRATION_NAME, PREVIOUS_NAME, Calibration
from ..scoring.normalization import COHORT_NAME, Cohort
from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds
from .int8 import Quantised, calibration_recordings, quantise, quiet

PACKAGE = Path(__file__).parents[1]
# Copied into every export: the program that decides, and the files that it imports.
PAGES = ("export/standalone/verify.py", "audio/decoding.py", "audio/speech.py", "audio/track.py")
SILERO_LICENCE = "silero_vad.LICENSE"
WRITTEN = {
    *(MODEL_NAME, THRESHOLDS_NAME, CALIBRATION_NAME, COHORT_NAME, SEQUENCE_MODEL, SILERO_LICENCE),
    *(Path(page).name for page in PAGES),
}
VAD_EXTRA = "pip install 'modeling-oskdft[vad]'"
# What may come into the folder later: by Python, by `oskdft calibrate`, by an exporter of torch.
BESIDE = {"__pycache__", PREVIOUS_NAME, f"{MODEL_NAME}.data"}
OPSETS = range(18, 24)
OPSET = 20
EPSILON = 1e-7  # of Wav2Vec2FeatureExtractor
PARITY = 1e-4  # largest distance in cosine between the graph and the PyTorch verifier
INT8_COSINE = 0.99  # below, decisions change that are not near the threshold
BATCH = 8
INPUTS, OUTPUT = ("input_values", "attention_mask"), "embeddings"


@dataclass(frozen=True)
class Export:
    """Describe an export.

    Args:
        folder: path of the folder that was written.
        precision: "float32" or "int8".
        opset: ONNX operator set of the graph.
        bytes: size of the graph.
        cosine: the lowest cosine to the PyTorch verifier, on noise, or on the calibration audio of an int8 export.
        int8_convolutions: names of the convolutions in int8.
        two_part_convolutions: names of the convolutions in int8 with activations of two parts.
        float_convolutions: names of the convolutions that an int8 export leaves in float32.
    """

    folder: str
    precision: str
    opset: int
    bytes: int
    cosine: float
    int8_convolutions: tuple[str, ...] = ()
    two_part_convolutions: tuple[str, ...] = ()
    float_convolutions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return asdict(self)


def export_onnx(
    name_or_path: str | Path,
    out: str | Path,
    opset: int = OPSET,
    revision: str | None = None,
    int8: bool = False,
    calibration: str | Path | None = None,
    split: str | None = None,
) -> Export:
    """Export a verifier to a folder: model.onnx, thresholds.json, calibration.json, verify.py and what it imports.

    The folder appears as a whole or not at all.

    Args:
        name_or_path: folder or repository of the verifier.
        out: the folder to write. An export that lies there is replaced, anything else is not.
        opset: ONNX operator set of the graph, 18 to 23.
        revision: branch, tag or commit of the repository.
        int8: quantise the graph, see `int8`.
        calibration: folder or manifest of speech, which int8 needs.
        split: take only the rows of the calibration manifest with this split.

    Returns:
        What was written.

    Raises:
        ImportError: without the packages of the extra `export`.
        ValueError: for an opset that is not supported, for a model that is no OSKDFTForXVector, for an `out` that
            holds anything but an export, and for calibration audio that is missing or silent.
        OSError: as `SpeakerVerifier.from_pretrained`.
    """
    _check_packages()
    _check_options(opset, int8, calibration, split)
    _check_place(Path(out))
    name = str(name_or_path)
    source = TorchEmbedder.from_pretrained(name, revision)
    check_feature_extractor(source.feature_extractor, name)
    shortest = shortest_input(source.model.config)
    recordings = _noise(shortest) if calibration is None else calibration_recordings(calibration, shortest, split)
    with replaced_folder(out) as folder:
        graph = folder / MODEL_NAME
        write_graph(source, graph, opset, Path(name).name)
        _check_parity(source, OnnxEmbedder(graph), _noise(shortest))
        quantised = _quantise_in_place(graph, recordings) if int8 else None
        _add_thresholds(name, revision, source.fingerprint(), folder)
        _add_calibration(name, revision, source.fingerprint(), folder)
        _add_speech_network(folder)
        for page in PAGES:
            shutil.copy(PACKAGE / page, folder / Path(page).name)
        cosine, size = lowest_cosine(source, OnnxEmbedder(graph), recordings), graph.stat().st_size
    if quantised is None:
        return Export(str(out), "float32", opset, size, cosine)
    if cosine < INT8_COSINE:
        warnings.warn(
            f"In int8 an embedding of the calibration audio falls to a cosine of {cosine:.3f}: expect other "
            "decisions, or export float32.",
            stacklevel=2,
        )
    return Export(str(out), "int8", opset, size, cosine, quantised.int8, quantised.two_parts, quantised.float32)


# ---- the graph ------------------------------------------------------------------------------------------------------


class RawToEmbedding(nn.Module):
    """Join feature extractor and verifier in one module, which is traced.

    Args:
        verifier: the model.
        do_normalize: setting of its feature extractor, whether waveforms are normalised.
    """

    def __init__(self, verifier: OSKDFTForXVector, do_normalize: bool) -> None:
        super().__init__()
        self.verifier = verifier
        self.do_normalize = do_normalize

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed raw waveforms.

        Args:
            input_values: (batch, samples) at 16 kHz; the values of padding do not matter.
            attention_mask: (batch, samples), 1 where audio is real, 0 in padding.

        Returns:
            (batch, embedding_size), not normalised.
        """
        valid = attention_mask.to(input_values.dtype)
        waveform = normalised(input_values, valid) if self.do_normalize else input_values * valid
        return self.verifier(waveform, attention_mask).embeddings


def normalised(waveform: Tensor, valid: Tensor) -> Tensor:
    """Normalise each row to zero mean and unit variance over its valid samples, as `Wav2Vec2FeatureExtractor`.

    Args:
        waveform: (batch, samples).
        valid: (batch, samples), 1 or 0.

    Returns:
        (batch, samples), zero where `valid` is 0.
    """
    count = valid.sum(-1, keepdim=True)
    mean = (waveform * valid).sum(-1, keepdim=True) / count
    centred = (waveform - mean) * valid
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred / (variance + EPSILON).sqrt()


def write_graph(source: TorchEmbedder, path: Path, opset: int, name: str) -> None:
    """Write the float32 graph of a verifier, checked by onnx, with the facts that its readers need as metadata.

    Args:
        source: the verifier.
        path: file to write.
        opset: ONNX operator set.
        name: name of the verifier, for the metadata.

    Raises:
        ValueError: when torch cannot export this model.
    """
    import onnx

    program = _traced(source, opset)
    program.model.metadata_props.update(
        {
            "name": name,
            "fingerprint": source.fingerprint(),
            "sampling_rate": str(SAMPLING_RATE),
            "shortest_input": str(shortest_input(source.model.config)),
            "precision": "float32",
            "modeling_oskdft": __version__,
        }
    )
    for node in program.model.graph.all_nodes():  # where each was traced: paths of this machine, and 0.4 MB
        node.metadata_props.clear()
    program.save(path)
    onnx.checker.check_model(str(path))


def _traced(source: TorchEmbedder, opset: int) -> "torch.onnx.ONNXProgram":
    """Trace the verifier with its feature extractor, by torch, for any batch and any length."""
    config = source.model.config
    module = RawToEmbedding(_plain_copy(source.model), bool(source.feature_extractor.do_normalize)).eval()
    hop = math.prod(config.encoder_config.conv_stride) * config.time_reduction  # samples from frame to frame
    shortest = shortest_input(config)
    # Two rows and several frames: tracing takes a size of one for a constant. It would also take the shortest input
    # for a case of its own and trace a second time; the graph is the same for one frame, which `_check_parity` tries.
    samples = shortest + 8 * hop
    example = (torch.zeros(2, samples), torch.ones(2, samples, dtype=torch.long))
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("samples", min=shortest + hop)}
    with quiet():
        try:
            program: Any = torch.onnx.export(  # None, by its type, which only the older exporter returns
                module,
                example,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(INPUTS, sizes),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                opset_version=opset,
                verbose=False,
            )
        except RuntimeError as error:  # the base of the exporter's errors
            raise ValueError(f"torch cannot export this verifier ({first_line(error)}): report its shape.") from error
    return program


def _plain_copy(model: OSKDFTForXVector) -> OSKDFTForXVector:
    """Make a copy on the CPU whose positional convolution has its weight instead of the weight's parametrisation."""
    # Built anew: a deep copy shares the class that carries the parametrisation, so that removing it there would take
    # it from the original as well.
    plain = OSKDFTForXVector(model.config)
    plain.load_state_dict(model.state_dict())
    for module in list(plain.modules()):
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            nn.utils.parametrize.remove_parametrizations(module, "weight")
    return plain.eval()


def _quantise_in_place(graph: Path, recordings: Sequence[Waveform]) -> Quantised:
    """Replace a float graph by its int8 form, with the same metadata."""
    import onnx

    target = graph.with_suffix(".int8")
    quantised = quantise(graph, target, recordings)
    facts = {entry.key: entry.value for entry in onnx.load(graph, load_external_data=False).metadata_props}
    model = onnx.load(target)
    onnx.helper.set_model_props(model, facts | {"precision": "int8"})
    onnx.checker.check_model(model)
    onnx.save(model, graph)
    target.unlink()
    return quantised


# ---- checks ---------------------------------------------------------------------------------------------------------


def lowest_cosine(first: Embedder, second: Embedder, recordings: Sequence[Waveform]) -> float:
    """Measure the lowest cosine between the embeddings of the same recordings by two runtimes.

    Args:
        first: a runtime.
        second: another runtime.
        recordings: (samples,) at 16 kHz.
    """
    batches = [recordings[start : start + BATCH] for start in range(0, len(recordings), BATCH)]
    first_embeddings, second_embeddings = (
        torch.from_numpy(np.concatenate([embedder.embed(batch) for batch in batches])) for embedder in (first, second)
    )
    return float(torch.cosine_similarity(first_embeddings, second_embeddings).min())


def _check_parity(source: TorchEmbedder, exported: Embedder, recordings: Sequence[Waveform]) -> None:
    """Compare the graph with the verifier: tracing may have taken something for a constant."""
    cosine = min(lowest_cosine(source, exported, batch) for batch in (recordings, recordings[-1:]))
    if not math.isfinite(cosine):
        raise ValueError(
            "The verifier gives NaN or infinite embeddings for noise: export one whose weights are sound."
        )
    if not cosine > 1 - PARITY:
        raise RuntimeError(f"The exported graph is not the verifier (cosine {cosine:.6f}): report this model's shape.")


def _noise(shortest: int) -> list[Waveform]:
    """Draw noise of three lengths, the first of which is the shortest that the model takes."""
    generator = np.random.default_rng(0)
    lengths = (shortest, SAMPLING_RATE, 2 * SAMPLING_RATE)
    return [generator.normal(0.0, 0.1, samples).astype(np.float32) for samples in lengths]


def _add_thresholds(name: str, revision: str | None, fingerprint: str, folder: Path) -> None:
    """Write the verifier's thresholds beside the graph, with the digest of the graph; warn where there are none."""
    path = find(name, THRESHOLDS_NAME, revision)
    if path is None:
        warnings.warn(f"'{name}' has no thresholds: the export gives scores and no decisions.", stacklevel=3)
        return
    thresholds = Thresholds.load(path)
    if thresholds.fingerprint != fingerprint:
        warnings.warn("The thresholds are of other weights and were left out: measure them anew.", stacklevel=3)
        return
    replace(thresholds, graph=sha256_of(folder / MODEL_NAME)).save(folder)


def _add_calibration(name: str, revision: str | None, fingerprint: str, folder: Path) -> None:
    """Write the verifier's calibration and cohort beside the graph, where they are of its weights."""
    calibration_file, cohort_file = (find(name, file, revision) for file in (CALIBRATION_NAME, COHORT_NAME))
    calibration = None if calibration_file is None else Calibration.load(calibration_file)
    cohort = None if cohort_file is None else Cohort.load(cohort_file)
    if calibration is None:
        return
    needed = None if cohort is None or cohort.fingerprint != fingerprint else cohort.digest
    if calibration.fingerprint != fingerprint:
        warnings.warn("The calibration is of other weights and was left out: calibrate anew.", stacklevel=3)
    elif calibration.cohort is not None and calibration.cohort != needed:
        warnings.warn("The calibration needs its cohort, which is missing, and was left out.", stacklevel=3)
    else:
        shutil.copy(str(calibration_file), folder / CALIBRATION_NAME)
        if calibration.cohort is not None:
            shutil.copy(str(cohort_file), folder / COHORT_NAME)


def _add_speech_network(folder: Path) -> None:
    """Copy Silero's network and its licence, so that verify.py finds speech as this package does."""
    model = sequence_model()
    if model is None:
        warnings.warn(
            f"silero-vad is not installed, so verify.py finds speech by its level: {VAD_EXTRA}.", stacklevel=3
        )
        return
    shutil.copy(model, folder / SEQUENCE_MODEL)
    licence = distribution("silero-vad").read_text("licenses/LICENSE") or "MIT, https://github.com/snakers4/silero-vad"
    (folder / SILERO_LICENCE).write_text(licence, encoding="utf-8")


def _check_packages() -> None:
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            import_module(name)
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed, and the export needs it: {EXPORT_EXTRA}.") from None


def _check_options(opset: int, int8: bool, calibration: str | Path | None, split: str | None) -> None:
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


def _check_place(out: Path) -> None:
    """Refuse a place that holds anything but an export: what lies there is replaced as a whole."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"'{out}' is a file: give a folder that is new, empty, or holds an export.")
    if out.resolve() == Path.cwd() or out.is_mount():
        raise ValueError(
            f"'{out}' is the working directory or a mount, which cannot be replaced: give a folder in it."
        )
    others = sorted({file.name for file in out.iterdir()} - WRITTEN - BESIDE)
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
