import numpy as np
import pytest

from modeling_oskdft.audio.forms import checked_array, checked_rate, plain_source


def test_every_form_becomes_a_path_bytes_or_a_pair():
    samples = np.zeros(4, np.float32)
    assert plain_source("a.wav") == "a.wav" and plain_source(bytearray(b"x")) == b"x"
    assert plain_source({"path": "a.wav"}) == "a.wav" and plain_source({"bytes": b"x", "path": "a.wav"}) == b"x"
    assert plain_source(samples)[1] == 16000
    assert plain_source((samples, np.array(8000)))[1] == 8000


def test_channels_are_the_shorter_axis():
    assert checked_array(np.zeros((2, 9))).shape == checked_array(np.zeros((9, 2))).shape == (9, 2)
    with pytest.raises(ValueError, match="An array of int16 was given: floating-point samples"):
        checked_array(np.zeros(4, np.int16))
    with pytest.raises(ValueError, match="It has a sampling rate of 441 Hz: speech is recorded at"):
        checked_rate(441, "It")
