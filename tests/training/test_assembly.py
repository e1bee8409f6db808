import pytest
import torch

from modeling_oskdft import OSKDFTTrainingArguments
from modeling_oskdft.training.assembly import freeze_teacher
from tests.training.making import make_trainer
from tests.training.test_joint_model import joint


def arguments(tmp_path, **fields):
    return OSKDFTTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **fields)


def test_without_a_distillation_objective_there_is_no_teacher(tmp_path, manifest, feature_extractor):
    assert make_trainer(tmp_path, manifest, feature_extractor, {"kd_weight": 0.0}).teacher is None


@pytest.mark.parametrize(
    ("freeze", "same_input", "shared"),
    [("feature_encoder", True, True), ("feature_encoder", False, False), ("none", True, False)],
)
def test_convolutions_are_shared_where_they_stay_equal_and_hear_the_same(tmp_path, freeze, same_input, shared):
    model, encoder = joint(freeze=freeze)
    teacher = freeze_teacher(encoder, model, arguments(tmp_path, freeze=freeze), same_input)
    assert (teacher.shared is not None) == shared
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_the_teacher_computes_in_bfloat16_in_a_run_that_does(tmp_path):
    for fields, dtype in (
        ({"bf16": True}, torch.bfloat16),
        ({"bf16": True, "teacher_dtype": "float32"}, torch.float32),
    ):
        model, encoder = joint()
        assert freeze_teacher(encoder, model, arguments(tmp_path, **fields), True).dtype == dtype


def test_an_assembled_trainer_has_every_part(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    assert trainer.teacher.target_layers == trainer.joint.objectives.kd.target_layers
    assert trainer.processing_class is feature_extractor is trainer.data_collator.feature_extractor
    aside = set(trainer.eval_dataset.manifest.speakers)
    assert aside and not aside & set(trainer.train_dataset.classes)
