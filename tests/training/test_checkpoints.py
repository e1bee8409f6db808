import json
from dataclasses import replace

import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.trainer_utils import get_last_checkpoint

from modeling_oskdft.data.shard_writing import write_shards
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.training.checkpoints import is_checkpoint
from modeling_oskdft.training.validation import metric_of_best
from tests.training.making import StopAt, assert_same, make_trainer, parameters


@pytest.mark.parametrize(("stop", "workers"), [(3, 0), (7, 0), (10, 0), (3, 2)])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, manifest, feature_extractor, stop, workers):
    settings = {"load_best_model_at_end": False, "save_strategy": "no", "dataloader_num_workers": workers}
    whole = make_trainer(tmp_path / "whole", manifest, feature_extractor, **settings)
    whole.train()
    assert whole.state.global_step == 14
    make_trainer(tmp_path / "cut", manifest, feature_extractor, callbacks=[StopAt(stop)], **settings).train()
    torch.manual_seed(99)  # a new process would not stand where the old one did
    resumed = make_trainer(tmp_path / "cut", manifest, feature_extractor, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / f"checkpoint-{stop}"))
    assert resumed.state.global_step == 14
    assert_same(parameters(resumed), parameters(whole))
    logs = [[entry for entry in run.state.log_history if "ft_loss" in entry] for run in (whole, resumed)]
    assert len(logs[0]) == len(logs[1]) == 14
    for entry, other in zip(*logs, strict=True):
        assert {key: entry[key] for key in ("step", "loss", "ft_loss", "kd_loss", "kd_weight")} == {
            key: other[key] for key in ("step", "loss", "ft_loss", "kd_loss", "kd_weight")
        }


def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, num_train_epochs=3, save_total_limit=None)
    scores = iter([0.3, 0.1, 0.2])
    trainer.evaluate = lambda **_: {"eval_eer": next(scores)}
    trainer.train()
    best = load_file(tmp_path / "checkpoint-14" / "model.safetensors")
    last = load_file(tmp_path / "checkpoint-21" / "model.safetensors")
    head = trainer.joint.student.state_dict()["head.projection.weight"]
    assert torch.equal(head, best["head.projection.weight"]) and not torch.equal(head, last["head.projection.weight"])
    state = json.loads((tmp_path / "checkpoint-21" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-14")


def test_resuming_with_other_speakers_is_refused(tmp_path, manifest, feature_extractor):
    make_trainer(tmp_path, manifest, feature_extractor, max_steps=7).train()
    names = pa.array([f"other {name}" for name in manifest.column("speaker_id")])
    others = replace(manifest, table=manifest.table.set_column(1, "speaker_id", names))
    with pytest.raises(ValueError, match="are not those of this recipe"):
        make_trainer(tmp_path, others, feature_extractor).train(resume_from_checkpoint=True)


def test_old_checkpoints_go_and_the_best_stays(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, num_train_epochs=4, save_total_limit=2)
    scores = iter([0.1, 0.2, 0.3, 0.4])
    trainer.evaluate = lambda **_: {"eval_eer": next(scores)}
    trainer.train()
    assert {folder.name for folder in tmp_path.glob("checkpoint-*")} == {"checkpoint-7", "checkpoint-28"}


def test_a_crash_while_saving_leaves_the_last_checkpoint_whole(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    original = trainer._save_optimizer_and_scheduler

    def full_disk(folder):
        if trainer.state.global_step > 7:
            raise OSError("No space left on device")
        original(folder)

    trainer._save_optimizer_and_scheduler = full_disk
    with pytest.raises(OSError, match="No space"):
        trainer.train()
    assert {folder.name for folder in tmp_path.glob("checkpoint-*")} == {"checkpoint-7"}
    resumed = make_trainer(tmp_path, manifest, feature_extractor)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 14


def test_another_run_is_where_training_begins(tmp_path, manifest, feature_extractor):
    first = make_trainer(tmp_path / "first", manifest, feature_extractor, ema_decay=0.5, num_train_epochs=1)
    first.train()
    second = make_trainer(tmp_path / "second", manifest, feature_extractor, {"kd_weight": 0.0, "margin": 0.5})
    second.start_from(tmp_path / "first")
    assert_same(second.joint.student.state_dict(), first.published.state_dict())
    assert torch.equal(second.joint.objectives.speaker.weight, first.joint.objectives.speaker.weight)
    other = make_trainer(tmp_path / "third", manifest, feature_extractor, speeds=(0.9,))
    with pytest.warns(UserWarning, match="class vectors start anew: .* has other speakers"):
        other.start_from(tmp_path / "first" / "checkpoint-7")
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        second.start_from(tmp_path / "nowhere")
    (tmp_path / "first" / "checkpoint-7" / "ema.safetensors").unlink()
    thin = make_trainer(tmp_path / "fourth", manifest, feature_extractor)
    thin.joint.student.head.projection = torch.nn.Linear(3, 3)
    with pytest.raises(ValueError, match="has another shape than this recipe's"):
        thin.start_from(tmp_path / "first")


def test_a_front_end_that_another_run_has_moved_is_not_shared(tmp_path, manifest, feature_extractor):
    make_trainer(tmp_path / "first", manifest, feature_extractor, num_train_epochs=1).train()
    frozen = make_trainer(
        tmp_path / "second", manifest, feature_extractor, augmentation=None, freeze="feature_encoder"
    )
    assert frozen.teacher.shared is not None
    frozen.start_from(tmp_path / "first")
    assert frozen.teacher.shared is None
    assert frozen.teacher({"input_values": torch.randn(2, 4000)}).conv_features is None


def test_shards_are_resumed_by_as_many_readers(tmp_path, manifest, feature_extractor):
    write_shards(manifest, tmp_path / "set")
    shards = load_manifest(tmp_path / "set")
    whole = make_trainer(tmp_path / "whole", shards, feature_extractor)
    whole.train()
    make_trainer(tmp_path / "cut", shards, feature_extractor, callbacks=[StopAt(7)]).train()
    with pytest.raises(ValueError, match="made with 1 processes, 0 workers and this run has 1 processes, 2 workers"):
        make_trainer(tmp_path / "cut", shards, feature_extractor, dataloader_num_workers=2).train(
            resume_from_checkpoint=True
        )
    resumed = make_trainer(tmp_path / "cut", shards, feature_extractor)
    resumed.train(resume_from_checkpoint=True)
    assert_same(parameters(resumed), parameters(whole))


def test_a_checkpoint_that_cannot_be_written_is_a_sentence(tmp_path, manifest, feature_extractor, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    monkeypatch.setattr("modeling_oskdft.training.checkpoints.save_file", full)
    with pytest.raises(OSError, match="checkpoint of step 7 could not be written .*No space left.*make room"):
        trainer.train()
    assert not (tmp_path / ".incomplete").exists()


def test_the_best_checkpoint_may_lie_in_the_folder_that_was_resumed(tmp_path, manifest, feature_extractor):
    first = make_trainer(tmp_path / "a", manifest, feature_extractor)
    first.train()
    best = first.state.best_model_checkpoint
    last = get_last_checkpoint(str(tmp_path / "a"))
    trainer = make_trainer(tmp_path / "b", manifest, feature_extractor, num_train_epochs=3)
    trainer._determine_best_metric = lambda metrics, trial: False  # nothing after it is better
    with pytest.warns(UserWarning, match="length of the run changes"):
        trainer.train(resume_from_checkpoint=last)
    assert trainer.state.best_model_checkpoint == best
    assert metric_of_best(trainer.state, "eval_eer") is not None


def test_a_run_that_min_dcf_selects_has_an_eer(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, metric_for_best_model="min_dcf")
    trainer.train()
    log, best = trainer.state.log_history, trainer.state.best_global_step
    (eer,) = [entry["eval_eer"] for entry in log if entry.get("step") == best and "eval_eer" in entry]
    (cost,) = [entry["eval_min_dcf"] for entry in log if entry.get("step") == best and "eval_min_dcf" in entry]
    assert metric_of_best(trainer.state, "eval_eer") == eer != cost == trainer.state.best_metric


def test_only_a_step_makes_a_folder_a_checkpoint():
    assert is_checkpoint("runs/checkpoint-12")
    assert not any(map(is_checkpoint, ("runs/checkpoint-of-monday", "checkpoints", "checkpoint-", "run-12")))
