"""Export a verifier as one ONNX graph from raw waveform to embedding, with a program that decides by it.

The graph takes `input_values` (batch, samples), the raw 16 kHz waveform, and `attention_mask` (batch, samples), 1
where audio is real; it gives `embeddings` (batch, embedding_size) as the PyTorch verifier does. The normalisation of
the feature extractor is part of the graph.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..audio.forms import Waveform
from ..embedding.runtimes import EXPORT_EXTRA, MODEL_NAME, OnnxEmbedder, TorchEmbedder
from ..errors import first_line
from ..files import replaced_folder
from ..model.modeling_oskdft import shortest_input
from .folder import check_place, copy_programs, facts_of, fill_with_measurements, open_source
from .int8 import Quantised, calibration_recordings, check_calibration, quantise, quiet
from .parity import check_parity, lowest_cosine, noise
from .raw_verifier import INPUTS, OUTPUT, RawToEmbedding, plain_copy

OPSETS = range(18, 24)
OPSET = 20
INT8_COSINE = 0.99  # below, decisions change that are not near the threshold


@dataclass(frozen=True)
class Export:
    """Describe an export.

    Args:
        folder: path of the folder that was written.
        precision: "float32", "int8", or "int8 weights", see `int8_weights`.
        opset: ONNX operator set of the graph; None for other formats.
        bytes: size of the graph.
        cosine: the lowest cosine to the PyTorch verifier, on noise, or on the calibration audio of an int8 export.
        int8_convolutions: names of the convolutions in int8.
        two_part_convolutions: names of the convolutions in int8 with activations of two parts.
        float_convolutions: names of the convolutions that an int8 export to ONNX leaves in float32.
    """

    folder: str
    precision: str
    opset: int | None
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
    check_packages()
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}: {OPSETS[0]} to {OPSETS[-1]} are supported, {OPSET} is the default.")
    check_calibration(int8, calibration, split)
    check_place(Path(out))
    name = str(name_or_path)
    source = open_source(name, revision)
    shortest = shortest_input(source.model.config)
    recordings = noise(shortest) if calibration is None else calibration_recordings(calibration, shortest, split)
    with replaced_folder(out) as folder:
        graph = folder / MODEL_NAME
        write_graph(source, graph, opset, name)
        check_parity(source, OnnxEmbedder(graph), noise(shortest))
        quantised = _quantise_in_place(graph, recordings) if int8 else None
        facts = facts_of(source, name) | {"precision": "int8" if int8 else "float32"}
        fill_with_measurements(name, revision, facts, folder, MODEL_NAME)
        copy_programs(folder)
        cosine, size = lowest_cosine(source, OnnxEmbedder(graph), recordings), graph.stat().st_size
    if quantised is None:
        return Export(str(out), "float32", opset, size, cosine)
    warn_of_int8(cosine, "the calibration audio")
    return Export(str(out), "int8", opset, size, cosine, quantised.int8, quantised.two_parts, quantised.float32)


def warn_of_int8(cosine: float, audio: str) -> None:
    """Warn where the embeddings of an int8 graph are far from those of the verifier.

    Args:
        cosine: the lowest cosine between them.
        audio: what was embedded.
    """
    if cosine < INT8_COSINE:
        warnings.warn(
            f"In int8 an embedding of {audio} falls to a cosine of {cosine:.3f}: expect other decisions, or export "
            "float32.",
            stacklevel=3,
        )


# ---- the graph ------------------------------------------------------------------------------------------------------


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
    program.model.metadata_props.update(facts_of(source, name))
    for node in program.model.graph.all_nodes():  # where each was traced: paths of this machine, and 0.4 MB
        node.metadata_props.clear()
    program.save(path)
    onnx.checker.check_model(str(path))


def _traced(source: TorchEmbedder, opset: int) -> "torch.onnx.ONNXProgram":
    """Trace the verifier with its feature extractor, by torch, for any batch and any length."""
    config = source.model.config
    module = RawToEmbedding(plain_copy(source.model), bool(source.feature_extractor.do_normalize)).eval()
    hop = math.prod(config.encoder_config.conv_stride) * config.time_reduction  # samples from frame to frame
    shortest = shortest_input(config)
    # Two rows and several frames: tracing takes a size of one for a constant. It would also take the shortest input
    # for a case of its own and trace a second time; the graph is the same for one frame, which `check_parity` tries.
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


def check_packages() -> None:
    """Check that the packages of the extra `export` are there.

    Raises:
        ImportError: naming the first one that is not.
    """
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            import_module(name)
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed, and the export needs it: {EXPORT_EXTRA}.") from None
