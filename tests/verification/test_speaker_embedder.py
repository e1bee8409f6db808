import numpy as np
import pytest

from modeling_oskdft.verification.speaker_embedder import SpeakerEmbedder, is_a_recording
from tests.tiny import tiny_verifier


def test_one_recording_is_told_from_several():
    for single in ("a.wav", b"x", np.zeros(4), (np.zeros(4), 16000), {"path": "a"}, 3):
        assert is_a_recording(single)
    for several in (["a.wav"], ("a.wav", "b.wav"), iter(["a.wav"])):
        assert not is_a_recording(several)


def test_a_model_is_no_embedder():
    with pytest.raises(TypeError, match="an Embedder is needed, such as runtimes.TorchEmbedder"):
        SpeakerEmbedder(tiny_verifier())
