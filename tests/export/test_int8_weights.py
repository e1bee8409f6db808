"""Weights in int8, arithmetic in float32."""

import shutil

import numpy as np
import pytest

from modeling_oskdft.embedding.runtimes import OnnxEmbedder
from modeling_oskdft.export.int8_weights import quantised, store_in_int8
from modeling_oskdft.export.parity import lowest_cosine, noise


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx", reason="onnx is not installed: pip install 'modeling-oskdft[export]'")


def test_each_output_channel_has_a_scale():
    weights = np.array([[1.27, -0.3], [0.0, 0.0], [-254.0, 2.0]], np.float32)
    integers, scales = quantised(weights, axis=0)
    assert integers.tolist() == [[127, -30], [0, 0], [-127, 1]]
    np.testing.assert_allclose(scales, [[0.01], [1 / 127], [2.0]], rtol=1e-6)
    by_column, _ = quantised(weights, axis=-1)
    assert by_column[:, 1].tolist() == [-19, 0, 127]
    assert (np.abs(integers * scales - weights) <= scales / 2 + 1e-7).all()


def test_the_graph_is_smaller_and_gives_nearly_the_same_embeddings(exported, tmp_path):
    shutil.copy(exported / "model.onnx", tmp_path)
    changed = store_in_int8(tmp_path / "model.onnx")
    before, after = OnnxEmbedder(exported / "model.onnx"), OnnxEmbedder(tmp_path / "model.onnx")
    assert changed > 0 and 0.999 < lowest_cosine(before, after, noise(8000)) < 1 - 1e-9
    assert (tmp_path / "model.onnx").stat().st_size < 0.8 * (exported / "model.onnx").stat().st_size
    assert (after.fingerprint(), after.embedding_size) == (before.fingerprint(), before.embedding_size)


def test_only_weights_are_changed(onnx, tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    values = {name: generator.normal(size=(64, 64)).astype(np.float32) for name in ("weights", "added", "shared")}
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["a"]),
        helper.make_node("Add", ["a", "added"], ["b"]),
        helper.make_node("MatMul", ["b", "shared"], ["c"]),
        helper.make_node("Add", ["c", "shared"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx"
    )
    assert store_in_int8(tmp_path / "m.onnx") == 1
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert stored["weights.int8"] == TensorProto.INT8 and "weights" not in stored
    assert stored["added"] == stored["shared"] == TensorProto.FLOAT
