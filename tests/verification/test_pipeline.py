"""The pipeline gives the embeddings of a verifier, from its own package and from a folder that it was saved into."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from modeling_oskdft import OSKDFTForXVector, SpeakerVerifier
from modeling_oskdft.verification.pipeline import TASK, SpeakerEmbeddingPipeline, register_speaker_pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recordings(voices):
    return sorted(map(str, voices.rglob("*.flac")))[:3]


@pytest.fixture
def verifier(saved_verifier):
    return SpeakerVerifier.from_pretrained(saved_verifier)


@pytest.fixture
def embed(saved_verifier, monkeypatch):
    """The pipeline, opened without consent to code from the folder."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("transformers asked for consent"))
    register_speaker_pipeline()
    return pipeline("speaker-embedding", model=str(saved_verifier), device="cpu")


def test_the_pipeline_gives_the_embeddings_of_a_verifier(embed, verifier, recordings):
    assert type(embed) is SpeakerEmbeddingPipeline and type(embed.model) is OSKDFTForXVector
    alone = [embed(recording) for recording in recordings]
    together = embed(recordings, batch_size=3)
    for row, recording in enumerate(recordings):
        assert alone[row].shape == (12,) and alone[row].dtype == np.float32
        np.testing.assert_allclose(alone[row], verifier.embed(recording), atol=1e-5)
        np.testing.assert_allclose(together[row], alone[row], atol=1e-5)


def test_every_kind_of_audio(embed, recordings):
    samples, rate = soundfile.read(recordings[0], dtype="float32")
    content = Path(recordings[0]).read_bytes()
    expected = embed(recordings[0])
    arrays = (samples, (samples, rate), {"array": samples, "sampling_rate": rate}, torch.from_numpy(samples))
    for audio in (content, {"bytes": content}, io.BytesIO(content), *arrays):
        np.testing.assert_allclose(embed(audio), expected, atol=1e-5)


def test_what_it_refuses(embed, recordings, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    silences = {"silence.wav'": str(tmp_path / "silence.wav"), "A recording": np.zeros(16000, np.float32)}
    for name, silence in silences.items():
        with pytest.raises(ValueError, match=f"{name} is silent: give a recording with speech in it"):
            embed(silence)
    with pytest.raises(TypeError, match="top_k"):
        embed(recordings[0], top_k=5)


def test_a_second_registration_changes_nothing():
    from transformers.pipelines import PIPELINE_REGISTRY

    register_speaker_pipeline()
    before = PIPELINE_REGISTRY.supported_tasks[TASK]
    register_speaker_pipeline()
    assert PIPELINE_REGISTRY.supported_tasks[TASK] is before


def test_a_saved_pipeline_needs_no_registration(embed, verifier, recordings, tmp_path):
    embed.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "pipeline.py").is_file()
    script = "import sys; from transformers import pipeline; "
    script += "embed = pipeline('speaker-embedding', model=sys.argv[1], trust_remote_code=True, device='cpu'); "
    script += "print(type(embed).__module__, *embed(sys.argv[2]))"
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path / "saved"), recordings[0]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    module, *values = done.stdout.split()
    assert module.startswith("transformers_modules")
    np.testing.assert_allclose([float(value) for value in values], verifier.embed(recordings[0]), atol=1e-5)
