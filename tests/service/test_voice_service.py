import numpy as np
import pytest

from modeling_oskdft.verification.verifier import SpeakerVerifier
from tests.service.conftest import files, sentence


def test_answers_are_those_of_the_verifier(client_of, saved_verifier, recordings):
    verifier, client = SpeakerVerifier.from_pretrained(saved_verifier), client_of()
    for other in recordings[1:]:
        expected = verifier.verify(recordings[0], other)
        answer = client.post("/v1/voice/verify", files=files(audio1=recordings[0], audio2=other)).json()
        assert answer["score"] == pytest.approx(expected.score, abs=1e-6)
        assert answer["verified"] == expected.same_speaker and answer["distance"] == 1 - answer["score"]
        assert answer["threshold"] == pytest.approx(1 - expected.threshold)
        assert answer["warnings"] == [note.replace(f"'{recordings[0]}'", "Recording 1") for note in expected.warnings]
        assert answer["fingerprint"] == verifier.fingerprint() and answer["model"] == "tiny"
    embedded = client.post("/v1/voice/embed", files=files(audio=recordings[0])).json()
    np.testing.assert_allclose(embedded["embedding"], verifier.embed(recordings[0]), atol=1e-6)
    assert embedded["dim"] == 12


def test_localai_s_confidence_and_threshold(client_of, recordings):
    """LocalAI's example: a distance of 0.18 under a threshold of 0.25 is a confidence of 28 %."""
    client, sent = client_of(), files(audio1=recordings[0], audio2=recordings[1])
    distance = client.post("/v1/voice/verify", files=sent).json()["distance"]
    for share, verified in ((0.72, True), (1.25, False)):
        limit = distance / share
        answer = client.post("/v1/voice/verify", files=sent, data={"threshold": limit}).json()
        assert answer["verified"] is verified and answer["threshold"] == pytest.approx(limit)
        assert answer["confidence"] == pytest.approx(max(100 * (1 - share), 0), abs=1e-6)


def test_voices_come_and_go(client_of, recordings):
    client = client_of()
    both = [("audios", recordings[0].read_bytes()), ("audios", recordings[1].read_bytes())]
    known = client.post("/v1/voice/register", data={"name": "Ana", "consent": "signed"}, files=both).json()
    assert known["id"] == known["name"] == "Ana" and known["recordings"] == 2
    again = client.post("/v1/voice/register", data={"name": "Ana"}, files=both)
    assert again.status_code == 409 and "enrolled already" in sentence(again)
    grown = client.post("/v1/voice/update", data={"name": "Ana"}, files=files(audio=recordings[1])).json()
    assert grown["recordings"] == 3
    client.post("/v1/voice/register", data={"name": "Ben"}, files=files(audio=recordings[2]))
    assert [voice["name"] for voice in client.get("/v1/voice/voices").json()["voices"]] == ["Ana", "Ben"]
    found = client.post("/v1/voice/identify", data={"top_k": 1}, files=files(audio=recordings[2])).json()
    assert [match["name"] for match in found["matches"]] == ["Ben"] and found["margin"] > 0
    near = client.post("/v1/voice/identify", data={"threshold": 0}, files=files(audio=recordings[0])).json()
    assert len(near["matches"]) == 2 and not any(match["match"] for match in near["matches"])
    of_voice = client.post("/v1/voice/verify", data={"name": "Ben"}, files=files(audio2=recordings[2])).json()
    assert of_voice["score"] == pytest.approx(1, abs=1e-5)
    assert client.post("/v1/voice/forget", json={"id": "Ben"}).status_code == 204
    gone = client.post("/v1/voice/verify", data={"name": "Ben"}, files=files(audio2=recordings[2]))
    assert gone.status_code == 404 and sentence(gone) == "This name is not enrolled: register the voice first."
    assert client.post("/v1/voice/forget", json={"name": "Ben"}).status_code == 404
    assert client.post("/v1/voice/forget", json={"name": "Ana"}).status_code == 204
    nobody = client.post("/v1/voice/identify", files=files(audio=recordings[0]))
    assert nobody.status_code == 200 and nobody.json()["matches"] == []
