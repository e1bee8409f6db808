"""What transformers would take and nothing here reads: refused before a run, with what does its work."""

import shutil

import pytest

from modeling_oskdft import OSKDFTConfig, OSKDFTTrainer, OSKDFTTrainingArguments, init_student_from_teacher
from modeling_oskdft.data.crops import CropDataset
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.training import assembly
from modeling_oskdft.training.objectives.building import ObjectiveArguments
from tests.tiny import tiny_teacher
from tests.training.making import make_trainer


@pytest.mark.parametrize(
    "words",
    [
        {"compute_metrics": lambda _: {}},
        {"compute_loss_func": lambda *_: 0},
        {"preprocess_logits_for_metrics": lambda *_: 0},
        {"optimizers": (object(), None)},
    ],
    ids=lambda words: next(iter(words)),
)
def test_what_the_trainer_would_not_read_is_refused(tmp_path, manifest, feature_extractor, words, monkeypatch):
    original = assembly.OSKDFTTrainer
    monkeypatch.setattr(assembly, "OSKDFTTrainer", lambda *given, **named: original(*given, **named, **words))
    with pytest.raises(ValueError, match=f"{next(iter(words))} was given to OSKDFTTrainer, which would not read it"):
        make_trainer(tmp_path, manifest, feature_extractor)


def test_an_adapter_of_peft_is_refused_before_the_run(tmp_path, manifest, feature_extractor):
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'peft>=0.21'")
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    trainer.joint.student.add_adapter(peft.LoraConfig(r=2, target_modules=["intermediate_dense"]))
    with pytest.raises(ValueError, match="carries an adapter of PEFT"):
        trainer.train()


def parts(tmp_path, manifest, feature_extractor, **fields):
    """Return the arguments of a trainer that fit together."""
    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, **fields)
    return {
        "model": trainer.joint,
        "args": trainer.args,
        "data_collator": trainer.data_collator,
        "train_dataset": trainer.train_dataset,
        "teacher": trainer.teacher,
    }


def test_parts_that_do_not_belong_together_are_refused(tmp_path, manifest, feature_extractor):
    fitting = parts(tmp_path, manifest, feature_extractor)
    OSKDFTTrainer(**fitting)
    others = manifest.where("speaker_id", manifest.speakers[:4])
    for part, message in (
        ({"teacher": None}, "a distillation objective and no teacher was given"),
        ({"train_dataset": CropDataset(others, 0.5, 42)}, "has 7 classes and the crops have 4"),
        ({"train_dataset": CropDataset(fitting["train_dataset"].manifest, 0.5, 3)}, "crops were built with 3"),
    ):
        with pytest.raises(ValueError, match=message):
            OSKDFTTrainer(**fitting | part)
    fitting["args"].freeze = "feature_encoder"
    with pytest.raises(ValueError, match="freeze is 'feature_encoder' and the joint model was built with 'none'"):
        OSKDFTTrainer(**fitting)


def test_a_refused_run_leaves_the_teacher_whole(manifest, feature_extractor, tmp_path):
    teacher = tiny_teacher("hubert", True, "group")
    config = OSKDFTConfig.from_teacher(teacher.config, [0, 1], adapter_size=8, head_type="statistics_pooling")
    args = OSKDFTTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=4000
    )
    objectives = ObjectiveArguments(kd_objective="layerwise_heads", kd_target_layers=[1, 2])
    with pytest.raises(ValueError, match="a batch takes 4000"):
        student = init_student_from_teacher(teacher, config)
        assembly.assemble_trainer(
            student, args, CropDataset(manifest, 0.5, args.seed), feature_extractor, objectives, teacher
        )
    assert len(teacher.encoder.layers) == 4 and teacher.training is False


def test_a_prediction_has_a_row_for_every_recording_or_none(tmp_path, manifest, voices, feature_extractor):
    shutil.copytree(voices, tmp_path / "voices")
    damaged = load_manifest(tmp_path / "voices")
    sorted((tmp_path / "voices").rglob("*.flac"))[3].write_bytes(b"nothing")
    trainer = make_trainer(tmp_path / "run", manifest, feature_extractor)
    with pytest.raises(ValueError):
        trainer.predict(damaged)
