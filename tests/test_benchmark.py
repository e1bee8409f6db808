import json

import pytest

from modeling_oskdft.benchmark import crop_reading, training_step
from modeling_oskdft.benchmark.__main__ import main
from modeling_oskdft.benchmark.measure import alternating_medians, machine, versions


def test_functions_take_turns():
    order = []
    medians = alternating_medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 4 and set(medians) == {"a", "b"}


def test_crops_are_read_in_a_third_of_the_time(capsys):
    assert main(["crop-reading", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"name", "machine", "versions", "rows", "ratios"}
    assert result["ratios"]["flac: crop / whole (at most 0.33)"] <= 0.33


def test_the_joint_step_is_cheaper_than_two_passes(monkeypatch, capsys):
    monkeypatch.setattr(training_step, "ROUNDS", 3)
    assert main(["training-step"]) == 0
    printed = capsys.readouterr().out
    assert "joint / separate (at most 0.62)" in printed and "| two separate passes |" in printed
    _, ratios = training_step.measure()
    assert ratios["joint / separate (at most 0.62)"] < 0.75  # the target is the benchmark's; this machine may be busy


def test_an_unknown_benchmark_is_named():
    with pytest.raises(SystemExit):
        main(["flying"])


def test_what_a_number_was_measured_on():
    assert machine()["cores"] >= 1 and "torch" in versions()
    assert crop_reading.SECONDS == 20 and crop_reading.CROP_SECONDS == 3
