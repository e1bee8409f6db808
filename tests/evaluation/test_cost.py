from transformers import HubertConfig, HubertModel, WavLMConfig, WavLMModel

from modeling_oskdft.evaluation.cost import alternating_medians, medians_in_turn, multiply_adds


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


def test_what_is_measured_in_turn_gives_medians():
    answers = {"a": iter([99.0, 1.0, 2.0, 3.0]), "b": iter([7.0] * 4)}  # the first of each does not count
    assert medians_in_turn({name: answers[name].__next__ for name in answers}, rounds=3) == {"a": 2.0, "b": 7.0}
