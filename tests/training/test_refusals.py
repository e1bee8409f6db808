"""What transformers would take and nothing here reads: refused before a run, with what does its work."""

import math

import numpy as np
import pytest

from modeling_oskdft import OSKDFTTrainingArguments
from modeling_oskdft.training.arguments import DataArguments, ObjectiveArguments, Range
from tests.training.making import make_trainer

UNREAD = {
    "lr_scheduler_type": "constant",
    "warmup_steps": 100,
    "optim": "sgd",
    "label_smoothing_factor": 0.5,
    "neftune_noise_alpha": 5.0,
    "remove_unused_columns": True,
    "per_device_eval_batch_size": 3,
    "greater_is_better": True,
    "fp16": True,
}
ODD = {
    "num_train_epochs": (0, -1, math.nan, math.inf),
    "max_steps": (0, -2),
    "gradient_accumulation_steps": (0, -1),
    "learning_rate": (0, -1e-3, math.nan),
    "logging_steps": (-1, 0),
    "max_grad_norm": (math.nan, -1),
    "save_total_limit": (-1,),
    "metric_for_best_model": ("nope",),
    "max_nonfinite_steps": (-1,),
    "ema_decay": (1.0, -0.1),
    "weight_decay": (-1, math.inf),
    "adam_beta1": (1.0,),
    "backbone_decay": (0, 1.5),
    "backbone_warmup_epochs": (-1,),
    "dataloader_num_workers": (-1, 100_000),
    "seed": (-1,),
}


def arguments(**fields):
    return OSKDFTTrainingArguments(output_dir="x", use_cpu=True, report_to="none", **fields)


@pytest.mark.parametrize("name", UNREAD)
def test_fields_that_nothing_reads_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} is ") as error:
        arguments(**{name: UNREAD[name]})
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ODD.items() for value in values])
def test_values_outside_their_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is "):
        arguments(**{name: value})


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


@pytest.mark.parametrize(
    "words",
    [
        {"compute_metrics": lambda _: {}},
        {"compute_loss_func": lambda *_: 0},
        {"preprocess_logits_for_metrics": lambda *_: 0},
        {"model_init": lambda: None},
        {"optimizers": (object(), None)},
    ],
    ids=lambda words: next(iter(words)),
)
def test_what_the_trainer_would_not_read_is_refused(tmp_path, manifest, feature_extractor, words, monkeypatch):
    import tests.training.making as making

    original = making.OSKDFTTrainer
    monkeypatch.setattr(making, "OSKDFTTrainer", lambda **given: original(**given, **words))
    with pytest.raises(ValueError, match=f"{next(iter(words))} was given to OSKDFTTrainer, which would not read it"):
        make_trainer(tmp_path, manifest, feature_extractor)


def test_evaluate_and_predict_take_manifests_and_say_so(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    others = manifest.where("speaker_id", manifest.speakers[:4])
    own, of_others = trainer.evaluate(), trainer.evaluate(others)
    assert set(own) == set(of_others) and own != of_others
    assert {"eval_eer", "eval_min_dcf"} <= set(own) and {"eval_a_eer", "eval_a_min_dcf"} <= set(
        trainer.evaluate({"a": others})
    )
    found = trainer.predict(others)
    assert found.predictions.shape == (16, 192) and list(found.label_ids) == sorted(others.column("speaker_id"))
    for ask in (trainer.evaluate, trainer.predict):
        with pytest.raises(TypeError, match="was given a str: a Manifest"):
            ask("nonsense")
    with pytest.raises(NotImplementedError, match="start a run of train_oskdft.py for each trial"):
        trainer.hyperparameter_search(n_trials=1)


def test_an_adapter_of_peft_is_refused_before_the_run(tmp_path, manifest, feature_extractor):
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'peft>=0.21'")
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    trainer.student.add_adapter(peft.LoraConfig(r=2, target_modules=["intermediate_dense"]))
    with pytest.raises(ValueError, match="carries an adapter of PEFT"):
        trainer.train()


def test_the_equation_of_a_log_line_is_true(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, logging_steps=5)
    trainer.train()
    lines = [entry for entry in trainer.state.log_history if "kd_loss" in entry]
    assert len(lines) == 2
    for entry in lines:
        expected = entry["ft_loss"] + entry["kd_weight"] * entry["kd_loss"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-5)
    assert lines[0]["kd_weight"] > lines[1]["kd_weight"] > 0


def test_values_that_are_legal_are_taken(tmp_path):
    arguments = OSKDFTTrainingArguments(
        output_dir=str(tmp_path),
        save_total_limit=0,  # keeps all
        seed=np.int64(1),
        learning_rate=np.float32(0.5),
        metric_for_best_model=None,
        greater_is_better=None,
    )
    assert arguments.seed == 1 and arguments.metric_for_best_model == "eer" and arguments.greater_is_better is False


def test_a_layout_that_is_none_is_refused():
    with pytest.raises(ValueError, match="layout is 'nonsense': use one of auto, speaker/session, speaker"):
        DataArguments(layout="nonsense")
