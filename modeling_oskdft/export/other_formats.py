"""Export a verifier for OpenVINO or ExecuTorch, by the exporters of transformers.

Both graphs take what the ONNX graph takes, raw waveforms and a mask, and give its embeddings. A graph of ExecuTorch
has its memory planned for the longest recording that it takes, one at a time, in steps of 320 samples.
"""

import math
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..audio.forms import SAMPLING_RATE
from ..embedding.graphs import import_openvino
from ..embedding.other_runtimes import FACTS_NAME, HOP, ExecuTorchEmbedder, OpenVinoEmbedder
from ..embedding.runtimes import ExportedEmbedder
from ..errors import check_choice, first_line
from ..files import replaced_folder
from ..model.modeling_oskdft import shortest_input
from .folder import check_place, copy_programs, facts_of, fill_with_measurements, open_source
from .int8 import calibration_recordings, check_calibration, quiet
from .onnx_graph import Export, warn_of_int8
from .parity import INT8_PARITY, PARITY, check_parity, lowest_cosine, noise
from .quantizers import executorch_quantizer, openvino_quantizer
from .raw_verifier import INPUTS, RawVerifier

if TYPE_CHECKING:
    from transformers.exporters import ExportQuantizer

LONGEST = 30.0  # seconds: longer recordings are embedded in windows


class Format(NamedTuple):
    """Describe a format.

    Attributes:
        runtime: runs its graphs.
        write: writes a graph: its arguments are the verifier, the longest input in samples, the file, and for int8 the
            quantizer. It returns facts about the lengths that the graph takes.
        quantizer: makes the quantizer of int8.
    """

    runtime: type[ExportedEmbedder]
    write: "Callable[[RawVerifier, int, Path, ExportQuantizer | None], dict[str, str]]"
    quantizer: "Callable[[], ExportQuantizer]"


def export_other(
    name_or_path: str | Path,
    out: str | Path,
    form: str,
    longest: float = LONGEST,
    revision: str | None = None,
    int8: bool = False,
    calibration: str | Path | None = None,
    split: str | None = None,
) -> Export:
    """Export a verifier to a folder, as `export_onnx` does, in another format.

    Args:
        name_or_path: folder or repository of the verifier.
        out: the folder to write. An export that lies there is replaced, anything else is not.
        form: "openvino" or "executorch".
        longest: seconds of the longest recording that a graph of ExecuTorch takes; others take any.
        revision: branch, tag or commit of the repository.
        int8: quantise products of matrices, see `quantizers`.
        calibration: folder or manifest of speech, on which int8 is judged.
        split: take only the rows of the calibration manifest with this split.

    Returns:
        What was written.

    Raises:
        ImportError: without the packages of the extra of that name.
        ValueError: for another format, a `longest` of less than one frame, a verifier that the format cannot hold, and
            as `export_onnx` does.
        OSError: as `export_onnx` does.
    """
    check_choice("format", form, FORMATS)
    runtime, write, quantizer_of = FORMATS[form]
    check_calibration(int8, calibration, split)
    check_place(Path(out))
    name = str(name_or_path)
    source = open_source(name, revision)
    shortest = shortest_input(source.model.config)
    if not (math.isfinite(longest) and longest * SAMPLING_RATE >= shortest):
        raise ValueError(f"longest is {longest}: seconds are needed, {shortest / SAMPLING_RATE:g} or more.")
    samples = math.ceil(longest * SAMPLING_RATE / HOP) * HOP
    judges = [] if calibration is None else calibration_recordings(calibration, shortest, split)
    tried, judges = ([waveform[:samples] for waveform in part] for part in (noise(shortest), judges))
    precision = "int8" if int8 else "float32"
    facts = facts_of(source, name) | {"format": form, "precision": precision}
    with replaced_folder(out) as folder:
        graph = folder / runtime.file
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporters, about versions
            try:
                quantizer = quantizer_of() if int8 else None
                facts |= write(RawVerifier.of(source), samples, graph, quantizer)
            except ImportError as error:
                raise ImportError(
                    f"{error.name or form} is not installed or too old, and the export needs it: "
                    f"pip install 'modeling-oskdft[{form}]'."
                ) from None
            except Exception as error:  # errors of torch and of the exporters have no common class
                raise ValueError(
                    f"{form} cannot hold this verifier ({first_line(error)}): export it as onnx."
                ) from error
        fill_with_measurements(name, revision, facts, folder, runtime.file)
        copy_programs(folder)
        exported = runtime(graph)
        cosine = check_parity(source, exported, tried, INT8_PARITY if int8 else PARITY)
        if int8:
            cosine = lowest_cosine(source, exported, judges)
        size = sum(file.stat().st_size for file in folder.glob("model.*") if file.name != FACTS_NAME)
    if int8:
        warn_of_int8(cosine, "the calibration audio")
    return Export(str(out), precision, None, size, cosine)


def _write_openvino(
    verifier: RawVerifier, longest: int, path: Path, quantizer: "ExportQuantizer | None"
) -> dict[str, str]:
    openvino = import_openvino()
    from transformers.exporters.exporter_openvino import OpenVINOConfig, OpenVINOExporter

    config = OpenVINOConfig(dynamic=True, quantizer=quantizer)
    with redirect_stdout(StringIO()):  # bars of progress of nncf
        exported = OpenVINOExporter().export(verifier, _example(2, SAMPLING_RATE), config=config)
    openvino.save_model(exported.program, path, compress_to_fp16=False)
    return {}


def _write_executorch(
    verifier: RawVerifier, longest: int, path: Path, quantizer: "ExportQuantizer | None"
) -> dict[str, str]:
    """Write a graph for all lengths up to the longest; where the format cannot hold that, for the longest alone."""
    from transformers.exporters.exporter_executorch import ExecutorchConfig, ExecutorchExporter

    hops: Any = torch.export.Dim("hops", min=-(-shortest_input(verifier.config) // HOP), max=longest // HOP)
    # The example has the longest length: the memory of the graph is planned for it.
    of_any_length = ExecutorchConfig(
        dynamic_shapes=dict.fromkeys(INPUTS, {1: HOP * hops}),
        prefer_deferred_runtime_asserts_over_guards=True,
        quantizer=quantizer,
    )
    try:
        exported = ExecutorchExporter().export(verifier, _example(1, longest), config=of_any_length)
        facts = {"longest_input": str(longest)}
    except AssertionError:  # of its verifier, for arithmetic with lengths, such as that of a time reduction
        of_one_length = ExecutorchConfig(quantizer=quantizer)
        exported = ExecutorchExporter().export(verifier, _example(1, longest), config=of_one_length)
        facts = {"longest_input": str(longest), "fixed_input": str(longest)}
    path.write_bytes(exported.program.buffer)
    return facts


def _example(rows: int, samples: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(rows, samples, generator=generator)
    return dict(zip(INPUTS, (waveforms, torch.ones(rows, samples, dtype=torch.long)), strict=True))


FORMATS = {
    "openvino": Format(OpenVinoEmbedder, _write_openvino, openvino_quantizer),
    "executorch": Format(ExecuTorchEmbedder, _write_executorch, executorch_quantizer),
}
