"""Store the weights of an exported graph in int8; the arithmetic stays in float32.

This is the form for browsers. int8 arithmetic gains little in WebAssembly (`benchmark browser` has the figures), so
what counts there is the size of the download. The embeddings are nearer to those of the verifier than with int8
arithmetic, and no calibration audio is needed. Runtimes turn the weights into float32 once, when they open the graph.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

SMALLEST = 1024  # numbers; smaller tensors stay float32: the file hardly shrinks
LARGEST_INT8 = 127
PRECISION = "int8 weights"  # in the facts about a graph


def store_in_int8(graph: Path) -> int:
    """Replace the weights of convolutions and of products of matrices by int8 and a scale for each output channel.

    Args:
        graph: file of a float graph, which is replaced.

    Returns:
        The number of tensors that are int8 now.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(graph)
    axes = _output_axes(model)
    first, kept, nodes = [], [], []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if tensor.name not in axes or weights.size < SMALLEST or weights.dtype != np.float32:
            kept.append(tensor)
            continue
        integers, scales = quantised(weights, axes[tensor.name])
        stored, as_float, scale = (f"{tensor.name}.{part}" for part in ("int8", "float", "scale"))
        first += [numpy_helper.from_array(integers, stored), numpy_helper.from_array(scales, scale)]
        nodes += [
            helper.make_node("Cast", [stored], [as_float], name=as_float, to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [as_float, scale], [tensor.name], name=tensor.name),
        ]
    nodes += model.graph.node
    for field, values in ((model.graph.initializer, kept + first), (model.graph.node, nodes)):
        del field[:]
        field.extend(values)
    facts = {entry.key: entry.value for entry in model.metadata_props} | {"precision": PRECISION}
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    onnx.save(model, graph)
    return len(first) // 2


def quantised(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to int8, symmetrically, with a scale for each index of an axis.

    Args:
        weights: the weights.
        axis: axis of the output channels.

    Returns:
        Integers in -127 to 127, and scales that broadcast with them: their product is near the weights.
    """
    others = tuple(other for other in range(weights.ndim) if other != axis % weights.ndim)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scales = (np.where(largest > 0, largest, 1) / LARGEST_INT8).astype(np.float32)
    return np.round(weights / scales).astype(np.int8), scales


def _output_axes(model: "onnx.ModelProto") -> dict[str, int]:
    """Return the axis of the output channels of every tensor that is the weight of one kind of node alone."""
    axes: dict[str, set[int | None]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            axes.setdefault(name, set()).add(_axis_of(node) if place == 1 else None)
    found = {name: next(iter(places)) for name, places in axes.items() if len(places) == 1}
    return {name: axis for name, axis in found.items() if axis is not None}


def _axis_of(node: "onnx.NodeProto") -> int | None:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return -1
    if node.op_type == "Gemm":
        is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if is_transposed else 1
    return None
