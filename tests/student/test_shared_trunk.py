import copy

import pytest
import torch
from torch import nn

from modeling_oskdft import OSKDFTForSequenceClassification
from modeling_oskdft.student.shared_trunk import SharedTrunk
from tests.tiny import SHAPES, randomise, tiny_config, tiny_verifier, waves


def classifier_on(verifier, *shape):
    """A classifier with the trunk of a verifier, and adapters and a head of its own."""
    model = randomise(OSKDFTForSequenceClassification(tiny_config(*shape, num_labels=3)), seed=7).eval()
    trunk = {name: value for name, value in verifier.oskdft.state_dict().items() if ".adapter." not in name}
    model.oskdft.load_state_dict(trunk, strict=False)
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_tasks_answer_as_their_models_and_share_the_trunk(shape):
    verifier = tiny_verifier(*shape)
    classifier = classifier_on(verifier, *shape)
    waveforms, mask = waves(6000, 9000)
    with torch.no_grad():
        embeddings, logits = verifier(waveforms, mask).embeddings, classifier(waveforms, mask).logits
        tasks = SharedTrunk({"speaker": verifier, "mood": classifier})
        torch.testing.assert_close(tasks(waveforms, mask).embeddings, embeddings)
        tasks.set_task("mood")
        torch.testing.assert_close(tasks(waveforms, attention_mask=mask).logits, logits)
    assert tasks.tasks == ["speaker", "mood"] and tasks.task == "mood"
    counted = sum(p.numel() for p in tasks.parameters())
    own = sum(p.numel() for name, p in classifier.named_parameters() if ".adapter." in name or "oskdft" not in name)
    assert counted == sum(p.numel() for p in verifier.parameters()) + own
    assert (
        classifier.oskdft.feature_projection.projection.weight is verifier.oskdft.feature_projection.projection.weight
    )


def test_other_trunks_and_unknown_names_are_refused():
    verifier = tiny_verifier()
    other = copy.deepcopy(verifier)
    randomise(other.oskdft, seed=3)
    with pytest.raises(ValueError, match="The task 'mood' has another trunk than 'speaker'"):
        SharedTrunk({"speaker": verifier, "mood": other})
    for nothing in ({}, [verifier]):
        with pytest.raises(ValueError, match="was given no models by name"):
            SharedTrunk(nothing)
    with pytest.raises(ValueError, match="has another trunk"):
        SharedTrunk({"speaker": verifier, "half": copy.deepcopy(verifier).to(torch.bfloat16)})
    assert SharedTrunk({"a.b": verifier, "": verifier, "items": verifier}).tasks == ["a.b", "", "items"]
    with pytest.raises(ValueError, match="The task 'x' is a Linear"):
        SharedTrunk({"x": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="There is no task 'mood': there are speaker"):
        SharedTrunk({"speaker": verifier}).set_task("mood")
