import pytest

from modeling_oskdft.training import hub_trainer
from tests.training.making import make_trainer


def test_a_pushed_run_measures_saves_and_sends_its_student_alone(tmp_path, manifest, feature_extractor, monkeypatch):
    sent = []
    trainer = make_trainer(tmp_path, manifest, feature_extractor, max_steps=1, hub_model_id="org/name")
    trainer.hub_model_id = "org/name"
    monkeypatch.setattr(hub_trainer.publishing, "push_run", lambda args, *words: sent.append(words) or "address")
    assert trainer.push_to_hub("a message", revision="next") == "address"
    assert sent == [("org/name", "a message", None, "next", True)]
    assert (tmp_path / "thresholds.json").is_file() and (tmp_path / "README.md").is_file()
    assert trainer.measurements()[0].fingerprint == trainer.published.fingerprint()


def test_a_run_without_trials_has_no_measurements(tmp_path, manifest, feature_extractor):
    assert make_trainer(tmp_path, manifest, feature_extractor, validate=False).measurements() == ()


def test_a_wrong_name_is_an_error_before_the_run(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, hub_model_id="not a name")
    with pytest.raises(ValueError, match="not a name"):
        trainer.init_hf_repo()
