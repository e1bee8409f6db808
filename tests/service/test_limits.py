import pytest

from modeling_oskdft.service.limits import Limits, explained_limits
from tests.service.conftest import files, sentence


def test_limits_of_size_and_length(client_of, recordings):
    small = client_of(body_bytes=1000).post("/v1/voice/embed", files=files(audio=recordings[0]))
    assert small.status_code == 413 and "larger than 1,000 bytes" in sentence(small)
    short = client_of(seconds=0.5).post("/v1/voice/embed", files=files(audio=recordings[0]))
    assert short.status_code == 413 and "Recording 1 is longer than 0.5 s" in sentence(short)
    full = client_of(most_voices=1)
    full.post("/v1/voice/register", data={"name": "Ana"}, files=files(audio=recordings[0]))
    answer = full.post("/v1/voice/register", data={"name": "Ben"}, files=files(audio=recordings[0]))
    assert answer.status_code == 507 and "1 voices already" in sentence(answer)


def test_every_limit_is_explained_and_above_nothing():
    for name, default, text in explained_limits():
        assert default > 0 and text and not text.endswith(".")
        with pytest.raises(ValueError, match=f"{name} is -1: a number above 0 is needed"):
            Limits(**{name: -1})
    assert Limits(waiting=0).waiting == 0
    with pytest.raises(ValueError, match="patience is nan"):
        Limits(patience=float("nan"))
