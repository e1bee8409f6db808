import pytest

from modeling_oskdft.service.score_log import ScoreLog, read_decisions
from tests.service.conftest import files


def test_decisions_are_counted_and_kept_without_names(client_of, recordings, tmp_path):
    client = client_of(log=ScoreLog(tmp_path / "scores.jsonl"))
    client.post("/v1/voice/register", data={"name": "Ana"}, files=files(audio=recordings[0]))
    sent = files(audio2=recordings[1])
    answer = client.post("/v1/voice/verify", data={"name": "Ana"}, files=sent).json()
    client.post("/v1/voice/verify", data={"name": "Nobody"}, files=sent)
    (kept,) = read_decisions(tmp_path / "scores.jsonl")
    assert kept.score == pytest.approx(answer["score"], abs=1e-5) and kept.same_speaker == answer["verified"]
    assert kept.speech == answer["speech"] and kept.fingerprint == answer["fingerprint"]
    text = client.get("/metrics").text
    assert "Ana" not in text + (tmp_path / "scores.jsonl").read_text() and str(recordings[0].parent) not in text
    for line in (
        'oskdft_requests_total{route="/v1/voice/verify",status="200"} 1.0',
        'oskdft_requests_total{route="/v1/voice/verify",status="404"} 1.0',
        'oskdft_refusals_total{reason="unknown"} 1.0',
        "oskdft_voices 1.0",
        "oskdft_waiting 0.0",
    ):
        assert line in text


def test_no_series_begins_with_its_first_event(client_of, recordings, monkeypatch):
    """Prometheus counts what a series has gained since it was first seen: what comes with its first event is lost."""
    client, sent = client_of(), files(audio1=recordings[0], audio2=recordings[1])
    before = series(client)
    assert 'oskdft_refusals_total{reason="fields"}' in before
    client.post("/v1/voice/verify", files=sent)
    client.post("/v1/voice/verify", json={"audio1": "!", "audio2": "!"})
    client.post("/v1/voice/verify", content=b"x", headers={"Content-Type": "text/plain"})
    client.post("/v1/voice/identify", files=files(audio=recordings[0]))
    client.post("/v1/voice/register", data={"name": "Ana"}, files=files(audio=recordings[0]))
    client.post("/v1/voice/forget", json={"name": "Ana"})
    client.post("/v1/voice/verify", data={"name": "Ana"}, files=files(audio2=recordings[0]))
    client.post("/v1/voice/verify", files=sent, headers={"Host": "elsewhere"})
    for path in ("/nowhere", "/v1/voice/verify", "/v1/voice/voices", "/v1/models", "/health/ready", "/docs"):
        client.get(path)
    client.get("/openapi.json")
    client.get("/v1/models/")
    monkeypatch.setattr(client.application.voices, "model", lambda: {}["fault"])
    assert client.get("/v1/models").status_code == 500
    after = series(client)
    assert after.keys() == before.keys()
    changed = {name for name in after if name.startswith("oskdft_re") and after[name] > before[name]}
    assert {line.partition("{")[0] for line in changed} == {"oskdft_requests_total", "oskdft_refusals_total"}
    assert len(changed) > 15


def series(client):
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines) if "_created" not in name}
