from modeling_oskdft.verification.verifier import SpeakerVerifier
from tests.service.conftest import files, sentence


def test_no_room_on_the_disk_keeps_the_voices(client_of, recordings, saved_verifier, tmp_path, monkeypatch):
    verifier = SpeakerVerifier.from_pretrained(saved_verifier, voices=tmp_path / "voices")
    client = client_of(verifier)
    client.post("/v1/voice/register", data={"name": "Ana"}, files=files(audio=recordings[0]))
    before = (tmp_path / "voices").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    answer = client.post("/v1/voice/register", data={"name": "Ben"}, files=files(audio=recordings[1]))
    assert answer.status_code == 507 and "as they were before" in sentence(answer)
    assert (tmp_path / "voices").read_bytes() == before and list(tmp_path.iterdir()) != []
    monkeypatch.undo()
    (tmp_path / "voices").unlink()  # by another program, under the running service
    gone = client.post("/v1/voice/verify", data={"name": "Ana"}, files=files(audio2=recordings[0]))
    assert gone.status_code == 404
    (tmp_path / "voices").write_bytes(b"damaged")
    damaged = client.post("/v1/voice/verify", data={"name": "Ana"}, files=files(audio2=recordings[0]))
    assert damaged.status_code == 400 and "no store of voices" in sentence(damaged)


def test_faults_of_the_service_keep_their_text(client_of, recordings, monkeypatch):
    client = client_of()
    monkeypatch.setattr(client.application.voices.verifier, "verify_recordings", lambda *_: {}["secret"])
    answer = client.post("/v1/voice/verify", files=files(audio1=recordings[0], audio2=recordings[1]))
    assert answer.status_code == 500 and "secret" not in answer.text and "fault of its own" in sentence(answer)
