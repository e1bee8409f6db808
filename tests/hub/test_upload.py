"""Verifiers and Spaces are pushed to a hub, and verifiers are opened from there in fresh processes."""

import re

import pytest
import torch

from modeling_oskdft.export.browser import FILES
from modeling_oskdft.files import sha256_of, write_json
from modeling_oskdft.hub.model_card import Statements, write_card
from modeling_oskdft.hub.upload import TRAVELLING, check_model, check_page
from modeling_oskdft.scoring.thresholds import Thresholds
from tests.bare import bare_site
from tests.tiny import save_verifier, tiny_verifier, waves

PUBLISHED = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", *TRAVELLING}


@pytest.fixture
def folder(tmp_path, feature_extractor):
    """A saved verifier with thresholds, beside files that must not be sent."""
    place = tmp_path / "student"
    save_verifier(place, feature_extractor)
    for name in ("training_args.bin", "optimizer.pt", "objectives.safetensors", "somebody.flac", "results.json"):
        (place / name).write_text("{}")
    (place / "checkpoint-3").mkdir()
    (place / "checkpoint-3" / "model.safetensors").touch()
    return place


OPEN_WITHOUT_THE_PACKAGE = """
import importlib.util, sys
for name in ("modeling_oskdft", "soundfile", "soxr", "datasets", "accelerate", "pyarrow", "scipy", "peft"):
    assert importlib.util.find_spec(name) is None, name
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioXVector
waveforms, expected = torch.load(sys.argv[1])
options = {"trust_remote_code": True, "revision": sys.argv[2]}
assert AutoFeatureExtractor.from_pretrained("org/student", revision=sys.argv[2]).return_attention_mask
for auto_class in (AutoModel, AutoModelForAudioXVector):
    model = auto_class.from_pretrained("org/student", **options)
    assert type(model).__module__.startswith("transformers_modules")
    assert torch.allclose(model(waveforms).embeddings, expected, atol=1e-5)
model.save_pretrained(sys.argv[3])
"""

OPEN_WITH_THE_PACKAGE = """
import sys, torch
from modeling_oskdft import OSKDFTForXVector, SpeakerVerifier
from transformers import AutoModel
waveforms, expected = torch.load(sys.argv[1])
model = AutoModel.from_pretrained("org/student", revision=sys.argv[2])
assert type(model) is OSKDFTForXVector
assert torch.allclose(model(waveforms).embeddings, expected, atol=1e-5)
verifier = SpeakerVerifier.from_pretrained("org/student", revision=sys.argv[2])
assert verifier.thresholds.values == {"eer": 0.5}
model.save_pretrained(sys.argv[3])
model.push_to_hub("org/copy")
"""


def test_push_and_open_with_and_without_the_package(tmp_path, hub, at_hub, oskdft, folder):
    done = oskdft("push", folder, "org/student")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/org/student"
    assert "not sent: checkpoint-3, objectives.safetensors, optimizer.pt, results.json, somebody.flac" in done.stderr
    assert set(hub.files("org/student")) == PUBLISHED | {".gitattributes", "thresholds.json"}

    revision = hub.repositories["model", "org/student"].branches["main"]
    hub.repositories["model", "org/student"].commit({"config.json": b"{}"})  # what comes later must not matter
    waveforms, _ = waves(4000)
    torch.save((waveforms, tiny_verifier()(waveforms).embeddings), tmp_path / "expected.pt")
    site = bare_site(tmp_path / "site")
    programs = {
        "without": (["-S", "-P", "-c", OPEN_WITHOUT_THE_PACKAGE], {"PYTHONPATH": str(site)}),
        "with": (["-c", OPEN_WITH_THE_PACKAGE], {}),
    }
    for name, (program, variables) in programs.items():
        arguments = (tmp_path / "expected.pt", revision, tmp_path / f"saved-{name}")
        done = at_hub(*program, *arguments, home=name, **variables)
        assert done.returncode == 0, done.stderr[-2000:]
        # The companion files are saved again with the model.
        saved = {file.name for file in (tmp_path / f"saved-{name}").iterdir()}
        assert saved == PUBLISHED | {"thresholds.json"}, name
    assert set(hub.files("org/copy")) == PUBLISHED | {".gitattributes", "thresholds.json"}
    page = hub.files("org/copy")["README.md"].decode()
    assert "speaker verifier" in page and "More Information Needed" not in page


def test_a_branch_and_a_revision_that_does_not_exist(hub, oskdft, folder, voices):
    assert oskdft("push", folder, "org/student", "--revision", "v1").returncode == 0
    assert set(hub.files("org/student")) == {".gitattributes"}
    recordings = sorted(voices.rglob("*.flac"))[:2]
    verify = ("verify", *recordings, "--model", "org/student", "--revision")
    assert oskdft(*verify, "v1", "--json").returncode in (0, 1)
    done = oskdft(*verify, "v2")
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("oskdft: There is no verifier that can be read at 'org/student', revision v2, (")
    )


def test_a_private_repository_wants_a_token(hub, oskdft, folder, voices):
    assert oskdft("push", folder, "org/student", "--private").returncode == 0
    assert hub.repositories["model", "org/student"].private
    recordings = sorted(voices.rglob("*.flac"))[:2]
    verify = ("verify", *recordings, "--model", "org/student")
    assert oskdft(*verify).returncode in (0, 1)
    done = oskdft(*verify, token=None, home="stranger")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().endswith("check the name; a private repository wants `hf auth login` or HF_TOKEN.")
    refused = oskdft("push", folder, "org/other", token=None, home="stranger")
    assert refused.returncode == 2 and "log in with `hf auth login`" in refused.stderr


def test_a_card_names_its_repository(hub, oskdft, folder):
    write_card(folder, statements=Statements("mit", notes="Mine."))
    assert 'from_pretrained("student")' in (folder / "README.md").read_text()
    assert oskdft("push", folder, "org/student").returncode == 0
    page = hub.files("org/student")["README.md"].decode()
    assert 'from_pretrained("org/student")' in page and 'from_pretrained("student")' not in page
    assert "license: mit" in page and "Mine." in page


PUSH = """
import sys, transformers, modeling_oskdft
transformers.AutoModel.from_pretrained(sys.argv[1]).push_to_hub(sys.argv[2])
"""


def test_a_page_by_hand_is_pushed_and_a_template_of_transformers_is_not(hub, at_hub, folder):
    (folder / "README.md").unlink(missing_ok=True)
    assert at_hub("-c", PUSH, folder, "org/bare").returncode == 0
    page = hub.files("org/bare")["README.md"].decode()
    assert "Nothing else is stated" in page and "More Information Needed" not in page
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\nMy own words.\n")
    assert at_hub("-c", PUSH, folder, "org/mine").returncode == 0
    assert "My own words." in hub.files("org/mine")["README.md"].decode()


def test_an_interrupted_upload_continues(hub, oskdft, folder):
    hub.refuse_uploads_after = 0
    first = oskdft("push", folder, "org/student")
    assert first.returncode == 2 and "run the same command again" in first.stderr
    assert set(hub.files("org/student")) == {".gitattributes"}, "nothing half-sent is visible"
    hub.refuse_uploads_after = None
    assert oskdft("push", folder, "org/student").returncode == 0
    assert hub.files("org/student")["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    hub.requests.clear()
    assert oskdft("push", folder, "org/student").returncode == 0
    assert not [path for method, path in hub.requests if method == "PUT"], "what has arrived is not sent again"


def test_the_folder_of_a_space(tmp_path, hub, oskdft):
    (tmp_path / "quickstart").mkdir()
    for name in ("app.py", "requirements.txt", "visitor.npz", "secrets.json", "quickstart/mine.py"):
        (tmp_path / name).touch()
    front = "title: T\nemoji: 🎙\ncolorFrom: blue\ncolorTo: gray\nsdk: gradio\n"
    (tmp_path / "README.md").write_text(f"---\n{front}---\n")
    done = oskdft("push", tmp_path, "org/space")
    assert done.returncode == 0, done.stderr
    sent = set(hub.files("org/space", "space"))
    of_the_space = {name for name in sent if not name.startswith("modeling_oskdft/")}
    assert of_the_space == {".gitattributes", "app.py", "requirements.txt", "README.md"}
    assert sent - of_the_space >= {"modeling_oskdft/__init__.py", "modeling_oskdft/hub/card_template.md"}
    assert not [name for name in sent if "__pycache__" in name]
    assert oskdft("push", tmp_path, "org/space", "--revision", "try").returncode == 0
    assert set(hub.repositories["space", "org/space"].branches) == {"main", "try"}
    assert hub.repositories["space", "org/space"].sdk == "gradio"
    (tmp_path / "README.md").write_text("---\ntitle: T\n---\n")
    assert oskdft("push", tmp_path, "org/space").returncode == 2, "the Hub refuses such a page"


OPEN_AN_EXPORT = """
import sys
from huggingface_hub import HfApi
from modeling_oskdft import SpeakerVerifier
HfApi().create_repo("org/exported")
HfApi().upload_folder(repo_id="org/exported", folder_path=sys.argv[1])
verifier = SpeakerVerifier.from_pretrained("org/exported", backend="onnxruntime")
assert verifier.thresholds.values["eer"] == 0.5 and verifier.embedding_size == 12
for name, backend in (("org/exported", "torch"), ("org/nothing", "onnxruntime")):
    try:
        SpeakerVerifier.from_pretrained(name, backend=backend)
    except (OSError, ValueError) as error:
        print(error)
"""


def test_an_export_in_a_repository(hub, at_hub, exported):
    done = at_hub("-c", OPEN_AN_EXPORT, exported)
    assert done.returncode == 0, done.stderr
    without_weights, not_there = done.stdout.splitlines()[-2:]
    assert "'org/exported' holds an export and no PyTorch weights: open it with backend='auto'" in without_weights
    assert "There is neither a folder nor a repository 'org/nothing'" in not_there


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "There is no saved model"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json' is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "a saved OSKDFTForXVector"),
        (lambda folder: (folder / "heads_oskdft.py").unlink(), "lacks heads_oskdft.py"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "lacks preprocessor_config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 64), "cannot be opened"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be opened"),
        (lambda folder: other_thresholds(folder), "is of other weights: measure"),
        (lambda folder: other_card(folder), "is the card of other weights"),
    ],
)
def test_a_folder_that_others_could_not_open_is_refused(folder, spoil, sentence):
    check_model(folder)
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        check_model(folder)


def other_thresholds(folder):
    Thresholds({"eer": 0.5}, 4, 2, 2, "made up", "0" * 64).save(folder)


def other_card(folder):
    page = write_card(folder)
    page.write_text(re.sub(r"weights [0-9a-f]{8}", "weights 00000000", page.read_text()))


def test_the_folder_of_a_page_for_browsers(tmp_path, hub, oskdft):
    place = tmp_path / "page"
    sent = {*FILES, "verifier/model.onnx", "assets/runtime.wasm"}
    for name in (*sent, "notes.txt", "verifier/somebody.flac"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    with pytest.raises(FileNotFoundError, match="There is no verifier/verifier.json"):
        check_page(place)
    digest = sha256_of(place / "verifier/model.onnx")
    write_json({"files": {"model.onnx": {"sha256": digest}}}, place / "verifier/verifier.json")
    done = oskdft("push", place, "org/page")
    assert done.returncode == 0 and "not sent: notes.txt, verifier/somebody.flac" in done.stderr
    assert set(hub.files("org/page", "space")) == sent | {"verifier/verifier.json", ".gitattributes"}
    assert hub.repositories["space", "org/page"].sdk == "static"
    (place / "verifier/model.onnx").write_text("other")
    with pytest.raises(ValueError, match="model.onnx' was changed: export the verifier again"):
        check_page(place)
    (place / "verifier/model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="There is no verifier/model.onnx"):
        check_page(place)
    (place / "verifier/model.onnx").write_text("verifier/model.onnx")
    (place / "assets/runtime.wasm").unlink()
    with pytest.raises(FileNotFoundError, match="The assets are not in"):
        check_page(place)
