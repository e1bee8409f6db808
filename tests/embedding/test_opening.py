"""Folders from elsewhere: their contents are checked, and their code never runs."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.commands.main import main
from modeling_oskdft.embedding import opening
from modeling_oskdft.embedding.opening import open_verifier
from modeling_oskdft.hub.card_facts import collect_facts
from tests.forked import run_python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(saved_verifier, tmp_path):
    shutil.copytree(saved_verifier, tmp_path / "model")
    return tmp_path / "model"


def rewrite(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def encoder(folder, **fields):
    stored = json.loads((folder / "config.json").read_text())
    rewrite(folder / "config.json", encoder_config=stored["encoder_config"] | fields)


def damaged_weights(folder, change):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(change(content))


def without_a_key(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("head.projection.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def not_finite(folder):
    weights = load_file(folder / "model.safetensors")
    weights["head.projection.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


HOSTILE = {
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "git-lfs pointer": lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
    "empty weights": lambda f: (f / "model.safetensors").write_bytes(b""),
    "cut weights": lambda f: damaged_weights(f, lambda c: c[: len(c) // 2]),
    "weights header": lambda f: damaged_weights(f, lambda c: b"\xff" * 8 + c[8:]),
    "a weight is missing": without_a_key,
    "a weight is no number": not_finite,
    "a million layers": lambda f: encoder(f, num_hidden_layers=1_000_000),
    "500 layers": lambda f: encoder(f, num_hidden_layers=500, hidden_size=4096, intermediate_size=16384),
    "layers in words": lambda f: encoder(f, num_hidden_layers="two"),
    "width zero": lambda f: encoder(f, hidden_size=0),
    "width negative": lambda f: encoder(f, hidden_size=-32),
    "heads zero": lambda f: encoder(f, num_attention_heads=0),
    "strides of text": lambda f: encoder(f, conv_stride=["a"]),
    "strides missing": lambda f: encoder(f, conv_stride=[5]),
    "activation": lambda f: encoder(f, hidden_act="rm -rf"),
    "dropout NaN": lambda f: encoder(f, hidden_dropout=float("nan")),
    "encoder a list": lambda f: rewrite(f / "config.json", encoder_config=[]),
    "encoder another": lambda f: rewrite(f / "config.json", encoder_config={"model_type": "bert"}),
    "scale NaN": lambda f: rewrite(f / "config.json", adapter_scale=float("nan")),
    "scale text": lambda f: rewrite(f / "config.json", adapter_scale="0.1"),
    "size float": lambda f: rewrite(f / "config.json", embedding_size=12.5),
    "size huge": lambda f: rewrite(f / "config.json", embedding_size=10**12),
    "another size": lambda f: rewrite(f / "config.json", embedding_size=13),
    "adapter layers": lambda f: rewrite(f / "config.json", adapter_layers=["x"]),
    "dilations": lambda f: rewrite(f / "config.json", ecapa_dilations=[None]),
    "another model": lambda f: rewrite(f / "config.json", model_type="bert"),
    "no config": lambda f: (f / "config.json").unlink(),
    "config cut": lambda f: (f / "config.json").write_text('{"model_type": "osk'),
    "config a list": lambda f: (f / "config.json").write_text("[]"),
    "config nested": lambda f: (f / "config.json").write_text("[" * 200_000),
    "config binary": lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
    "no extractor": lambda f: (f / "preprocessor_config.json").unlink(),
    "extractor cut": lambda f: (f / "preprocessor_config.json").write_text("{"),
    "extractor rate": lambda f: rewrite(f / "preprocessor_config.json", sampling_rate=8000),
    "extractor rate text": lambda f: rewrite(f / "preprocessor_config.json", sampling_rate="16000"),
    "extractor padding": lambda f: rewrite(f / "preprocessor_config.json", padding_value=float("nan")),
    "extractor side": lambda f: rewrite(f / "preprocessor_config.json", padding_side="left"),
    "extractor class": lambda f: rewrite(f / "preprocessor_config.json", feature_extractor_type="Nothing"),
    "extractor normalise": lambda f: rewrite(f / "preprocessor_config.json", do_normalize="no"),
    "threshold text": lambda f: rewrite(f / "thresholds.json", values={"eer": "0.4"}),
    "threshold NaN": lambda f: rewrite(f / "thresholds.json", values={"eer": float("nan")}),
    "threshold minus infinity": lambda f: rewrite(f / "thresholds.json", values={"eer": -float("inf")}),
    "threshold 7": lambda f: rewrite(f / "thresholds.json", values={"eer": 7}),
    "thresholds a list": lambda f: (f / "thresholds.json").write_text("[]"),
    "quantiles of text": lambda f: rewrite(f / "thresholds.json", quantiles={"target": ["a"]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_cannot_be_right_is_one_sentence_and_no_answer(folder, voices, name, capsys):
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    assert main(["verify", *recordings, "--model", str(folder)]) in (0, 1)  # before the damage
    HOSTILE[name](folder)
    capsys.readouterr()
    assert main(["verify", *recordings, "--model", str(folder)]) == 2
    printed = capsys.readouterr()
    sentences = [line for line in printed.err.splitlines() if line.startswith("oskdft: ") and "warning" not in line]
    assert printed.out == "" and len(sentences) == 1 and sentences[0].endswith("."), printed.err
    assert "Traceback" not in printed.err


def test_a_config_without_architectures_opens(folder):
    rewrite(folder / "config.json", architectures=None)
    assert open_verifier(str(folder))[0].config.embedding_size == 12


def test_code_in_a_folder_never_runs(tmp_path, voices, monkeypatch, capsys):
    hostile = tmp_path / "evil"
    hostile.mkdir()
    (hostile / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}})
    )
    (hostile / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    assert main(["verify", *recordings, "--model", str(hostile)]) == 2
    assert not (tmp_path / "ran").exists()


def test_changed_weights_have_no_threshold(folder, voices):
    verifier = SpeakerVerifier.from_pretrained(folder)
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    assert verifier.verify(*recordings).threshold == 0.5
    model = verifier.embedder.model
    with torch.no_grad():
        before = model.head.projection.weight.clone()
        model.head.projection.weight.data[0, 0] += 0.5
    changed = verifier.verify(*recordings)
    assert changed.same_speaker is None and "thresholds are of other weights" in changed.warnings[0]
    with torch.no_grad():
        model.head.projection.weight.copy_(before)
    assert verifier.verify(*recordings).threshold == 0.5
    model.save_speaker_adapter(folder / "adapter")
    model.load_speaker_adapter(folder / "adapter", "site")
    model.set_speaker_adapter("site")
    assert verifier.verify(*recordings).threshold == 0.5  # the same numbers


def test_a_lora_folder_opens_as_what_it_is(folder, voices, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'peft>=0.21'")
    model, extractor = open_verifier(str(folder))
    lora = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["intermediate_dense"], init_lora_weights=False)
    )
    lora.save_pretrained(tmp_path / "site")
    description = json.loads((tmp_path / "site" / "adapter_config.json").read_text())
    assert description["base_model_name_or_path"] == str(folder)
    recording = next(voices.rglob("*.flac"))
    adapted = SpeakerVerifier.from_pretrained(tmp_path / "site")
    base = SpeakerVerifier.from_pretrained(folder)
    assert not np.allclose(adapted.embed(recording), base.embed(recording), atol=1e-3)
    inputs = extractor([load_audio(recording)], sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(lora.eval()(inputs["input_values"]).embeddings)[0].numpy()
    np.testing.assert_allclose(adapted.embed(recording), expected, atol=1e-5)
    assert adapted.verify(recording, recording).same_speaker is None


def test_a_folder_that_is_being_written_is_read_a_second_time(folder, monkeypatch):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(opening.time, "sleep", lambda _: weights.write_bytes(whole))
    assert open_verifier(str(folder))[0].config.embedding_size == 12


def test_the_loading_report_of_transformers_is_not_printed(folder, voices):
    weights = load_file(folder / "model.safetensors")
    weights.pop("head.projection.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    command = ["-m", "modeling_oskdft.commands", "verify", *recordings, "--model", folder]
    plain = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    done = run_python(*command, environment=plain, folder=ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "lacks 1 of its weights, 'head.projection.weight' first" in done.stderr


def test_a_lora_on_a_lora_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    pytest.importorskip("peft", reason="peft is not installed: pip install 'peft>=0.21'")
    with pytest.raises(ValueError, match="is a LoRA on a LoRA"):
        open_verifier(str(tmp_path))


def test_the_code_of_a_feature_extractor_never_runs(folder, tmp_path, monkeypatch):
    rewrite(folder / "preprocessor_config.json", feature_extractor_type=None, auto_map={"AutoFeatureExtractor": "e.E"})
    (folder / "e.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass E: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for read in (open_verifier, collect_facts):
        with pytest.raises(ValueError, match="preprocessor_config.json of .* cannot be read"):
            read(str(folder))
    assert not (tmp_path / "ran").exists()
