import os

import pytest
import torch
from safetensors.torch import save_file

from modeling_oskdft import OSKDFTModel, convert_original_state_dict
from modeling_oskdft.model.heads_oskdft import build_head
from modeling_oskdft.student.conversion import read_original_checkpoint
from tests.tiny import randomise, tiny_config


def original_names(encoder, prefix, paper=False):
    """Return the state dict of an encoder under the authors' names."""
    names = {
        "parametrizations.weight.original0": "weight_g",
        "parametrizations.weight.original1": "weight_v",
        "adapter.norm": "sv_adapter.adapter_layer_norm_before",
        "adapter.down": "sv_adapter.down_proj" if paper else "os_kdft_adapter.down",
        "adapter.up": "sv_adapter.up_proj" if paper else "os_kdft_adapter.up",
        "time_reduction": "time_reduction_layer",
    }
    state = {}
    for name, value in encoder.state_dict().items():
        for new, original in names.items():
            name = name.replace(new, original)
        state[prefix + name] = value
    return state


@pytest.mark.parametrize("family", ["hubert", "wavlm", "wav2vec2"])
@pytest.mark.parametrize("paper", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_there_and_back(family, paper, wrapped):
    fields = {"adapter_norm": paper, "adapter_layers": [1], "time_reduction": 1 if paper else 2}
    encoder = randomise(OSKDFTModel(tiny_config(family, **fields)))
    prefix = ("student." if wrapped else "") + ("" if paper else f"{family}.")
    config = {"encoder_config": encoder.config.encoder_config.to_dict()}
    converted = convert_original_state_dict(original_names(encoder, prefix, paper), config)
    assert not converted.head and not converted.objectives
    again = OSKDFTModel(converted.config)
    again.load_state_dict(converted.encoder)
    assert (again.config.adapter_norm, again.config.adapter_layers) == (paper, [1])
    assert again.config.adapter_residual == paper and again.config.adapter_scale == (0.1 if paper else 1.0)
    assert again.config.adapter_activation == ("elu" if family == "wavlm" else "relu")
    for name, value in again.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name]), name


def test_a_statistics_head_alone_gives_its_sizes():
    head = randomise(build_head(tiny_config(layers=3, embedding_size=10)))
    state = {
        "backend.w": head.layer_weights.detach().reshape(-1, 1, 1),
        "backend.fc1.weight": head.projection.weight.detach(),
        "backend.fc1.bias": head.projection.bias.detach(),
    }
    state |= {f"backend.bn1.{name}": value for name, value in head.embedding_norm.state_dict().items()}
    converted = convert_original_state_dict(state, {})
    build_head(converted.config).load_state_dict(converted.head)
    assert converted.config.embedding_size == 10 and converted.config.encoder_config.num_hidden_layers == 3
    assert not converted.encoder


def test_a_converted_checkpoint_is_shown_without_its_tensors():
    encoder = OSKDFTModel(tiny_config(adapter_norm=False))
    config = {"encoder_config": encoder.config.encoder_config.to_dict()}
    shown = repr(convert_original_state_dict(original_names(encoder, "hubert."), config))
    tensors = len(encoder.state_dict())
    assert shown == (
        f"ConvertedCheckpoint(hubert of 2 layers, width 32; tensors: {tensors} encoder, 0 head, 0 objectives)"
    )


def test_an_encoder_without_its_description_is_refused():
    encoder = OSKDFTModel(tiny_config())
    with pytest.raises(ValueError, match="give its encoder_config"):
        convert_original_state_dict(original_names(encoder, "hubert."), {})
    with pytest.raises(ValueError, match="model_type None: one of hubert, wav2vec2, wavlm"):
        convert_original_state_dict(original_names(encoder, "hubert."), {"encoder_config": {}})


def test_checkpoints_are_read_safely(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        assert torch.equal(read_original_checkpoint(str(tmp_path / name))["a"], torch.ones(2))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        read_original_checkpoint(str(tmp_path / "b.pt"))
    (tmp_path / "c.pt").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_original_checkpoint(str(tmp_path / "c.pt"))


@pytest.mark.parametrize("state", [{0: torch.zeros(3)}, {"a": 3}, [torch.zeros(3)], {("a", 1): torch.zeros(2)}])
def test_what_is_no_state_dict_is_one_sentence(state):
    with pytest.raises(ValueError, match="tensors by their names are needed"):
        convert_original_state_dict(state, {})


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(ValueError, match="is no file but a folder, a pipe or a device"):
        read_original_checkpoint(str(tmp_path / "pipe.pt"))
