"""Quantise graphs for OpenVINO and ExecuTorch, by the quantizers of transformers' exporters.

Products of matrices become int8. Convolutions stay float32: in one part they change the embeddings of front ends with
GroupNorm, and the two parts of `two_part_convolutions` are operators of ONNX.
"""

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..audio.forms import Waveform
from ..embedding.graphs import import_openvino
from .raw_verifier import INPUTS

if TYPE_CHECKING:
    import openvino
    from transformers.exporters import ExportQuantizer


def openvino_quantizer(recordings: Sequence[Waveform]) -> "ExportQuantizer":
    """Make a quantizer with ranges of activations that are calibrated, and bias corrected, by NNCF.

    Args:
        recordings: speech, (samples,) at 16 kHz.

    Raises:
        ImportError: without openvino or nncf.
    """
    import_openvino()  # without what sends usage data, which nncf would import as well
    import nncf
    from transformers.exporters import NNCFOpenVINOQuantizer, NNCFQuantizationConfig

    class ProductsOfMatrices(NNCFOpenVINOQuantizer):
        def quantize(self, *arguments: Any) -> "openvino.Model":
            with redirect_stdout(StringIO()):  # bars of progress
                quantised = super().quantize(*arguments)
                # The weights of convolutions are stored in int8, and computed with in float32.
                return nncf.compress_weights(quantised, mode=nncf.CompressWeightsMode.INT8_SYM)

    convolutions = nncf.IgnoredScope(types=["Convolution", "GroupConvolution"], validate=False)
    config = NNCFQuantizationConfig(ignored_scope=convolutions, subset_size=len(recordings))
    return ProductsOfMatrices(config, [inputs_of(waveform) for waveform in recordings])


def executorch_quantizer(recordings: Sequence[Waveform]) -> "ExportQuantizer":
    """Make a quantizer whose products of matrices take a new scale at every run, as those of ONNX do.

    Args:
        recordings: speech, (samples,) at 16 kHz. Nothing is calibrated on them.

    Raises:
        ImportError: without executorch.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from transformers.exporters import PT2EQuantizer

    class ProductsOfMatrices(XNNPACKQuantizer):
        def transform_for_annotation(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            """Leave the graph as it is: the base makes the numbers of its arithmetic float, also those of indices."""
            return model

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    return PT2EQuantizer(ProductsOfMatrices().set_global(config))  # weights are seen in the run of the example


def inputs_of(waveform: Waveform) -> dict[str, Tensor]:
    """Return the inputs of a graph for one recording, without padding.

    Args:
        waveform: (samples,) at 16 kHz.
    """
    values = torch.from_numpy(waveform)[None]
    return dict(zip(INPUTS, (values, torch.ones(values.shape, dtype=torch.long)), strict=True))
