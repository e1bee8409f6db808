"""Recompute activations in the backward pass, by both kinds of checkpointing, on both paths."""

import pytest
import torch

from modeling_oskdft import OSKDFTModel
from tests.tiny import SHAPES, randomise, tiny_config, tiny_verifier, waves


@pytest.mark.parametrize("shape", SHAPES)
def test_checkpointing_changes_no_gradient(shape):
    waveforms, _ = waves(3000, 3000)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        encoder = randomise(OSKDFTModel(tiny_config(*shape, encoder={"attention_dropout": 0.0}))).train()
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            getattr(encoder, "activation_checkpointing_enable", encoder.gradient_checkpointing_enable)()
        out = encoder(waveforms, path="both")
        (out.last_hidden_state.square().mean() + out.kd_last_hidden_state.abs().mean()).backward()
        gradients.append({name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(".adapter." in name for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("path", ["ft", "both"])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_kinds_of_checkpointing_give_the_gradients_of_none(shape, path, masked):
    quiet = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0)
    waveforms, mask = waves(6000, 4000)
    gradients = []
    for reentrant in (None, False, True):
        model = tiny_verifier(*shape, encoder=quiet).train()
        if reentrant is not None:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        outputs = model.oskdft(waveforms, mask if masked else None, path=path, output_hidden_states=True)
        loss = model.head(outputs.hidden_states).square().sum()
        if path == "both":
            loss = loss + outputs.kd_last_hidden_state.square().sum()
        loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    for checkpointed in gradients[1:]:
        assert checkpointed.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(checkpointed[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_with_a_mask_the_first_convolution_is_checkpointed_as_well():
    saved = []
    for checkpointed in (False, True):
        model = tiny_verifier().train()
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        kept = 0

        def keep(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(*waves(16000, 12000)).embeddings.sum().backward()
        saved.append(kept)
    assert saved[1] < 0.6 * saved[0]


def test_a_frozen_trunk_under_reentrant_checkpointing_still_trains_the_adapters():
    model = tiny_verifier().train()
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".adapter." in name)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model(*waves(6000, 4000)).embeddings.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters() if p.requires_grad)
