import json
from dataclasses import replace
from pathlib import Path

import pytest

from modeling_oskdft import OSKDFTForXVector
from modeling_oskdft.training.joint_model import JointModel
from modeling_oskdft.training.objectives.building import build_objectives
from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.tuning.space import Choices, Interval, default_space, read_space
from tests.tiny import tiny_config, tiny_teacher

ROOT = Path(__file__).resolve().parents[2]


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
        ("layers: [[0, [1]]]", "The range of layers is"),
        ("kd_weight: [{a: 1}]", "The range of kd_weight is"),
        ("push_to_hub: ['true']", "'push_to_hub', which is the same in every trial"),
        ("eval_strategy: ['no', epoch]", "'eval_strategy', which is the same in every trial"),
    ],
)
def test_what_is_no_space_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_space(written(tmp_path, text))


def test_an_empty_value_takes_back_what_the_recipe_has_set(tmp_path):
    assert read_space(written(tmp_path, "hidden_size: [null, 384]"))["hidden_size"].values == (None, "384")
    assert Choices((None,)).suggest(Fake(), "hidden_size") is None


def test_a_space_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no search space at"):
        read_space(tmp_path / "none.yaml")


def test_the_default_space_lies_around_the_recipe(tmp_path):
    words = ["--teacher", "t", "--output_dir", str(tmp_path), "--learning_rate", "3e-4"]
    space = default_space(read_recipe(words), 12)
    rate = space["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (pytest.approx(1e-4), pytest.approx(9e-4), True)
    assert space["kd_weight"] == Interval(0.1, 10.0, log=True)
    assert space["layers"] == Choices((["0"], ["0", "1"], ["0", "1", "2"]))
    assert space["kd_objective"].values == ("last_layer_mse", "layerwise_heads", "layerwise_projection")
    assert default_space(read_recipe(words), 2)["layers"] == Choices((["0"], ["0", "1"])), "the origin has no more"


@pytest.mark.parametrize("recipe", sorted((ROOT / "examples/recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_default_space_of_every_recipe_can_be_run(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [str(recipe), "--bf16", "false"]
    for name, values in default_space(read_recipe(words), 24).items():
        for value in values.examples():
            described = read_recipe([*words, f"--{name}", *(value if isinstance(value, list) else [value])])
            other = described.objectives.kd_objective != read_recipe(words).objectives.kd_objective
            objectives = replace(described.objectives, **({"kd_target_layers": None} if other else {}))
            shape = {} if described.student.adapter_size else {"adapter_size": 0}
            student = OSKDFTForXVector(tiny_config(layers=len(described.student.layers or [0, 1]), **shape))
            teacher = tiny_teacher(layers=24).config if objectives.distil_states else None
            sizes = [12] if described.student.embedding_teachers else []
            built = build_objectives(objectives, student, [3] * 20, teacher, sizes)
            JointModel(student, built, described.training.freeze)
