import json

import pytest

from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.tuning.space import Choices, Interval, default_space, read_space


class Fake:
    """A trial that takes the lowest number and the last choice."""

    def suggest_int(self, name, low, high, log):
        return low

    def suggest_float(self, name, low, high, log):
        return low

    def suggest_categorical(self, name, choices):
        return choices[-1]


def written(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    return tmp_path / "space.yaml"


def test_a_space_is_read_with_the_types_of_the_fields(tmp_path):
    text = "learning_rate: {low: 1e-4, high: 1e-2, log: true}\nadapter_size: {low: 16, high: 128}\n"
    space = read_space(written(tmp_path, text + "layers: [[0], [0, 1]]\nkd_schedule: [constant, linear]\n"))
    assert space["learning_rate"] == Interval(1e-4, 1e-2, log=True)
    assert space["adapter_size"] == Interval(16, 128, whole=True)
    suggested = {name: values.suggest(Fake(), name) for name, values in space.items()}
    assert suggested == {
        **{"learning_rate": "0.0001", "adapter_size": "16"},
        **{"layers": ["0", "1"], "kd_schedule": "linear"},
    }
    assert json.loads(json.dumps({name: values.describe() for name, values in space.items()}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: [1]", "searches 'learning_rat', which is no field: did you mean 'learning_rate'?"),
        ("seed: [1, 2]", "'seed', which is the same in every trial"),
        ("test_trials: [a]", "'test_trials', which is the same in every trial"),
        ("kd_weight: 3", r"The range of kd_weight is '3': give \[value, ...\] or"),
        ("kd_weight: []", "The range of kd_weight is"),
        ("kd_weight: {low: 1}", "The range of kd_weight is"),
        ("kd_weight: {low: 1, high: 2, base: 3}", "The range of kd_weight is"),
        ("kd_weight: {low: a, high: 2}", "low and high are numbers"),
        ("kd_weight: {low: 2, high: 1}", "low is below high"),
        ("kd_weight: {low: nan, high: 1}", "low is below high"),
        ("kd_weight: {low: 0, high: 1, log: true}", "above 0 with log: true"),
        ("kd_weight: {low: 0, high: 1, log: perhaps}", "above 0 with log: true"),
        ("", "names no fields"),
        ("- a", "names no fields"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_no_space_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_space(written(tmp_path, text))


def test_a_space_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no search space at"):
        read_space(tmp_path / "none.yaml")


def test_the_default_space_lies_around_the_recipe(tmp_path):
    words = ["--teacher", "t", "--output_dir", str(tmp_path), "--learning_rate", "3e-4", "--kd_weight", "0"]
    space = default_space(read_recipe(words))
    rate = space["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (pytest.approx(1e-4), pytest.approx(9e-4), True)
    assert space["kd_weight"] == Interval(0.1, 10.0, log=True)
    assert space["layers"] == Choices((["0"], ["0", "1"], ["0", "1", "2"]))
    assert space["kd_objective"].values == ("last_layer_mse", "layerwise_heads", "layerwise_projection")
    with_verifier = default_space(read_recipe([*words, "--embedding_teachers", "v", "--evenly_spaced_layers", "3"]))
    assert "embedding" in with_verifier["kd_objective"].values and "layers" not in with_verifier
