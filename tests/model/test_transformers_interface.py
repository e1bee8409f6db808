"""Use the models as those of transformers: outputs, attentions, labels, freezing, columns of a batch, subclasses."""

import pytest
import torch
from safetensors.torch import load_file
from transformers.utils import logging

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector
from tests.tiny import tiny_config, tiny_teacher, tiny_verifier, waves


def test_outputs_of_the_verifier():
    verifier = tiny_verifier()
    out = verifier(waves(4000, 4000)[0], output_hidden_states=True)
    assert out.embeddings.shape == (2, 12) and out.logits is out.embeddings and len(out.hidden_states) == 3
    assert verifier(waves(4000)[0]).hidden_states is None
    as_tuple = verifier(waves(4000)[0], return_dict=False)
    assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[0], as_tuple[1])


@pytest.mark.parametrize("frozen", ["verifier", "encoder"])
def test_freezing_the_front_end(frozen):
    verifier = tiny_verifier()
    (verifier if frozen == "verifier" else verifier.oskdft).freeze_feature_encoder()
    verifier(waves(3000)[0]).embeddings.sum().backward()
    assert all(parameter.grad is None for parameter in verifier.oskdft.feature_extractor.parameters())
    assert verifier.oskdft.feature_projection.projection.weight.grad is not None


def test_further_columns_of_a_batch_are_not_read_and_misspelt_ones_refused():
    model, waveforms = tiny_verifier(), waves(4000)[0]
    expected = model(waveforms).embeddings
    assert torch.equal(model(input_values=waveforms, input_ids=None, speaker="x", task_ids=3).embeddings, expected)
    with pytest.raises(TypeError, match="no argument 'atention_mask': did you mean 'attention_mask'"):
        model(waveforms, atention_mask=torch.ones(1, 4000))


@pytest.mark.parametrize("family", ["hubert", "wavlm"])
def test_attentions_are_one_a_layer(family):
    model = tiny_verifier(family, attn_implementation="eager")
    outputs = model(waves(4000)[0], output_attentions=True)
    frames = model._get_feat_extract_output_lengths(4000)
    assert [tuple(attention.shape) for attention in outputs.attentions] == [(1, 4, frames, frames)] * 2
    torch.testing.assert_close(outputs.attentions[0].sum(-1), torch.ones(1, 4, frames))
    assert model(waves(4000)[0]).attentions is None
    model.config.output_attentions = True
    assert len(model(waves(4000)[0]).attentions) == 2


def test_attentions_are_those_of_the_asked_path():
    encoder = tiny_verifier(attn_implementation="eager").oskdft
    kd, ft, both = (
        encoder(waves(4000)[0], path=path, output_attentions=True).attentions for path in ("kd", "ft", "both")
    )
    torch.testing.assert_close(kd[0], ft[0])  # the first adapter comes after the first attention
    assert not torch.allclose(kd[1], ft[1], atol=1e-4)
    torch.testing.assert_close(both, ft)


def test_attention_without_attentions_gives_a_warning(caplog):
    model = tiny_verifier(attn_implementation="sdpa")
    logging.enable_propagation()
    assert model(waves(4000)[0], output_attentions=True).attentions is None
    logging.disable_propagation()
    assert "attention 'sdpa' computes none; open the model with attn_implementation='eager'" in caplog.text


@pytest.mark.parametrize("family", ["hubert", "wavlm"])
def test_frames_are_counted_as_transformers_counts_them(family):
    lengths = torch.tensor([400, 719, 720, 8321])
    student, teacher = (
        model._get_feat_extract_output_lengths(lengths) for model in (tiny_verifier(family), tiny_teacher(family))
    )
    assert torch.equal(student, teacher)


def test_labels_give_a_loss_that_falls():
    model = tiny_verifier(num_labels=3).train()
    waveforms, labels = waves(4000, 4000, 4000)[0], torch.tensor([0, 2, 1])
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        loss = model(waveforms, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert model(waveforms).loss is None


def test_class_vectors_exist_when_classes_are_asked_for_and_are_never_saved(tmp_path, caplog):
    with pytest.raises(ValueError, match="open it with num_labels=N, the number of speakers, more than 2"):
        tiny_verifier()(waves(4000)[0], labels=torch.tensor([0]))
    plain = tiny_verifier()
    assert not hasattr(plain, "objective")
    plain.save_pretrained(tmp_path / "plain")
    logging.enable_propagation()
    model = OSKDFTForXVector.from_pretrained(tmp_path / "plain", num_labels=5)
    assert model.objective.weight.shape == (5, 12) and 0 < float(model.objective.weight.detach().std()) < 1
    model.save_pretrained(tmp_path / "classes")
    assert load_file(tmp_path / "classes" / "model.safetensors").keys() == plain.state_dict().keys()
    again = OSKDFTForXVector.from_pretrained(tmp_path / "classes")
    assert again.config.num_labels == 5 and again.fingerprint() == plain.fingerprint()
    assert not hasattr(OSKDFTForXVector.from_pretrained(tmp_path / "classes", num_labels=2), "objective")
    logging.disable_propagation()
    assert "objective" not in caplog.text and "newly initialized" not in caplog.text, caplog.text


def test_freezing_by_transformers_names():
    model = tiny_verifier()
    model.freeze_base_model()
    trainable = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {"head"}


def test_a_subclass_of_model_and_configuration_saves_and_opens(tmp_path):
    class MyConfig(OSKDFTConfig):
        def __init__(self, site="a", **kwargs):
            super().__init__(**kwargs)
            self.site = site

    class Mine(OSKDFTForXVector):
        config_class = MyConfig

    config = MyConfig(
        site="b", **{k: v for k, v in tiny_config().to_dict().items() if k in OSKDFTConfig.field_names()}
    )
    torch.manual_seed(0)
    model = Mine(config).eval()
    model.save_pretrained(tmp_path)
    opened = Mine.from_pretrained(tmp_path)
    assert (opened.config.site, opened.config.embedding_size) == ("b", 12)
    torch.testing.assert_close(opened(waves(4000)[0]).embeddings, model(waves(4000)[0]).embeddings)
    assert "AutoModel" not in (getattr(opened.config, "auto_map", None) or {})
    plain = OSKDFTConfig.from_pretrained(tmp_path)
    assert plain.site == "b" and plain.embedding_size == 12
    plain.save_pretrained(tmp_path / "again")
    assert OSKDFTConfig.from_pretrained(tmp_path / "again").site == "b"
