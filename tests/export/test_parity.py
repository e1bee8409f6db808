import numpy as np
import pytest

from modeling_oskdft.export.parity import INT8_PARITY, check_parity, lowest_cosine, noise


class Turned:
    """An embedder whose embedding is turned by an angle."""

    def __init__(self, angle):
        self.row = np.float32([np.cos(angle), np.sin(angle)])

    def embed(self, waveforms):
        return np.stack([self.row * len(waveform) for waveform in waveforms])


def test_the_lowest_cosine():
    recordings = noise(400)
    assert [len(recording) for recording in recordings] == [400, 16000, 32000]
    assert lowest_cosine(Turned(0), Turned(0.1), recordings) == pytest.approx(np.cos(0.1), abs=1e-6)


def test_another_graph_is_refused():
    assert check_parity(Turned(0), Turned(0.001), noise(400)) == pytest.approx(np.cos(0.001))
    assert check_parity(Turned(0), Turned(0.1), noise(400), INT8_PARITY) == pytest.approx(np.cos(0.1), abs=1e-6)
    with pytest.raises(RuntimeError, match="is not the verifier"):
        check_parity(Turned(0), Turned(1), noise(400), INT8_PARITY)
    with pytest.raises(RuntimeError, match="is not the verifier"):
        check_parity(Turned(0), Turned(0.1), noise(400))
    with pytest.raises(ValueError, match="NaN or infinite"):
        lowest_cosine(Turned(0), Turned(np.nan), noise(400))
