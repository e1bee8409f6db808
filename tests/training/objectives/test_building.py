import pytest

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector
from modeling_oskdft.training.objectives.building import ObjectiveArguments, build_objectives
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
        ({"kd_objective": "mse"}, "kd_objective is 'mse': use one of last_layer_mse"),
        ({"speaker_objective": "triplet"}, "speaker_objective is 'triplet': use one of aam_softmax"),
        ({"kd_target_layers": [2]}, "whose target is the last state, 4"),
    ],
)
def test_what_does_not_exist_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_a_thin_student_meets_its_teacher_in_the_objectives_alone():
    teacher = tiny_teacher().config
    config = OSKDFTConfig.from_teacher(
        teacher, front_end_width=8, front_end_stride=[10, 2, 2, 2, 2, 2, 1], hidden_size=16, time_reduction=2
    )
    student = OSKDFTForXVector(config)
    objectives = build_objectives(
        ObjectiveArguments(kd_objective="layerwise_heads", front_end_kd_lambda=0.5), student, COUNTS, teacher
    )
    assert objectives.kd.predictors[0][0].in_features == 16 and objectives.kd.predictors[0][-1].out_features == 32
    assert objectives.kd.upsampling.match.ratio == 2 and objectives.front_end.upsampling.match.ratio == 1
    assert objectives.front_end.projection.weight.shape == (16, 8) and objectives.front_end.weight == 0.5
    assert not any("projection" in name and "front_end" in name for name in student.state_dict())
    projections = build_objectives(ObjectiveArguments(kd_objective="layerwise_projection"), student, COUNTS, teacher)
    assert len(projections.kd.upsampling) == 2 and projections.front_end is None
    with pytest.raises(ValueError, match="last_layer_mse for a student of width 16, 2 teacher frames a frame"):
        build_objectives(ObjectiveArguments(), student, COUNTS, teacher)


def test_frames_that_do_not_fall_on_the_teacher_s_are_named():
    teacher = tiny_teacher().config
    by_hand = OSKDFTForXVector(tiny_config(encoder={"conv_stride": (5, 2, 2, 2, 2, 2, 3)}))
    with pytest.raises(ValueError, match="every 480 samples and the teacher every 320"):
        build_objectives(ObjectiveArguments(kd_objective="layerwise_heads"), by_hand, COUNTS, teacher)


def test_distillation_needs_a_teacher():
    student = OSKDFTForXVector(OSKDFTConfig(encoder_config=tiny_teacher().config))
    with pytest.raises(ValueError, match="without a teacher: name one, or set kd_weight to 0"):
        build_objectives(ObjectiveArguments(), student, COUNTS, None)
