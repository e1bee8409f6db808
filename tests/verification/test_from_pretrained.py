"""Folders and repositories are opened with the options that `from_pretrained` of transformers has."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.embedding.locations import locate
from tests.forked import run_python
from tests.hub.loopback import TOKEN, Hub, Repository

ROOT = Path(__file__).resolve().parents[2]
# Prints the embedding. Looks for the token where it would go along: in attributes, in a saved folder, in a text.
OPEN = """
import gc, json, sys, types
from pathlib import Path
from modeling_oskdft import SpeakerVerifier


def texts_within(value):
    todo, seen, texts = [value], set(), []
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, (type, types.ModuleType, types.FunctionType, types.FrameType)):
            continue
        seen.add(id(value))
        texts += [value] if isinstance(value, str) else []
        todo += gc.get_referents(value)
    return texts


recording, saved, token, name, options = *sys.argv[1:5], json.loads(sys.argv[5])
verifier = SpeakerVerifier.from_pretrained(name, **options)
texts = texts_within(verifier)
assert len(texts) > 5 and not [text for text in texts if token in text]
if hasattr(verifier.embedder, "model"):
    verifier.embedder.model.save_pretrained(saved)
    assert (Path(saved) / "preprocessor_config.json").is_file()
    assert (Path(saved) / "thresholds.json").is_file() == (verifier.thresholds is not None)
    assert not [file for file in Path(saved).iterdir() if token.encode() in file.read_bytes()]
assert token not in repr(verifier)
print(json.dumps({"embedding": verifier.embed(recording).tolist(), "thresholds": repr(verifier.thresholds)}))
"""


def files_of(folder: Path, below: str = "") -> dict[str, bytes]:
    return {below + file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture
def hub(saved_verifier):
    """A hub with one private repository, whose verifier lies in a subfolder."""
    with Hub() as running:
        repository = Repository(private=True)
        repository.commit({"README.md": b"nothing here"})
        repository.commit(files_of(saved_verifier, "small/"), branch="v1")
        running.repositories["model", "org/private"] = repository
        yield running


@pytest.fixture
def opened(hub, tmp_path, voices):
    """Opens a verifier of the hub in a process that has no token of its own; gives the process and its last line."""

    def run(name, **options):
        import json

        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= hub.environment(tmp_path / "home", token=None) | {"OMP_NUM_THREADS": "1"}
        arguments = [next(voices.rglob("*.flac")), tmp_path / "saved", TOKEN, name, json.dumps(options)]
        done = run_python("-c", OPEN, *arguments, environment=environment, folder=ROOT)
        return done, json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None

    return run


def test_a_private_subfolder_with_a_token_that_stays_nowhere(hub, opened, tmp_path, saved_verifier, voices):
    options = {"revision": "v1", "subfolder": "small", "cache_dir": str(tmp_path / "cache")}
    refused, _ = opened("org/private", **options)
    assert "There is neither a folder nor a repository 'org/private': check the name; a private" in refused.stderr

    done, answer = opened("org/private", token=TOKEN, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    verifier = SpeakerVerifier.from_pretrained(saved_verifier)
    np.testing.assert_allclose(answer["embedding"], verifier.embed(next(voices.rglob("*.flac"))), atol=1e-5)
    assert answer["thresholds"] == repr(verifier.thresholds)
    # transformers notes in its own cache that there is no adapter_config.json, and downloads nothing to it.
    assert not list((tmp_path / "home").rglob("snapshots")), "cache_dir was not followed"

    hub.requests.clear()
    again, from_the_cache = opened("org/private", local_files_only=True, **options)
    assert again.returncode == 0, again.stderr[-2000:]
    assert from_the_cache == answer and hub.requests == []
    nothing, _ = opened("org/other", local_files_only=True)
    assert "no such repository is in the cache, and the Hub is switched off (local_files_only)" in nothing.stderr
    assert hub.requests == []


def test_an_export_and_a_lora_in_private_subfolders(hub, opened, tmp_path, saved_verifier, exported, voices):
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'peft>=0.21'")
    recording = next(voices.rglob("*.flac"))
    model = SpeakerVerifier.from_pretrained(saved_verifier).embedder.model
    settings = peft.LoraConfig(r=2, target_modules=["intermediate_dense"], init_lora_weights=False)
    lora = peft.get_peft_model(model, settings)
    lora.peft_config["default"].base_model_name_or_path = "org/base"
    lora.save_pretrained(tmp_path / "lora")
    base = Repository(private=True)
    base.commit(files_of(saved_verifier))
    hub.repositories["model", "org/base"] = base
    files = files_of(exported, "onnx/") | files_of(tmp_path / "lora", "lora/")
    hub.repositories["model", "org/private"].commit(files)

    done, answer = opened("org/private", subfolder="onnx", token=TOKEN)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = SpeakerVerifier.from_pretrained(exported).embed(recording)
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-5)

    lora.peft_config["default"].base_model_name_or_path = str(saved_verifier)
    lora.save_pretrained(tmp_path / "local")
    adapted = SpeakerVerifier.from_pretrained(tmp_path / "local").embed(recording)
    assert not np.allclose(adapted, expected, atol=1e-3)
    done, answer = opened("org/private", subfolder="lora", token=TOKEN)
    assert done.returncode == 0, done.stderr[-2000:]
    assert answer["thresholds"] == "None"
    np.testing.assert_allclose(answer["embedding"], adapted, atol=1e-5)


def test_a_subfolder_of_a_folder(saved_verifier, voices, tmp_path):
    parent = saved_verifier.parent
    verifier = SpeakerVerifier.from_pretrained(parent, subfolder=saved_verifier.name)
    whole = SpeakerVerifier.from_pretrained(saved_verifier)
    recording = next(voices.rglob("*.flac"))
    np.testing.assert_allclose(verifier.embed(recording), whole.embed(recording), atol=1e-6)
    verifier.embedder.model.save_pretrained(tmp_path)
    assert (tmp_path / "thresholds.json").read_text() == (saved_verifier / "thresholds.json").read_text()
    with pytest.raises(FileNotFoundError, match=r"There is no folder 'large' in '.*': check the subfolder\."):
        SpeakerVerifier.from_pretrained(parent, subfolder="large")


def test_a_location_does_not_show_its_token(saved_verifier):
    location = locate(str(saved_verifier), token=TOKEN)
    assert location.token is None and locate(location) is location, "a folder needs no token"
    assert TOKEN not in repr(type(location)("org/model", token=TOKEN))


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.02), (torch.bfloat16, 0.02), ("float16", 0.005)])
def test_half_precision_keeps_the_thresholds(saved_verifier, voices, dtype, tolerance):
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    full = SpeakerVerifier.from_pretrained(saved_verifier)
    half = SpeakerVerifier.from_pretrained(saved_verifier, dtype=dtype)
    assert str(half.embedder.model.dtype).removeprefix("torch.") == str(dtype).removeprefix("torch.")
    embeddings = half.embed_many(recordings)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, full.embed_many(recordings), atol=tolerance)
    assert half.fingerprint() == full.fingerprint() and half.verify(*recordings).threshold == 0.5
    with torch.no_grad():
        half.embedder.model.head.projection.weight[0, 0] += 0.5
    assert half.verify(*recordings).threshold is None


def test_devices_and_types_that_are_not_there(saved_verifier, exported):
    with pytest.raises(ValueError, match="dtype is 'int8': use one of float32, bfloat16, float16"):
        SpeakerVerifier.from_pretrained(saved_verifier, dtype="int8")
    with pytest.raises(ValueError, match="dtype is 'float16': an exported model has the types of its graph"):
        SpeakerVerifier.from_pretrained(exported, dtype="float16")
    verifier = SpeakerVerifier.from_pretrained(saved_verifier, device=torch.device("cpu"))
    assert verifier.to("cpu") is verifier and verifier.embedder.model.device.type == "cpu"
    with pytest.raises(ValueError, match="device is 'gpu': use cpu, cuda, cuda:0 or another device of torch"):
        verifier.to("gpu")
    onnx_verifier = SpeakerVerifier.from_pretrained(exported)
    assert onnx_verifier.to("cpu") is onnx_verifier
    with pytest.raises(ValueError, match="device is 'cuda': an exported model runs on the CPU"):
        onnx_verifier.to("cuda")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is 'cuda', which is not here"):
            verifier.to("cuda")
