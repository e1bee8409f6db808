import numpy as np
import pytest

from modeling_oskdft.verification.voice import Fact, Voice, checked_name


def test_the_mean_is_weighted_by_speech():
    rows = np.eye(2, dtype=np.float32)
    long = Fact("a" * 64, 2, "", 3.0)
    short = Fact("a" * 64, 2, "", 1.0)
    np.testing.assert_allclose(Voice("x", rows, (long, short)).vector, np.array([3, 1]) / np.sqrt(10), rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "../../etc/passwd",
        "a\\b",
        "a\nb",
        "a\0b",
        "\u202egnp.exe",
        "x" * 101,
        "..",
        "a\u2028b",
        "\ud800",
        "A\u200bda",
        "A\u00adda",
        "\u3164",
    ],
)
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="letters: 1 to 100 are needed|slashes, line breaks or hidden letters"):
        checked_name(name)


def test_a_name_is_a_text_in_one_form():
    assert checked_name(" Zoe\u0308 ") == "Zo\u00eb"
    with pytest.raises(TypeError, match="A name of type int was given"):
        checked_name(3)
