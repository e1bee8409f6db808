import copy
import json
import math
import shutil
from unittest.mock import Mock

import optuna
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, TrainerCallback

from modeling_oskdft import OSKDFTTrainer
from modeling_oskdft.training.objectives.objectives import KDWeights
from modeling_oskdft.training.objectives.speaker import AAMSoftmax
from tests.training.making import assert_same, hiss, make_trainer, parameters


def test_a_run_logs_selects_saves_and_opens(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, num_train_epochs=3)
    before = parameters(trainer)
    trainer.train()
    first = next(entry for entry in trainer.state.log_history if "loss" in entry)
    rates = {f"learning_rate_{group}" for group in ("head", "adapters", "backbone")}
    assert rates | {"loss", "kd_loss", "ft_loss", "kd_weight", "grad_norm"} <= set(first)
    assert first["loss"] == pytest.approx(first["ft_loss"] + first["kd_loss"] * (1 - 1 / 21), rel=0.02)
    eers = [entry["eval_eer"] for entry in trainer.state.log_history if "eval_eer" in entry]
    assert len(eers) == 3 and trainer.state.best_metric == pytest.approx(min(eers), abs=1e-9)
    assert trainer.state.log_history[-1]["epoch"] == 3
    moved = [name for name, value in parameters(trainer).items() if not torch.equal(value, before[name])]
    assert any("adapter" in name for name in moved) and any("feature_extractor" in name for name in moved)

    checkpoint = sorted(tmp_path.glob("checkpoint-*"))[-1]
    names = {file.name for file in checkpoint.iterdir()}
    assert {
        "model.safetensors",
        "objectives.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "trainer_state.json",
    } <= names
    assert not any(name.startswith(("training_args", "teacher")) for name in names)
    assert set(load_file(checkpoint / "objectives.safetensors")) == set(trainer.joint.objectives.state_dict())
    student = sum(value.numel() for value in load_file(checkpoint / "model.safetensors").values())
    assert student == sum(value.numel() for value in trainer.joint.student.state_dict().values()), (
        "the teacher was saved"
    )
    assert not (tmp_path / ".incomplete").exists()

    trainer.save_model()
    opened = AutoModel.from_pretrained(tmp_path)
    for name, value in opened.state_dict().items():
        assert torch.equal(value, trainer.joint.student.state_dict()[name]), name
    assert not (tmp_path / "objectives.safetensors").exists(), "speaker centroids were published"


class KeepGradients(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_accumulated_batches_are_the_large_batch(tmp_path, manifest, feature_extractor):
    """With batch-norm statistics frozen and no dropout: batch norm alone sees how a batch was cut."""
    results = []
    for batch, steps in ((12, 1), (4, 3)):
        keep = KeepGradients()
        trainer = make_trainer(
            tmp_path / str(batch),
            manifest,
            feature_extractor,
            validate=False,
            callbacks=[keep],
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            max_steps=1,
        )
        model = trainer.joint
        model.eval()
        model.train = lambda mode=True, model=model: model  # and it stays there
        trainer.kd_weights = lambda: KDWeights(0.5, 0.0)
        # Unequal weights: a mean of the micro-batches' means would be another number.
        model.objectives.speaker.class_weights = torch.linspace(0.2, 4.0, model.objectives.speaker.num_speakers)
        trainer.train()
        results.append((keep.gradients, next(entry for entry in trainer.state.log_history if "loss" in entry)))
    (large, large_log), (parts, parts_log) = results
    for name, gradient in large.items():
        # Keys' biases have no gradient but rounding: softmax does not see them.
        tolerance = 1e-4 * float(gradient.abs().max()) + 1e-6
        torch.testing.assert_close(parts[name], gradient, atol=tolerance, rtol=0, msg=name)
    for name in ("loss", "kd_loss", "ft_loss", "grad_norm"):
        assert parts_log[name] == pytest.approx(large_log[name], rel=1e-4), name


def test_adam_lives_through_the_run_and_rates_follow_their_schedules(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, num_train_epochs=3)
    optimizers = set()

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **kwargs):
            optimizers.add(id(optimizer))

    trainer.add_callback(Watch())
    trainer.train()
    assert len(optimizers) == 1
    inner = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    assert type(inner) is torch.optim.Adam
    assert all(int(state["step"]) == 21 for state in inner.state.values())
    log = [entry for entry in trainer.state.log_history if "learning_rate_head" in entry]
    for entry in log[:-1]:
        assert entry["learning_rate_adapters"] == pytest.approx(10 * entry["learning_rate_head"])
    heads = [entry["learning_rate_head"] for entry in log]
    backbone = [entry["learning_rate_backbone"] for entry in log]
    assert heads == sorted(heads, reverse=True) and backbone[0] < backbone[10]
    assert log[-1]["kd_weight"] == 0.0


def test_constantly_no_distillation_has_no_prediction_heads(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, {"kd_weight": 0.0}, validate=False, max_steps=1)
    assert trainer.joint.objectives.kd is None and trainer.teacher is None
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert "kd_loss" not in entry and "kd_weight" not in entry


def test_the_teacher_hears_the_clean_crop_and_the_student_the_augmented(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, max_steps=1)
    dataset = trainer.train_dataset
    dataset.augmentation = lambda waveform, generator: (
        waveform + generator.normal(size=len(waveform)).astype("float32")
    )
    heard = []
    teacher, trainer.teacher = trainer.teacher, Mock(view=None)
    trainer.teacher.side_effect = lambda inputs: heard.append(inputs["input_values"].clone()) or teacher(inputs)
    forward = trainer.joint.forward
    trainer.joint.forward = lambda values, *rest: heard.append(values.clone()) or forward(values, *rest)
    trainer.train()
    clean, augmented = heard
    assert not torch.allclose(clean, augmented, atol=0.1)
    dataset.augmentation = None
    rows = [dataset[item]["clean"] for item in list(trainer.train_sampler())[:4]]
    torch.testing.assert_close(clean, trainer.data_collator._normalise(rows))


@pytest.mark.parametrize("arguments", [{"bf16": True}, {"gradient_checkpointing": True}, {"schedule_unit": "epoch"}])
def test_other_ways_to_run(tmp_path, manifest, feature_extractor, arguments):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, max_steps=2, **arguments)
    assert trainer.train().training_loss > 0
    assert trainer.joint.student.dtype == torch.float32
    checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in trainer.joint.student.modules())
    assert checkpointed == ("gradient_checkpointing" in arguments)
    rates = [e["learning_rate_head"] for e in trainer.state.log_history if "learning_rate_head" in e]
    assert (rates[0] == rates[1]) == ("schedule_unit" in arguments), "an epoch's rate holds for the epoch"


@pytest.mark.parametrize("objective", ["last_layer_mse", "layerwise_heads", "layerwise_projection"])
@pytest.mark.parametrize("speaker", ["aam_softmax", "linear_softmax"])
def test_every_objective_trains(tmp_path, manifest, feature_extractor, objective, speaker):
    objectives = {"kd_objective": objective, "speaker_objective": speaker}
    trainer = make_trainer(tmp_path, manifest, feature_extractor, objectives, validate=False, max_steps=2)
    trainer.train()
    assert isinstance(trainer.joint.objectives.speaker, AAMSoftmax) == (speaker == "aam_softmax")
    assert all(bool(torch.isfinite(value).all()) for value in parameters(trainer).values())


def test_bad_settings_are_named(tmp_path, manifest, feature_extractor):
    for objectives, message in (
        ({"kd_objective": "magic"}, "kd_objective is 'magic'"),
        ({"speaker_objective": "magic"}, "speaker_objective is 'magic'"),
        ({"kd_schedule": "magic"}, "kd_schedule is 'magic'"),
        ({"kd_target_layers": [9]}, "hidden state 9"),
    ):
        with pytest.raises(ValueError, match=message):
            make_trainer(tmp_path, manifest, feature_extractor, objectives)
    with pytest.raises(ValueError, match="28 utterances and a batch takes 64"):
        make_trainer(tmp_path, manifest, feature_extractor, per_device_train_batch_size=64)
    with pytest.raises(ValueError, match="without validation data"):
        make_trainer(tmp_path, manifest, feature_extractor, validate=False).evaluate()
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_speeds_make_new_speakers(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, speeds=(0.9, 1.1), max_steps=2)
    assert trainer.joint.objectives.speaker.num_speakers == 3 * 7
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_frozen_front_end_is_computed_once_where_both_hear_the_same(tmp_path, manifest, feature_extractor):
    frozen = {"freeze": "feature_encoder", "validate": False, "max_steps": 3}
    losses = []
    for share in (True, False):
        trainer = make_trainer(tmp_path, manifest, feature_extractor, augmentation=None, **frozen)
        assert trainer.teacher.shared is not None
        if not share:
            trainer.teacher.shared = None
        calls = []
        convolve = trainer.joint.student.oskdft.convolve
        trainer.joint.student.oskdft.convolve = lambda *a, c=calls, f=convolve: c.append(1) or f(*a)
        trainer.train()
        assert bool(calls) is not share
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for other in ({"augmentation": hiss}, {"augmentation": None, "freeze": "none"}):
        assert make_trainer(tmp_path, manifest, feature_extractor, **(frozen | other)).teacher.shared is None


def test_bf16_and_the_teacher_s_precision(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, bf16=True, max_steps=3)
    assert trainer.teacher.dtype == torch.bfloat16
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3 and all(loss == loss for loss in losses)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.joint.student.parameters())
    exact = make_trainer(tmp_path, manifest, feature_extractor, bf16=True, teacher_dtype="float32")
    assert exact.teacher.dtype == torch.float32


def test_a_compiled_step_gives_the_same_losses(tmp_path, manifest, feature_extractor):
    quiet = {"validate": False, "max_steps": 3, "spec_mask": None}
    losses = []
    for compiled in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        trainer = make_trainer(tmp_path, manifest, feature_extractor, **quiet, **compiled)
        trainer.teacher.model.eval()
        trainer.joint.eval()
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        assert trainer.joint.student.state_dict().keys() == trainer.published.state_dict().keys()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    trainer.save_model()
    assert "_orig_mod" not in "".join(load_file(tmp_path / "model.safetensors"))


def test_tensorboard_and_trackio_offline(tmp_path, manifest, feature_extractor, monkeypatch):
    import sqlite3

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    arguments = {"report_to": ["tensorboard", "trackio"], "project": "oskdft-test", "max_steps": 3, "validate": False}
    make_trainer(tmp_path / "run", manifest, feature_extractor, **arguments).train()
    (events,) = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    log = EventAccumulator(str(events))
    log.Reload()
    assert {"train/kd_loss", "train/ft_loss", "train/learning_rate_head"} <= set(log.Tags()["scalars"])
    with sqlite3.connect(tmp_path / "trackio" / "oskdft-test.db") as database:
        rows = database.execute("select metrics from metrics").fetchall()
    assert any("kd_loss" in str(row) for row in rows)


def test_distillation_alone_leaves_adapters_and_head_as_they_were(tmp_path, manifest, feature_extractor):
    objectives = {"speaker_objective": "none", "kd_schedule": "constant"}
    trainer = make_trainer(tmp_path / "first", manifest, feature_extractor, objectives, eval_strategy="no")
    before = parameters(trainer)
    trainer.train()
    after = parameters(trainer)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and not any(".adapter." in name or "head" in name for name in moved)
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["loss"] == pytest.approx(entry["kd_loss"]) and "ft_loss" not in entry for entry in log)
    second = make_trainer(tmp_path / "second", manifest, feature_extractor, {"kd_weight": 0.0}, max_steps=1)
    second.start_from(tmp_path / "first")
    assert_same(second.joint.student.state_dict(), trainer.joint.student.state_dict())
    second.train()
    with pytest.raises(ValueError, match="a head that does not learn has no error rate; set eval_strategy to no"):
        make_trainer(tmp_path / "third", manifest, feature_extractor, objectives)


def test_without_a_labelled_crop_in_a_batch_only_the_distillation_learns(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, max_steps=7, labelled_speakers=2)
    assert trainer.joint.objectives.speaker.num_speakers == 2
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(math.isfinite(entry["loss"]) and entry["kd_loss"] > 0 for entry in log)
    assert any(entry["ft_loss"] == 0 for entry in log) and any(entry["ft_loss"] > 0 for entry in log)


def test_transformers_searches_with_a_model_made_anew_for_each_trial(tmp_path, manifest, feature_extractor):
    made = make_trainer(tmp_path, manifest, feature_extractor, ema_decay=0.9, max_steps=2)
    models, first = [], made.joint.state_dict()

    def model_init():
        models.append(copy.deepcopy(made.joint))
        models[-1].load_state_dict(first)
        return models[-1]

    trainer = OSKDFTTrainer(
        *(None, made.args, made.data_collator, made.train_dataset, made.eval_dataset),
        teacher=made.teacher,
        model_init=model_init,
    )
    lengths = []
    create = trainer.create_scheduler
    trainer.create_scheduler = lambda *words, **named: lengths.append(trainer.clock.steps) or create(*words, **named)
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"max_steps": trial.suggest_int("max_steps", 1, 3)},
        compute_objective=lambda metrics: metrics["eval_eer"],
        n_trials=3,
        sampler=optuna.samplers.GridSampler({"max_steps": [1, 2, 3]}),
    )
    assert len(models) == 4 and sorted(lengths) == [1, 2, 3], "the schedules follow the length of each trial"
    assert 0 <= best.objective <= 1
    for trial in range(3):
        checkpoint = max((tmp_path / f"run-{trial}").glob("checkpoint-*"))
        run = json.loads((checkpoint / "run.json").read_text())["run"]
        assert run["max_steps"] == int(checkpoint.name.split("-")[1]), "the settings are those of this trial"
    assert trainer.average._tracked is models[-1].student, "the average follows the model of the trial"


def test_an_objective_of_other_states_than_the_teacher_s_is_refused(tmp_path, manifest, feature_extractor):
    made = make_trainer(tmp_path, manifest, feature_extractor, validate=False)
    made.joint.objectives.kd.target_layers = [1, 2, 4]
    with pytest.raises(ValueError, match=r"hidden states \[1, 2, 4\] and the teacher gives \[1, 3, 4\]"):
        OSKDFTTrainer(made.joint, made.args, made.data_collator, made.train_dataset, teacher=made.teacher)
