import pytest

from modeling_oskdft.training.inputs import (
    augmentation_of,
    checkpoint_to_resume,
    spec_mask_of,
    training_crops,
)
from modeling_oskdft.training.recipe import read_recipe


def recipe(*words):
    return read_recipe(["--teacher", "t", "--output_dir", "x", "--use_cpu", "true", *words])


def test_nothing_is_augmented_or_masked_unless_the_recipe_says_so():
    assert augmentation_of(recipe()) is None and spec_mask_of(recipe()) is None
    assert augmentation_of(recipe("--gain_probability", "0.5")) is not None
    mask = spec_mask_of(recipe("--spec_mask_probability", "0.5", "--spec_mask_frames", "7"))
    assert (mask.probability, mask.features, mask.frames) == (0.5, 100, 7)


def test_crops_follow_the_recipe(manifest):
    words = ["--crop_seconds", "0.5", "--speed_perturbation", "0.9", "--max_damaged_files", "3"]
    crops = training_crops(recipe(*words, "--labelled_fraction", "0.5", "--seed", "4"), manifest)
    assert (crops.num_samples, crops.speeds, crops.max_damaged, crops.seed) == (8000, (1.0, 0.9), 3, 4)
    assert len(crops.classes) == 5 and set(crops.classes) < set(manifest.speakers)


def test_which_checkpoint_is_meant(tmp_path):
    assert checkpoint_to_resume(str(tmp_path), None) is None and checkpoint_to_resume(str(tmp_path), "auto") is None
    with pytest.raises(FileNotFoundError, match="There is no checkpoint in '.*' to go on from"):
        checkpoint_to_resume(str(tmp_path), "last")
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    last = str(tmp_path / "checkpoint-10")
    assert checkpoint_to_resume(str(tmp_path), "last") == checkpoint_to_resume(str(tmp_path), "auto") == last
    assert checkpoint_to_resume(str(tmp_path), str(tmp_path / "checkpoint-2")) == str(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match="already holds 'checkpoint-10': go on with"):
        checkpoint_to_resume(str(tmp_path), None)
