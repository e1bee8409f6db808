"""Rewrite convolutions as int8 products whose activations have two parts of eight bits each.

Some activations span more than eight bits can hold. Each is rounded to uint8, and the rounding error to uint8 again:

    x ≈ coarse + fine,    W * x ≈ W * coarse + W * fine

with `coarse` in uint8 over the calibrated range and `fine` in uint8 over one step of `coarse`: sixteen bits of
activation for two products of eight-bit numbers. A convolution without padding is a product of matrices with the
frames of each window side by side. onnxruntime runs `DequantizeLinear, DequantizeLinear, MatMul` as one such product
with a float result; a quantised convolution has no float result, it rounds to eight bits again. The product takes half
the time of a float convolution, measured (512 channels, AVX-512 VNNI).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

HEADROOM = 1.25  # factor on the calibrated range, for recordings louder than the calibration
TRANSPOSED = [0, 2, 1]  # (batch, channels, frames) to (batch, frames, channels), and back
TO_THE_END = 2**62  # end of a slice
WEIGHT_LEVELS, COARSE_LEVELS, FINE_LEVELS = 127, 255, 254  # largest int8; steps of uint8; steps on both sides of 128
MIDDLE = 128  # the zero point of `fine`, which is positive and negative alike


def can_be_split(node: "onnx.NodeProto") -> bool:
    """Tell whether a convolution has neither padding, dilation nor groups, so that it is a plain matrix product."""
    attributes = {attribute.name: list(attribute.ints) or [attribute.i] for attribute in node.attribute}
    plain = {"pads": 0, "dilations": 1, "group": 1}
    return all(set(attributes.get(name, [value])) == {value} for name, value in plain.items())


def split(model: "onnx.ModelProto", names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Replace convolutions of a graph, in place, by products with two-part activations.

    Args:
        model: a float graph, in which other convolutions may be quantised already.
        names: names of the convolutions.
        ranges: lowest and highest calibrated value by tensor, at least of the inputs of these convolutions.
    """
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += _two_part_nodes(model, node, ranges[node.input[0]]) if node.name in names else [node]
    del model.graph.node[:]
    model.graph.node.extend(_without_round_trips(nodes))
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)


def _two_part_nodes(
    model: "onnx.ModelProto", node: "onnx.NodeProto", extremes: tuple[float, float]
) -> list["onnx.NodeProto"]:
    """Make the nodes that replace a convolution. extremes: lowest and highest calibrated value of its input."""
    from onnx import numpy_helper

    attributes = {attribute.name: list(attribute.ints) for attribute in node.attribute}
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    weights = numpy_helper.to_array(tensor)  # (channels out, channels in, kernel)
    bias = node.input[2] if len(node.input) > 2 else ""
    low, high = HEADROOM * min(extremes[0], 0.0), HEADROOM * max(extremes[1], 1e-6)
    step = (high - low) / COARSE_LEVELS
    kernel = weights.shape[2]

    graph = _NodeBuilder(model, node.name)
    graph.add_weights(weights)
    graph.add_constant(".axis", np.array([1]))
    graph.add_constant(".stride", np.array((attributes.get("strides") or [1])[:1]))
    graph.add("Transpose", [node.input[0]], ".input", perm=TRANSPOSED)
    graph.add_product(".coarse", ".input", step, round(-low / step), kernel)
    graph.add("DequantizeLinear", [".coarse", ".coarse_scale", ".coarse_zero"], ".rounded")
    graph.add("Sub", [".input", ".rounded"], ".rounding_error")
    graph.add_product(".fine", ".rounding_error", step / FINE_LEVELS, MIDDLE, kernel)
    graph.add("Add", [".coarse_product", ".fine_product"], ".sum")
    if bias:
        graph.add("Add", [".sum", bias], ".biased")
    graph.add("Transpose", [".biased" if bias else ".sum"], node.output[0], perm=TRANSPOSED)
    return graph.nodes


class _NodeBuilder:
    """Collect the nodes of one convolution and add its constants to the graph.

    A name that begins with a dot gets the convolution's name before it; any other is a name of the graph.
    """

    def __init__(self, model: "onnx.ModelProto", name: str) -> None:
        self.graph, self.name = model.graph, name
        self.nodes: list[onnx.NodeProto] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Add a node with one output."""
        from onnx import helper

        names = [self._full_name(name) for name in inputs]
        label = f"{self.name}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [self._full_name(output)], name=label, **attributes))

    def add_constant(self, name: str, value: np.ndarray) -> None:
        """Add an initializer to the graph."""
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(value, self._full_name(name)))

    def add_weights(self, weights: np.ndarray) -> None:
        """Add the weights in int8, with a scale for each output channel, and `.weights_float`, their float values.

        weights: (channels out, channels in, kernel); stored as (kernel · channels in, channels out).
        """
        channels_out = len(weights)
        matrix = weights.transpose(2, 1, 0).reshape(-1, channels_out)  # frame by frame, as the windows
        scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / WEIGHT_LEVELS
        self.add_constant(".weights", np.round(matrix / scales).astype(np.int8))
        self.add_constant(".weight_scales", scales.astype(np.float32))
        self.add_constant(".weight_zeros", np.zeros(channels_out, np.int8))
        self.add("DequantizeLinear", [".weights", ".weight_scales", ".weight_zeros"], ".weights_float", axis=1)

    def add_product(self, name: str, source: str, scale: float, zero: int, kernel: int) -> None:
        """Quantise `source` as `name`, line up its windows, and multiply them by the weights: `name` + `_product`."""
        self.add_constant(f"{name}_scale", np.array(scale, np.float32))
        self.add_constant(f"{name}_zero", np.array(zero, np.uint8))
        self.add("QuantizeLinear", [source, f"{name}_scale", f"{name}_zero"], name)
        for offset in range(kernel):
            stop = TO_THE_END if offset == kernel - 1 else offset + 1 - kernel
            self.add_constant(f"{name}_from_{offset}", np.array([offset]))
            self.add_constant(f"{name}_to_{offset}", np.array([stop]))
            bounds = [f"{name}_from_{offset}", f"{name}_to_{offset}", ".axis", ".stride"]
            self.add("Slice", [name, *bounds], f"{name}_{offset}")
        self.add("Concat", [f"{name}_{offset}" for offset in range(kernel)], f"{name}_windows", axis=2)
        self.add("DequantizeLinear", [f"{name}_windows", f"{name}_scale", f"{name}_zero"], f"{name}_float")
        self.add("MatMul", [f"{name}_float", ".weights_float"], f"{name}_product")

    def _full_name(self, name: str) -> str:
        return f"{self.name}{name}" if name.startswith(".") else name


def _without_round_trips(nodes: list["onnx.NodeProto"]) -> list["onnx.NodeProto"]:
    """Remove `Transpose, Gelu, Transpose` between two convolutions, down to the Gelu, which works on each number.

    The frames then stay before the channels.
    """
    maker_of = {output: node for node in nodes for output in node.output}
    readers_of: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers_of.setdefault(name, []).append(node)
    removed = set()
    for second in nodes:
        gelu = maker_of.get(second.input[0]) if _is_transpose(second) else None
        first = maker_of.get(gelu.input[0]) if gelu is not None and gelu.op_type == "Gelu" else None
        if gelu is None or first is None or not _is_transpose(first):
            continue
        if len(readers_of[first.output[0]]) == len(readers_of[gelu.output[0]]) == 1:
            gelu.input[0], gelu.output[0] = first.input[0], second.output[0]
            removed |= {first.name, second.name}
    return [node for node in nodes if node.name not in removed]


def _is_transpose(node: "onnx.NodeProto") -> bool:
    return node.op_type == "Transpose" and list(node.attribute[0].ints) == TRANSPOSED
