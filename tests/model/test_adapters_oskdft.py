import copy
import json

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import randomise, tiny_verifier


def other_site(*shape, **fields):
    """Return a verifier and a second one, with the same trunk, other adapters and another head."""
    model = tiny_verifier(*shape, **fields)
    other = copy.deepcopy(model)
    randomise(other.head, seed=5)
    for name, module in other.named_modules():
        if name.endswith(".adapter"):
            randomise(module, seed=6)
    return model, other


def test_the_file_is_small_and_holds_no_trunk(tmp_path):
    model = tiny_verifier()
    model.save_speaker_adapter(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"speaker_adapter.safetensors", "speaker_adapter.json"}
    names = load_file(tmp_path / "speaker_adapter.safetensors")
    assert names and all(name.startswith("head.") or ".adapter." in name for name in names)


def test_adapters_that_do_not_fit_are_named(tmp_path):
    model = tiny_verifier()
    for fields, field in (({"adapter_size": 4}, "adapter_size 4"), ({"embedding_size": 7}, "embedding_size 7")):
        tiny_verifier(**fields).save_speaker_adapter(tmp_path / field)
        with pytest.raises(ValueError, match=f"has {field} and this model"):
            model.load_speaker_adapter(tmp_path / field, "new")
    with pytest.raises(ValueError, match="no speaker adapter 'new': there are default"):
        model.set_speaker_adapter("new")
    with pytest.raises(FileNotFoundError, match="speaker_adapter.safetensors': give a folder"):
        model.load_speaker_adapter(tmp_path / "nowhere", "new")
    model.save_speaker_adapter(tmp_path / "own")
    with pytest.raises(ValueError, match="'default' is in use"):
        model.load_speaker_adapter(tmp_path / "own", "default")
    stranger = tiny_verifier()
    randomise(stranger.oskdft.feature_projection, seed=9)
    stranger.save_speaker_adapter(tmp_path / "stranger")
    with pytest.warns(UserWarning, match="trained on another trunk"):
        model.load_speaker_adapter(tmp_path / "stranger", "stranger")
    description = tmp_path / "own" / "speaker_adapter.json"
    described = json.loads(description.read_text())
    assert described["fields"]["adapter_size"] == 8
    weights = tmp_path / "own" / "speaker_adapter.safetensors"
    tiny_verifier(adapter_size=3).save_speaker_adapter(tmp_path / "three")
    weights.write_bytes((tmp_path / "three" / "speaker_adapter.safetensors").read_bytes())
    with pytest.raises(ValueError, match="does not hold what its description says"):
        model.load_speaker_adapter(tmp_path / "own", "mixed")


def test_a_bfloat16_copy_has_the_fingerprint_of_its_trunk(tmp_path, recwarn):
    model, other = other_site()
    other.save_speaker_adapter(tmp_path)
    half = model.to(torch.bfloat16)
    half.load_speaker_adapter(tmp_path, "site")
    half.set_speaker_adapter("site")
    assert half.head.projection.weight.dtype == torch.bfloat16
    assert not [warning for warning in recwarn if "trunk" in str(warning.message)]
