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
    assert (tmp_path / "voices").read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} <= {"voices", "voices.lock"}, "no part of a file stays"
    monkeypatch.undo()
    (tmp_path / "voices").unlink()  # by another program, under the running service
    gone = client.post("/v1/voice/verify", data={"name": "Ana"}, files=files(audio2=recordings[0]))
    assert gone.status_code == 404
    (tmp_path / "voices").write_bytes(b"damaged")
    damaged = client.post("/v1/voice/verify", data={"name": "Ana"}, files=files(audio2=recordings[0]))
    assert damaged.status_code == 500 and "cannot use its voices" in sentence(damaged)
    assert str(tmp_path) not in damaged.text and client.get("/metrics").status_code == 200


def test_faults_of_the_service_keep_their_text(client_of, recordings, monkeypatch, capsys):
    client = client_of()
    monkeypatch.setattr(client.application.voices.verifier, "verify_recordings", lambda *_: {}["secret"])
    answer = client.post("/v1/voice/verify", files=files(audio1=recordings[0], audio2=recordings[1]))
    assert answer.status_code == 500 and "secret" not in answer.text and "fault of its own" in sentence(answer)
    assert "KeyError: 'secret'" in capsys.readouterr().err, "the operator can read it"


def test_a_name_that_reads_like_an_error_is_a_name(client_of, recordings):
    client, data = client_of(), {"name": "x is not enrolled"}
    assert client.post("/v1/voice/register", data=data, files=files(audio=recordings[0])).status_code == 200
    again = client.post("/v1/voice/register", data=data, files=files(audio=recordings[0]))
    assert again.status_code == 409
    blanks = client.post("/v1/voice/verify", data={"name": "  x is not enrolled "}, files=files(audio2=recordings[0]))
    assert blanks.status_code == 200
