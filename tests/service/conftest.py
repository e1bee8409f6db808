import pytest
from fastapi.testclient import TestClient

from modeling_oskdft.service.application import Application
from modeling_oskdft.service.limits import Limits
from modeling_oskdft.verification.verifier import SpeakerVerifier


def sentence(answer):
    """The sentence of a refused request."""
    return answer.json()["error"]["message"]


def files(**recordings):
    """Recordings as uploads of a form, by the names of fields."""
    return {name: file.read_bytes() for name, file in recordings.items()}


@pytest.fixture
def recordings(voices):
    """Two recordings of one speaker, and one of another."""
    first, second, *_ = sorted(voices.iterdir())
    return [*sorted(first.rglob("*.flac"))[:2], sorted(second.rglob("*.flac"))[0]]


@pytest.fixture
def client_of(saved_verifier):
    """Make a client of an application in this process; fields of `Limits` may be given by name."""
    opened = []

    def make(verifier=None, workers=2, **more):
        limits = Limits(**{name: more.pop(name) for name in list(more) if hasattr(Limits(), name)})
        verifier = SpeakerVerifier.from_pretrained(saved_verifier) if verifier is None else verifier
        application = Application(verifier, "tiny", workers, limits, **more)
        opened.append(application)
        client = TestClient(application.asgi, base_url="http://127.0.0.1")
        client.application = application
        return client

    yield make
    for application in opened:
        assert application.engine.close(10)
