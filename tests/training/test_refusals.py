"""What transformers would take and nothing here reads: refused before a run, with what does its work."""

import pytest

from modeling_oskdft.training import assembly
from tests.training.making import make_trainer


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
