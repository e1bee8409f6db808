import pytest

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector
from modeling_oskdft.training.arguments import ObjectiveArguments
from modeling_oskdft.training.building import build_objectives
from tests.tiny import tiny_config, tiny_teacher

COUNTS = [10, 20, 1]


def build(**fields):
    student = OSKDFTForXVector(tiny_config())
    return build_objectives(ObjectiveArguments(**fields), student, COUNTS, tiny_teacher().config)


def test_what_a_recipe_says_is_built():
    objectives = build(kd_objective="layerwise_heads", margin=0.4, scale=20.0, penalty_top_k=2, sub_centres=3)
    speaker = objectives.speaker
    assert (speaker.margin, speaker.scale, speaker.penalty_top_k, speaker.sub_centres) == (0.4, 20.0, 2, 3)
    assert speaker.weight.shape == (9, 12)
    assert speaker.class_weights.tolist() == pytest.approx([31 / 30, 31 / 60, 10.0])  # 10.33, capped
    assert objectives.kd.target_layers == [1, 3, 4]  # thirds of 4
    assert build(kd_weight=0.0).kd is None
    assert build(class_weight_cap=0.0).speaker.class_weights is None
    assert type(build(speaker_objective="linear_softmax").speaker).__name__ == "LinearSoftmax"
    assert build(kd_objective="layerwise_projection").kd.target_layers == [1, 2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kd_objective": "mse"}, "kd_objective is 'mse': use last_layer_mse"),
        ({"speaker_objective": "triplet"}, "speaker_objective is 'triplet': use aam_softmax"),
        ({"kd_target_layers": [2]}, "whose target is the last state, 4"),
    ],
)
def test_what_does_not_exist_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_distillation_needs_a_teacher():
    student = OSKDFTForXVector(OSKDFTConfig(encoder_config=tiny_teacher().config))
    with pytest.raises(ValueError, match="without a teacher: name one, or set kd_weight to 0"):
        build_objectives(ObjectiveArguments(), student, COUNTS, None)
