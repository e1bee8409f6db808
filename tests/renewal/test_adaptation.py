"""What is trained is what was asked for, and the best epoch stays."""

import copy

import pytest
import torch

from modeling_oskdft.renewal.adaptation import adapt, step_loss, with_adapters_free, with_lora
from modeling_oskdft.training.objectives.speaker import AAMSoftmax
from tests.tiny import tiny_verifier, waves

pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")

KINDS = {
    "lora": (lambda: with_lora(tiny_verifier(), rank=2), ("lora_",)),
    "speaker_adapter": (lambda: with_adapters_free(tiny_verifier()), (".adapter.", "head.")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapting_keeps_the_best_epoch(manifest, feature_extractor, capsys, kind):
    site = manifest.where("speaker_id", manifest.speakers[:5])
    others = manifest.where("speaker_id", manifest.speakers[5:])
    make, words = KINDS[kind]
    model = make()
    start = copy.deepcopy(model.state_dict())
    eers = adapt(model, feature_extractor, site, 2, others)
    assert len(eers) == 3 and capsys.readouterr().err.count("development EER") == 2
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, start[name])]
    assert all(any(word in name for word in words) for name in changed) and bool(changed) is (min(eers) < eers[0])


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_free_gets_a_gradient(kind):
    make, words = KINDS[kind]
    model, objective = make().eval(), AAMSoftmax(12, 3)
    batch = {"input_values": waves(8000, 8000, 8000)[0], "labels": torch.arange(3)}
    step_loss(model, copy.deepcopy(model), objective, batch).backward()
    learned = [name for name, value in model.named_parameters() if value.grad is not None]
    assert learned and all(any(word in name for word in words) for name in learned)


def test_a_verifier_at_its_own_place_pays_for_the_speakers_alone():
    torch.manual_seed(0)
    model, objective = tiny_verifier().eval(), AAMSoftmax(12, 3)
    batch = {"input_values": waves(8000, 8000, 8000)[0], "labels": torch.arange(3)}
    with torch.no_grad():
        alone = objective(model(batch["input_values"]).embeddings, batch["labels"]).mean()
        assert torch.allclose(step_loss(model, model, objective, batch), alone, atol=1e-5)
        moved = copy.deepcopy(model)
        for value in moved.head.parameters():
            value.add_(0.5 * torch.randn(value.shape))
        assert step_loss(model, moved, objective, batch) > alone + 0.01
