"""A model that an earlier version pushed opens as it did: by the package and by the code that travelled."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel

from modeling_oskdft import OSKDFTForXVector, SpeakerVerifier
from tests.bare import bare_site
from tests.pushed.make import FOLDER, tones

EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def assert_as_before(verifier):
    with torch.inference_mode():
        embeddings = verifier(tones()).embeddings
    torch.testing.assert_close(embeddings, torch.tensor(EXPECTED["embeddings"]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("door", [OSKDFTForXVector, AutoModel])
def test_the_installed_package_gives_the_same_embeddings(door):
    verifier = door.from_pretrained(FOLDER)
    assert_as_before(verifier)
    frames = verifier.oskdft(tones(), path="kd").last_hidden_state.mean(1)
    torch.testing.assert_close(frames, torch.tensor(EXPECTED["hidden_states"]), atol=1e-5, rtol=1e-5)
    verifier.load_speaker_adapter(FOLDER / "site", "site")
    assert_as_before(verifier)


def test_the_thresholds_of_then_decide():
    verifier = SpeakerVerifier.from_pretrained(FOLDER)
    assert verifier.thresholds.values["eer"] == 0.5
    waveforms = tones().repeat(1, 8).numpy()
    assert verifier.verify(waveforms[0], waveforms[0]).same_speaker is True


def test_the_code_that_travelled_gives_the_same_embeddings(tmp_path):
    program = (
        "import json, sys, torch\n"
        "from transformers import AutoModel\n"
        "verifier = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "assert type(verifier).__module__.startswith('transformers_modules')\n"
        "waveforms = torch.tensor(json.loads(sys.stdin.read()))\n"
        "with torch.inference_mode():\n"
        "    print(json.dumps(verifier(waveforms).embeddings.tolist()))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(bare_site(tmp_path / "site")), "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program, str(FOLDER)],
        input=json.dumps(tones().tolist()),
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    embeddings = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    torch.testing.assert_close(embeddings, torch.tensor(EXPECTED["embeddings"]), atol=1e-5, rtol=1e-5)
