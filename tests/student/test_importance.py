import pytest
import torch

from modeling_oskdft import OSKDFTConfig
from modeling_oskdft.student.importance import (
    channel_strengths,
    choose_units,
    head_importance,
    hidden_importance,
    select_highest,
    select_random,
)
from tests.tiny import SHAPES, tiny_teacher

THIN = {"front_end_width": 8, "hidden_size": 16, "intermediate_size": 20}


def thin(teacher, **fields):
    return OSKDFTConfig.from_teacher(teacher.config, [0, 2], **(THIN | fields))


def test_the_best_are_taken_evenly_from_the_groups_and_ties_keep_the_first():
    importance = torch.tensor([5.0, 1.0, 4.0, 3.0, 9.0, 2.0, 2.0, 2.0])
    assert select_highest(importance, 4).tolist() == [0, 2, 3, 4]
    assert select_highest(importance, 4, groups=2).tolist() == [0, 2, 4, 5]
    assert select_highest(importance, 8).tolist() == list(range(8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("select", [select_highest, select_random])
def test_what_is_kept_fits_the_student(shape, select):
    teacher = tiny_teacher(*shape)
    config = thin(teacher)
    kept = choose_units(teacher, config.encoder_config, [0, 2], select)
    assert [len(channels) for channels in kept.channels] == config.encoder_config.conv_dim == [8] * 7
    assert [int((kept.hidden // 16 == group).sum()) for group in range(2)] == [8, 8]  # of both groups of 16
    for layer in kept.layers:
        assert len(layer.heads) == 2 and len(layer.neurons) == 20
        assert (layer.queries // 8).unique().tolist() == (layer.values // 8).unique().tolist() == layer.heads.tolist()
    if shape[0] == "wavlm":
        assert kept.layers[0].heads.equal(kept.layers[1].heads), "all layers share one position bias"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_student_of_the_teacher_s_shape_keeps_everything(shape):
    teacher = tiny_teacher(*shape)
    kept = choose_units(teacher, OSKDFTConfig.from_teacher(teacher.config, [1]).encoder_config, [1])
    everything = [*kept.channels, kept.hidden, *kept.layers[0]]
    assert all(units.tolist() == list(range(len(units))) for units in everything) and len(kept.hidden) == 32
    assert all(bool((factor == 1).all()) for factor in kept.factors)


def test_the_choice_is_a_function_of_the_weights_and_a_random_one_of_the_seed():
    teacher = tiny_teacher()
    config = thin(teacher).encoder_config

    def hidden(select, seed):
        torch.manual_seed(seed)
        return choose_units(teacher, config, [0, 2], select).hidden.tolist()

    assert hidden(select_highest, 0) == hidden(select_highest, 1)
    assert hidden(select_random, 0) == hidden(select_random, 0) != hidden(select_random, 1)


def test_narrower_heads_keep_rows_of_their_own_head():
    teacher = tiny_teacher()
    kept = choose_units(teacher, thin(teacher, num_attention_heads=4).encoder_config, [0, 2])
    for rows in (kept.layers[0].queries, kept.layers[0].values):
        assert (rows // 8).tolist() == [head for head in range(4) for _ in range(4)]


@torch.no_grad()
def test_what_is_dead_on_either_side_has_no_importance():
    teacher = tiny_teacher(layers=2)
    layers, convolutions = list(teacher.encoder.layers), teacher.feature_extractor.conv_layers
    layers[0].attention.out_proj.weight[:, 8:16] = 0  # nothing reads head 1
    layers[1].attention.v_proj.weight[24:] = 0  # nothing writes head 3
    layers[1].attention.v_proj.bias[24:] = 0
    convolutions[2].conv.weight[5] = 0
    hidden = torch.arange(32)
    first, second = head_importance(teacher, layers, hidden)
    assert float(first[1]) == float(second[3]) == 0.0 and float(first[3]) > 0
    assert float(channel_strengths(teacher)[2][5]) == 0.0 and int((channel_strengths(teacher)[2] == 0).sum()) == 1
    kept = choose_units(teacher, OSKDFTConfig.from_teacher(teacher.config, front_end_width=15).encoder_config, [0, 1])
    assert 5 not in kept.channels[2].tolist()


@torch.no_grad()
@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_hidden_channel_that_nothing_writes_has_no_importance(pre_norm):
    teacher = tiny_teacher("hubert", pre_norm)
    layers = [teacher.encoder.layers[1]]
    teacher.feature_projection.projection.weight[7] = 0
    positions = teacher.encoder.pos_conv_embed.conv
    positions.weight = positions.weight.index_fill(0, torch.tensor([7]), 0.0)
    assert float(hidden_importance(teacher, layers)[7]) > 0
    layers[0].attention.out_proj.weight[7] = 0
    layers[0].feed_forward.output_dense.weight[7] = 0
    assert float(hidden_importance(teacher, layers)[7]) == 0.0
