import pytest

from tests.training.making import make_trainer


def test_the_equation_of_a_log_line_is_true(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor, logging_steps=5)
    trainer.train()
    lines = [entry for entry in trainer.state.log_history if "kd_loss" in entry]
    assert len(lines) == 2
    for entry in lines:
        expected = entry["ft_loss"] + entry["kd_weight"] * entry["kd_loss"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-5)
    assert lines[0]["kd_weight"] > lines[1]["kd_weight"] > 0
