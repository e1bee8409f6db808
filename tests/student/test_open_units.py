import pytest
import torch

from modeling_oskdft.evaluation.cost import multiply_adds
from modeling_oskdft.student.open_units import OpenUnits, UnitCosts, cut_open_units
from tests.tiny import SHAPES, tiny_verifier, waves


@pytest.mark.parametrize("shape", SHAPES)
def test_a_student_without_cut_units_is_the_same(shape):
    student = tiny_verifier(*shape)
    encoder = student.config.encoder_config
    whole = OpenUnits([torch.arange(size) for size in encoder.conv_dim], [torch.arange(48), torch.arange(48)])
    waveforms, mask = waves(6000, 9000)
    with torch.no_grad():
        copy = cut_open_units(student, whole)
        torch.testing.assert_close(copy(waveforms, mask).embeddings, student(waveforms, mask).embeddings)
    assert copy.config.to_dict() == student.config.to_dict() and copy is not student


def test_a_cut_student_is_saved_and_opened_as_any_other(tmp_path):
    student = tiny_verifier("hubert", True, "layer")
    thin = cut_open_units(student, OpenUnits([torch.arange(4, 9)] * 7, [torch.arange(0, 48, 4)] * 2))
    assert thin.config.encoder_config.conv_dim == (5,) * 7 and thin.config.encoder_config.intermediate_size == 12
    thin.save_pretrained(tmp_path)
    opened = type(thin).from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(opened(waves(6000)[0]).embeddings, thin(waves(6000)[0]).embeddings)


@pytest.mark.parametrize("time_reduction", [1, 2])
def test_the_costs_of_a_thinner_student_are_those_that_torch_counts(time_reduction):
    student = tiny_verifier("hubert", False, "group", time_reduction=time_reduction)
    costs = UnitCosts(student.config.encoder_config, time_reduction, multiply_adds(student.oskdft))
    units = OpenUnits([torch.arange(5 + number) for number in range(7)], [torch.arange(20)] * 2)
    sizes = [[torch.tensor(float(len(unit))) for unit in part] for part in units]
    counted = multiply_adds(cut_open_units(student, units).oskdft)
    assert float(costs.count(*sizes)) == pytest.approx(counted, rel=1e-4)
