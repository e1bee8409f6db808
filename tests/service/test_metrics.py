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
