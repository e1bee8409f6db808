import pytest
from transformers import HubertConfig, HubertModel, WavLMConfig, WavLMModel

from modeling_oskdft.benchmark import compression
from modeling_oskdft.evaluation.cost import alternating_medians, multiply_adds
from tests.benchmark.pool import SamePool


def test_functions_take_turns():
    order = []
    medians = alternating_medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 4 and set(medians) == {"a", "b"}


def test_multiply_adds_by_hand():
    """HuBERT-base's shape with one layer, 3 s."""
    frames = [9599, 4799, 2399, 1199, 599, 299, 149]
    convolutions = frames[0] * 512 * 10 + sum(frames[1:5]) * 512 * 512 * 3 + sum(frames[5:]) * 512 * 512 * 2
    last, width = frames[-1], 768
    projection = last * 512 * width
    positions = (last + 1) * width * (width // 16) * 128  # an even kernel gives one frame more, which is cut off
    layer = last * (4 * width * width + 2 * width * 3072) + 2 * last * last * width
    by_hand = convolutions + projection + positions + layer
    assert multiply_adds(HubertModel(HubertConfig(num_hidden_layers=1))) == by_hand
    # WavLM gates its relative positions: a product of 64 and 8 for each head and frame.
    gate = last * 12 * 64 * 8
    assert multiply_adds(WavLMModel(WavLMConfig(num_hidden_layers=1))) == by_hand + gate


def test_a_student_is_compared_with_its_teacher(monkeypatch):
    small = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
    shape = small | {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    system = compression.System(lambda: HubertModel(HubertConfig(**shape)), [0, 3], "statistics_pooling")
    monkeypatch.setattr(compression, "SYSTEMS", {compression.PAPER: system})
    monkeypatch.setattr(compression, "peak_memory", lambda name, of: 1)
    monkeypatch.setattr(compression.multiprocessing, "get_context", lambda kind: SamePool)
    (teacher, student), ratios = compression.measure()
    assert teacher["encoder parameters"] > student["encoder parameters"] > 0
    assert teacher["verifier parameters"] - teacher["encoder parameters"] > 0
    assert student["float32, MB"] == 2 * student["float16, MB"] == 4 * student["verifier parameters"] / 1e6
    expected = 100 * (student["encoder parameters"] / teacher["encoder parameters"] - 1)
    assert ratios[f"{compression.PAPER}: encoder parameters, change in % (paper -76.2 %)"] == pytest.approx(expected)
    assert f"size changes by {expected:.1f} %" in compression.explain([teacher, student])
