import pytest

from modeling_oskdft.training.recipe import read_recipe


def recipe(tmp_path, text, name="r.yaml"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_values_pass_the_parser_s_types(tmp_path):
    path = recipe(
        tmp_path,
        "teacher: t\nlearning_rate: 1e-3\nlayers: [0, 5]\nadapter_noise: [0.1, 0.5]\nbf16: true\nuse_cpu: true\n",
    )
    read = read_recipe([path, "--margin", "0.3", "--adapter-size", "16", "--use_weighted_layer_sum=false"])
    assert read.training.learning_rate == 1e-3 and read.training.bf16 is True
    assert read.student.layers == [0, 5] and read.student.adapter_noise == [0.1, 0.5]
    assert read.objectives.margin == 0.3 and read.student.adapter_size == 16
    assert read.student.use_weighted_layer_sum is False
    plain = read_recipe(
        [recipe(tmp_path, "teacher: t\neval_strategy: no\nsave_strategy: 'no'\nseed: 7\nbf16: false\n")]
    )
    assert plain.training.eval_strategy == "no" and plain.training.seed == 7 and plain.training.bf16 is False


def test_base_then_file_then_command_line(tmp_path):
    recipe(tmp_path, "teacher: base\nmargin: 0.1\nscale: 20\nnoise_root: n\n", "base.yaml")
    (tmp_path / "sub").mkdir()
    path = recipe(tmp_path / "sub", "base: ../base.yaml\nmargin: 0.2\nnoise_root:\n")
    read = read_recipe([path, "--scale", "25"])
    assert (read.student.teacher, read.objectives.margin, read.objectives.scale) == ("base", 0.2, 25.0)
    assert read.data.noise_root is None


def test_defaults_are_the_paper_s(tmp_path):
    read = read_recipe([recipe(tmp_path, "teacher: t\n")])
    training, objectives = read.training, read.objectives
    assert (training.learning_rate, training.min_learning_rate, training.num_train_epochs) == (1e-4, 1e-6, 100)
    assert (training.adapter_lr_multiplier, training.backbone_warmup_epochs, training.backbone_decay) == (10, 10, 0.93)
    assert (objectives.kd_objective, objectives.mse_scale, objectives.kd_schedule) == ("last_layer_mse", 100, "linear")
    assert (objectives.margin, objectives.scale, training.weight_decay) == (0.2, 30, 0)
    assert (training.metric_for_best_model, training.greater_is_better) == ("eer", False)


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("techer: t\n", [], "no field 'techer'.*did you mean 'teacher'"),
        ("teacher: t\n", ["--adapter_siz", "3"], "no option '--adapter_siz': did you mean 'adapter_size'"),
        ("teacher: t\n", ["--adapter", "3"], "no option '--adapter'"),
        ("- a\n- b\n", [], "holds a list"),
        ("a: [1\n", [], "is not YAML"),
        ("margin: {a: 1}\n", [], "margin is a mapping"),
        ("base: r.yaml\n", [], "its own base"),
        ("freeze: all\n", [], "freeze is 'all': use one of"),
        ("student_start: zeros\n", [], "student_start is 'zeros': use one of importance"),
        ("schedule_unit: week\n", [], "schedule_unit is 'week'"),
        ("backbone_schedule: up\n", [], "backbone_schedule is 'up'"),
    ],
)
def test_a_misspelt_recipe_gets_one_sentence(tmp_path, text, words, message):
    with pytest.raises(ValueError, match=message):
        read_recipe([recipe(tmp_path, text), *words])


def test_a_missing_recipe_is_missing():
    with pytest.raises(FileNotFoundError, match="no recipe at 'nowhere.yaml'"):
        read_recipe(["nowhere.yaml"])


def test_a_value_of_the_wrong_type_gets_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="--margin: invalid float value: 'wide': see --help") as error:
        read_recipe([recipe(tmp_path, "margin: wide\n")])
    assert "\n" not in str(error.value)


def test_every_shipped_recipe_reads():
    from pathlib import Path

    recipes = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        assert read_recipe([str(path), "--use_cpu", "true"]).student.teacher
