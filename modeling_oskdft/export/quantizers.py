"""Quantise graphs for OpenVINO and ExecuTorch, by the quantizers of transformers' exporters.

Products of matrices become int8, with a scale that is computed for each input, as in ONNX: nothing is calibrated.
Ranges that are calibrated, as NNCF's default has them, are a little faster in OpenVINO and change embeddings more.
Convolutions are computed in float32: in one part, int8 changes the embeddings of front ends with GroupNorm, and the
two parts of `two_part_convolutions` are operators of ONNX.
"""

from typing import TYPE_CHECKING

import torch

from ..embedding.graphs import import_openvino

if TYPE_CHECKING:
    from transformers.exporters import ExportQuantizer


def openvino_quantizer() -> "ExportQuantizer":
    """Make a quantizer that stores all weights in int8; OpenVINO rounds the inputs of products itself.

    Returns:
        For the exporter of transformers.

    Raises:
        ImportError: without openvino or nncf.
    """
    import_openvino()  # without what sends usage data, which nncf would import as well
    import nncf
    from transformers.exporters import NNCFOpenVINOQuantizer, NNCFWeightCompressionConfig

    return NNCFOpenVINOQuantizer(NNCFWeightCompressionConfig(mode=nncf.CompressWeightsMode.INT8_SYM))


def executorch_quantizer() -> "ExportQuantizer":
    """Make a quantizer that stores the weights of products in int8, and writes the rounding of inputs into the graph.

    Returns:
        For the exporter of transformers.

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
    return PT2EQuantizer(ProductsOfMatrices().set_global(config))
