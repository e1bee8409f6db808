import math

import pytest

from modeling_oskdft.training.arguments import DataArguments
from modeling_oskdft.training.objectives.building import ObjectiveArguments
from modeling_oskdft.training.ranges import Range


@pytest.mark.parametrize(
    ("group", "fields"),
    [
        (ObjectiveArguments, {"class_weight_cap": -1}),
        (ObjectiveArguments, {"margin": 4}),
        (ObjectiveArguments, {"scale": 0}),
        (ObjectiveArguments, {"kd_weight": -1}),
        (ObjectiveArguments, {"sub_centres": 0}),
        (DataArguments, {"spec_mask_probability": 2}),
        (DataArguments, {"spec_mask_features": -1}),
        (DataArguments, {"crop_seconds": 0}),
        (DataArguments, {"validation_fraction": 1}),
        (DataArguments, {"labelled_fraction": 0}),
        (DataArguments, {"max_damaged_files": -1}),
    ],
)
def test_so_are_those_of_losses_and_data(group, fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} is .*: a number of "):
        group(**fields)


def test_a_range_says_itself():
    assert str(Range(0, 1, True, True)) == "above 0 and below 1" and str(Range(1)) == "at least 1"
    assert 0 not in Range(0, low_open=True) and math.nan not in Range() and "a" not in Range()


def test_a_layout_that_is_none_is_refused():
    with pytest.raises(ValueError, match="layout is 'nonsense': use one of auto, speaker/session, speaker"):
        DataArguments(layout="nonsense")
