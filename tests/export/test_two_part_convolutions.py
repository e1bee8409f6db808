import numpy as np
import pytest

from modeling_oskdft.export.two_part_convolutions import can_be_split, split

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'modeling-oskdft[export]'")


def graph_of(*nodes, **weights):
    """x (batch, 6, frames) to y."""
    from onnx import TensorProto, helper, numpy_helper

    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None, f"frames of {name}"])
        for name in ("x", "y")
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "graph", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def conv(name, *tensors, **attributes):
    """A convolution. tensors: input, weights, bias where it has one, output."""
    from onnx import helper

    return helper.make_node("Conv", tensors[:-1], tensors[-1:], name=name, **attributes)


def run(model, values):
    import onnx
    import onnxruntime

    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


@pytest.fixture
def chain():
    """As in a front end: two convolutions with GELU between them, the second one with a bias."""
    from onnx import helper

    generator = np.random.default_rng(0)
    return graph_of(
        conv("first", "x", "w", "a", strides=[2], kernel_shape=[3], pads=[0, 0], group=1, dilations=[1]),
        helper.make_node("Gelu", ["a"], ["b"], name="gelu"),
        conv("second", "b", "v", "c", "y", strides=[2]),
        w=generator.normal(size=(8, 6, 3)).astype(np.float32),
        v=generator.normal(size=(5, 8, 2)).astype(np.float32),
        c=generator.normal(size=5).astype(np.float32),
    )


def test_quiet_frames_keep_their_digits_beside_loud_ones(chain):
    """A hundredth of the loudest frame is less than a step of eight bits: in one part it would become noise."""
    import onnx

    generator = np.random.default_rng(1)
    loud, quiet = (level * generator.normal(size=(2, 6, 41)).astype(np.float32) for level in (1.0, 1e-2))
    values = np.concatenate([loud, quiet], axis=2)
    inner = onnx.ModelProto()
    inner.CopyFrom(chain)
    inner.graph.output[0].name = "b"
    middle = run(inner, values)
    ranges = {"x": (float(values.min()), float(values.max())), "b": (float(middle.min()), float(middle.max()))}
    expected = run(chain, values)
    chain.graph.node[2].input[2] = ""  # the bias would hide the error of the quiet frames
    without_bias = run(chain, values)
    chain.graph.node[2].input[2] = "c"
    split(chain, ["first", "second"], ranges)
    result = run(chain, values)
    assert result.shape == expected.shape
    frames = expected.shape[2]
    for half in (slice(0, frames // 2 - 1), slice(frames // 2 + 1, frames)):
        error = np.abs(result - expected)[..., half].max()
        assert error < 0.03 * np.abs(without_bias[..., half]).max()
    kinds = [node.op_type for node in chain.graph.node]
    assert "Conv" not in kinds and kinds.count("MatMul") == 4
    assert kinds.count("Transpose") == 2, "none is left between the two convolutions"
    assert {tensor.name for tensor in chain.graph.initializer}.isdisjoint({"w", "v"})


def test_values_beyond_the_calibration_are_clipped_and_no_others():
    generator = np.random.default_rng(2)
    weights = generator.normal(size=(4, 6, 2)).astype(np.float32)
    model = graph_of(conv("single", "x", "w", "y"), w=weights)
    values = np.clip(generator.normal(size=(1, 6, 50)), -1, 1).astype(np.float32)
    expected = run(model, values)
    split(model, ["single"], {"x": (-1.0, 1.0)})
    np.testing.assert_allclose(run(model, values), expected, atol=0.02 * np.abs(expected).max())
    values[..., 40:] *= 5
    louder = run(model, values)
    np.testing.assert_allclose(louder[..., :39], expected[..., :39], atol=0.02 * np.abs(expected).max())
    assert np.isfinite(louder).all()


def test_convolutions_with_padding_groups_or_dilation_are_not_split():
    assert can_be_split(conv("single", "x", "w", "y", strides=[2]))
    for attribute in ({"pads": [1, 1]}, {"group": 2}, {"dilations": [2]}):
        assert not can_be_split(conv("single", "x", "w", "y", **attribute))
