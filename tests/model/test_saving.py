"""Open a saved folder in every way: all auto classes, encoder and verifier, with and without the package."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from modeling_oskdft import OSKDFTForXVector, OSKDFTModel
from tests.bare import bare_site
from tests.tiny import tiny_config, tiny_verifier, waves


def test_encoder_and_verifier_open_each_other_s_folders(tmp_path):
    verifier = tiny_verifier()
    verifier.save_pretrained(tmp_path / "verifier")
    verifier.oskdft.save_pretrained(tmp_path / "encoder")
    waveforms, _ = waves(4000)
    expected = verifier.oskdft(waveforms).last_hidden_state
    for source in ("verifier", "encoder"):
        encoder, info = OSKDFTModel.from_pretrained(tmp_path / source, output_loading_info=True)
        torch.testing.assert_close(encoder(waveforms).last_hidden_state, expected)
        assert not info["missing_keys"]
        assert all(key.startswith("head.") for key in info["unexpected_keys"])
        opened, info = OSKDFTForXVector.from_pretrained(tmp_path / source, output_loading_info=True)
        torch.testing.assert_close(opened.oskdft(waveforms).last_hidden_state, expected)
        assert not info["unexpected_keys"]
        assert all(key.startswith("head.") for key in info["missing_keys"])
        assert bool(info["missing_keys"]) == (source == "encoder")


def test_an_encoder_alone_is_no_verifier_for_auto_model(tmp_path):
    tiny_verifier().oskdft.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="without a speaker head.*OSKDFTModel.from_pretrained"):
        AutoModel.from_pretrained(tmp_path)
    assert "AutoModel" not in json.loads((tmp_path / "config.json").read_text()).get("auto_map", {})


def test_the_files_of_a_saved_verifier(tmp_path, feature_extractor):
    from safetensors import safe_open

    verifier = tiny_verifier(head_type="ecapa_tdnn")
    verifier.save_pretrained(tmp_path)
    feature_extractor.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "configuration_oskdft.py",
        "modeling_oskdft.py",
        "adapters_oskdft.py",
        "companions_oskdft.py",
        "heads_oskdft.py",
        "layers_oskdft.py",
    }
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        keys = list(file.keys())
        assert {file.get_tensor(key).dtype for key in keys} <= {torch.float32, torch.int64}
    assert all(key.startswith(("oskdft.", "head.")) for key in keys)
    assert "oskdft.encoder.layers.1.adapter.up.weight" in keys
    assert "oskdft.feature_extractor.conv_layers.0.conv.weight" in keys
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_oskdft.OSKDFTForXVector"
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert extractor.return_attention_mask is True


WITHOUT_THE_PACKAGE = """
import sys
import importlib.util
assert not any(importlib.util.find_spec(name) for name in ("modeling_oskdft", "soundfile", "accelerate"))
import torch
from transformers import AutoModel, AutoModelForAudioXVector, AutoConfig
folder, waveform, expected = sys.argv[1], torch.load(sys.argv[2]), torch.load(sys.argv[3])
try:
    AutoModel.from_pretrained(folder)
    raise SystemExit("opened without trust")
except ValueError as error:
    assert "trust_remote_code" in str(error), error
for door in (AutoModel, AutoModelForAudioXVector):
    model = door.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules"), type(model)
    assert torch.allclose(model(waveform).embeddings, expected, atol=1e-5)
model.save_pretrained(folder + "-again")
again = AutoModel.from_pretrained(folder + "-again", trust_remote_code=True)
assert torch.allclose(again(waveform).embeddings, expected, atol=1e-5)
print("opened")
"""


def test_a_fresh_process_without_the_package(tmp_path):
    verifier = tiny_verifier("wavlm", head_type="ecapa_tdnn")
    verifier.save_pretrained(tmp_path / "model")
    waveforms, _ = waves(4000)
    torch.save(waveforms, tmp_path / "waveform.pt")
    torch.save(verifier(waveforms).embeddings, tmp_path / "expected.pt")
    arguments = [str(tmp_path / name) for name in ("model", "waveform.pt", "expected.pt")]
    command = [sys.executable, "-S", "-P", "-c", WITHOUT_THE_PACKAGE, *arguments]
    done = _run(command, tmp_path, PYTHONPATH=str(bare_site(tmp_path / "site")))
    assert done.returncode == 0 and done.stdout.strip().endswith("opened"), done.stderr[-2000:]


WITH_THE_PACKAGE = """
import sys, torch
import modeling_oskdft
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1])
assert type(model) is modeling_oskdft.OSKDFTForXVector
assert torch.allclose(model(torch.load(sys.argv[2])).embeddings, torch.load(sys.argv[3]), atol=1e-5)
heavy = {"datasets", "matplotlib", "gradio", "onnx"} & set(sys.modules)
assert not heavy, heavy
print("opened")
"""


def test_a_fresh_process_with_the_package(tmp_path):
    verifier = tiny_verifier()
    verifier.save_pretrained(tmp_path / "model")
    waveforms, _ = waves(4000)
    torch.save(waveforms, tmp_path / "waveform.pt")
    torch.save(verifier(waveforms).embeddings, tmp_path / "expected.pt")
    arguments = [str(tmp_path / name) for name in ("model", "waveform.pt", "expected.pt")]
    done = _run([sys.executable, "-c", WITH_THE_PACKAGE, *arguments], tmp_path)
    assert done.returncode == 0 and done.stdout.strip().endswith("opened"), done.stderr[-2000:]


def _run(command, tmp_path, **variables):
    import os

    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)


def test_a_model_of_another_dtype_comes_back_as_asked(tmp_path):
    tiny_verifier().to(torch.bfloat16).save_pretrained(tmp_path)
    assert OSKDFTForXVector.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_a_fresh_model_has_no_garbage():
    verifier = OSKDFTForXVector(tiny_config("wavlm", head_type="ecapa_tdnn", encoder={"mask_time_prob": 0.1}))
    for name, parameter in verifier.named_parameters():
        assert bool(torch.isfinite(parameter).all()) and bool(parameter.abs().max() < 20), name


def test_a_variant_leaves_the_weights_beside_it(tmp_path):
    model = tiny_verifier()
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, variant="half")
    assert {"model.safetensors", "model.half.safetensors"} <= {file.name for file in tmp_path.iterdir()}
