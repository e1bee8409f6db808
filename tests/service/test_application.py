from modeling_oskdft.service.application import owner_of
from modeling_oskdft.verification.verifier import SpeakerVerifier
from tests.service.conftest import files, sentence


def test_what_is_served_says_what_it_is(client_of, saved_verifier):
    client = client_of()
    (model,) = client.get("/v1/models").json()["data"]
    assert model["id"] == "tiny" and model["backend"] == "torch" and model["embedding_size"] == 12
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    client.application.engine.leave()
    leaving = client.get("/health/ready")
    assert leaving.status_code == 503 and "leaving" in sentence(leaving)
    assert client.get("/v1/voice/voices").status_code == 503 and client.get("/health/live").status_code == 200


def test_one_owner_of_the_model_gives_the_same_answers(client_of, saved_verifier, recordings):
    sent = files(audio1=recordings[0], audio2=recordings[1])
    alone = client_of().post("/v1/voice/verify", files=sent).json()
    verifier = owner_of(SpeakerVerifier.from_pretrained(saved_verifier), batching=True)
    client = client_of(verifier)
    assert client.post("/v1/voice/verify", files=sent).json()["score"] == alone["score"]
    assert client.get("/v1/models").json()["data"][0]["backend"] == "torch"
