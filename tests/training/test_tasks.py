import pyarrow as pa
import pytest

from modeling_oskdft.data.crops import SPEAKERS
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.splits import split_by_speaker
from modeling_oskdft.training.class_validation import LabelledDataset
from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.training.tasks import Classification, Verification, task_of
from modeling_oskdft.training.validation import TrialDataset
from tests.tiny import tiny_teacher

WORDS = ("--teacher", "t", "--output_dir", "x", "--use_cpu", "true", "--head_type", "statistics_pooling")


@pytest.fixture
def moods(manifest):
    """Recordings with a column of moods; each fourth has none."""
    values = ["" if number % 4 == 3 else ("calm", "angry")[number % 2] for number in range(len(manifest))]
    return Manifest(manifest.table.append_column("mood", pa.array(values)), manifest.root)


def recipe(*more):
    return read_recipe([*WORDS, *more])


@pytest.mark.parametrize("more", [(), ("--label_column", "")])
def test_a_recipe_without_a_column_is_a_verifier_of_speakers(moods, more):
    task = task_of(recipe(*more), moods)
    assert isinstance(task, Verification) and task.label_column == SPEAKERS and not task.classes
    assert isinstance(task.validation(*split_by_speaker(moods, 0.3, 0)), TrialDataset)
    assert type(task.new_student(tiny_teacher("hubert", True, "group"))).__name__ == "OSKDFTForXVector"
    assert task.load_test() is None


def test_a_column_is_a_classifier_of_its_values(moods):
    task = task_of(recipe("--label_column", "mood"), moods)
    assert isinstance(task, Classification) and list(task.classes) == ["angry", "calm"]
    train, aside = split_by_speaker(moods, 0.3, 0)
    validation = task.validation(train, aside)
    assert isinstance(validation, LabelledDataset)
    assert 0 < len(validation) == sum(mood != "" for mood in aside.column("mood")) < len(aside)
    student = task.new_student(tiny_teacher("hubert", True, "group"))
    assert student.config.id2label == {0: "angry", 1: "calm"}
    assert task.load_test() is None


def test_recordings_without_a_class_are_kept_for_the_distillation_alone(moods):
    assert len(task_of(recipe("--label_column", "mood"), moods).manifest) == len(moods)
    alone = task_of(recipe("--label_column", "mood", "--kd_weight", "0"), moods).manifest
    assert 0 < len(alone) < len(moods) and "" not in alone.column("mood")


def test_a_run_without_a_head_measures_no_thresholds_and_reads_no_test(moods):
    task = task_of(recipe("--speaker_objective", "none", "--test_trials", "missing.txt"), moods)
    assert task.load_test() is None and task.measure(None, moods) is None
