import pytest

from tests.training.making import make_trainer


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
