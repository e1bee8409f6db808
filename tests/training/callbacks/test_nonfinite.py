import pytest
import torch

from tests.training.callbacks.test_signals import QUIET
from tests.training.making import make_trainer, parameters


def poison(trainer, steps):
    """Make the speaker loss of these steps (from 1) a NaN, through the embeddings, as a bad batch would."""
    forward = trainer.joint.student.head.forward

    def poisoned(states):
        bad = trainer.state.global_step + 1 in steps
        return forward(tuple(state * float("nan") for state in states) if bad else states)

    trainer.joint.student.head.forward = poisoned


def test_a_bad_step_leaves_no_trace(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, **QUIET)
    poison(trainer, {1, 4})
    seen = {}

    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen[state.global_step] = parameters(trainer)

    trainer.add_callback(Watch())
    with pytest.warns(
        UserWarning, match="Step 4 has a loss or gradient that is not finite and was skipped \\(2 so far"
    ):
        trainer.train()
    assert trainer.state.global_step == 6
    for name, value in seen[4].items():
        assert torch.equal(value, seen[3][name]), name
    assert not torch.equal(seen[5]["student.head.projection.weight"], seen[4]["student.head.projection.weight"])
    assert all(bool(torch.isfinite(value).all()) for value in seen[6].values())
    moments = getattr(trainer.optimizer, "optimizer", trainer.optimizer).state.values()
    assert all(int(state["step"]) == 4 for state in moments)


def test_too_many_bad_steps_end_the_run_with_a_sentence(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, max_nonfinite_steps=2, **QUIET)
    poison(trainer, {1, 2, 3, 4})
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="3 steps were not finite, 2 are allowed"):
        trainer.train()
    assert trainer.state.global_step == 2


def test_a_run_with_a_bad_step_can_be_resumed(tmp_path, manifest, feature_extractor):
    saved = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer(tmp_path, manifest, feature_extractor, **(QUIET | saved))
    poison(trainer, {1})
    with pytest.warns(UserWarning, match="not finite and was skipped"):
        trainer.train()
    for file in tmp_path.rglob("trainer_state.json"):
        assert "NaN" not in file.read_text()
    state = tmp_path / "checkpoint-4" / "trainer_state.json"
    state.write_text(state.read_text().replace('"grad_norm": ', '"grad_norm": NaN, "was": ', 1))  # as others write it
    again = make_trainer(tmp_path, manifest, feature_extractor, **(QUIET | saved))
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
