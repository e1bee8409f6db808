import inspect

from modeling_oskdft import OSKDFTConfig
from modeling_oskdft.model.configuration_oskdft import SHAPE_FIELDS
from modeling_oskdft.training.recipe import read_recipe
from tests.tiny import encoder_config
from tests.training.test_recipe import recipe


def test_the_student_s_fields_are_those_of_the_configuration(tmp_path):
    read = read_recipe([recipe(tmp_path, "teacher: t\n")])
    fields = read.student_config_fields()
    assert set(fields) == set(OSKDFTConfig.field_names()) - {
        "encoder_config",
        "teacher_name_or_path",
        "teacher_layers",
    }
    config = OSKDFTConfig.from_teacher(encoder_config(layers=4), **fields)
    default = OSKDFTConfig.from_teacher(encoder_config(layers=4))
    assert config.to_dict() == default.to_dict()


def test_a_student_s_shape_is_what_from_teacher_takes(tmp_path):
    text = "teacher: t\nfront_end_width: 8\nhidden_size: 16\ntime_reduction: 2\nfront_end_kd_lambda: 0.5\n"
    read = read_recipe([recipe(tmp_path, text), "--front_end_stride", "10", "2", "2", "2", "2", "2", "1"])
    shape = read.student.shape_fields()
    assert set(shape) == set(SHAPE_FIELDS) <= set(inspect.signature(OSKDFTConfig.from_teacher).parameters)
    config = OSKDFTConfig.from_teacher(encoder_config(layers=4), **shape, **read.student_config_fields())
    assert config.encoder_config.conv_dim == [8] * 7 and config.encoder_config.conv_stride[0] == 10
    assert config.encoder_config.num_attention_heads == 2 and config.time_reduction == 2
    assert read.objectives.front_end_kd_lambda == 0.5 and read.student.student_start == "importance"
    several = read_recipe([recipe(tmp_path, "teacher: t\nfront_end_width: [4, 4, 8, 8, 8, 16, 16]\n")])
    assert several.student.front_end_width == [4, 4, 8, 8, 8, 16, 16]
