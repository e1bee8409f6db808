import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, TrainerCallback

from tests.training.making import StopAt, assert_same, make_trainer


def test_the_average_is_the_one_computed_by_hand(tmp_path, manifest, feature_extractor):
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen.append({name: value.clone() for name, value in trainer.joint.student.state_dict().items()})

    trainer = make_trainer(tmp_path, manifest, feature_extractor, validate=False, max_steps=5, ema_decay=0.3)
    expected = {name: value.clone() for name, value in trainer.joint.student.state_dict().items()}
    trainer.add_callback(Watch())
    trainer.train()
    for step, values in enumerate(seen, start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        for name, value in values.items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in trainer.published.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(trainer.published.head.projection.weight, trainer.joint.student.head.projection.weight)


def test_the_average_is_saved_resumed_evaluated_and_published(tmp_path, manifest, feature_extractor):
    settings = {"ema_decay": 0.9, "load_best_model_at_end": False}
    whole = make_trainer(tmp_path / "whole", manifest, feature_extractor, **settings)
    whole.train()
    cut = make_trainer(tmp_path / "cut", manifest, feature_extractor, callbacks=[StopAt(7)], **settings)
    cut.train()
    resumed = make_trainer(tmp_path / "cut", manifest, feature_extractor, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert_same(resumed.published.state_dict(), whole.published.state_dict())
    last = max((tmp_path / "whole").glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    assert_same(load_file(last / "ema.safetensors"), dict(whole.published.state_dict()))
    evaluated = []
    whole.joint.student.forward = lambda *a, **k: pytest.fail("the average is what is evaluated")
    forward = whole.published.forward
    whole.published.forward = lambda *a, **k: evaluated.append(1) or forward(*a, **k)
    whole.evaluate()
    assert evaluated
    del whole.published.forward
    whole.save_model()
    published = AutoModel.from_pretrained(tmp_path / "whole")
    assert torch.equal(published.head.projection.weight, whole.published.head.projection.weight)
    assert (
        not list((tmp_path / "whole").glob("*.safetensors.index*"))
        and not (tmp_path / "whole/ema.safetensors").exists()
    )


def test_a_bad_decay_is_named(tmp_path, manifest, feature_extractor):
    with pytest.raises(ValueError, match="ema_decay is 1.5"):
        make_trainer(tmp_path, manifest, feature_extractor, ema_decay=1.5)


def test_the_average_is_made_after_the_model_has_its_device(tmp_path, manifest, feature_extractor, monkeypatch):
    """A run without a step, as after its last one, moves no average: it must start on the model's device."""

    def placed(self, model, device):
        model.to(torch.float64)

    monkeypatch.setattr("transformers.Trainer._move_model_to_device", placed)
    monkeypatch.setattr("transformers.TrainingArguments.place_model_on_device", True, raising=False)
    trainer = make_trainer(tmp_path, manifest, feature_extractor, ema_decay=0.9)
    assert next(trainer.joint.student.parameters()).dtype == torch.float64
    assert next(trainer.published.parameters()).dtype == torch.float64
