import numpy as np
import pytest

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.data.trials import Trials
from modeling_oskdft.embedding.recordings import read_for_embedding
from modeling_oskdft.verification.hearing import Heard, hear


def test_each_recording_as_it_is_alone(saved_verifier, voices):
    verifier = SpeakerVerifier.from_pretrained(saved_verifier)
    paths = sorted(map(str, voices.rglob("*.flac")))[:5]
    heard = hear(verifier.embedder, ((path, read_for_embedding(path)) for path in paths))
    assert list(heard.embeddings) == paths and list(heard.speech) == paths
    for path in paths:
        np.testing.assert_allclose(heard.embeddings[path], verifier.embed(path), atol=1e-5)


def test_a_fault_of_a_recording_reaches_the_caller(saved_verifier, tmp_path):
    verifier = SpeakerVerifier.from_pretrained(saved_verifier)
    with pytest.raises(FileNotFoundError, match="missing"):
        hear(verifier.embedder, ((name, read_for_embedding(name)) for name in [str(tmp_path / "missing.wav")]))


def test_scores_and_speech_of_trials():
    embeddings = {"a": np.float32([1, 0]), "b": np.float32([0.6, 0.8]), "c": np.float32([0, 1])}
    heard = Heard(embeddings, {"a": 5.0, "b": 2.0, "c": 3.0}, "silero", ())
    trials = Trials(np.asarray([1, 0]), ["a", "c"], ["b", "a"])
    np.testing.assert_allclose(heard.cosines(trials), [0.6, 0.0], atol=1e-7)
    assert heard.shorter_speech(trials).tolist() == [2.0, 3.0]
    assert heard.sides("a", "b")[2:] == (2.0, "silero")
