import pytest

from modeling_oskdft.training.objectives.distillation import (
    LayerwiseHeads,
)
from modeling_oskdft.training.objectives.objectives import Objectives
from modeling_oskdft.training.objectives.speaker import AAMSoftmax


def test_objectives_name_their_parts():
    names = set(Objectives(AAMSoftmax(8, 5), LayerwiseHeads(8, 8, [1])).state_dict())
    assert "speaker.weight" in names and "kd.predictors.0.2.bias" in names


def test_a_run_without_any_objective_is_refused():
    with pytest.raises(ValueError, match="nothing would learn"):
        Objectives(None, None)
