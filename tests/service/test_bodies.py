import base64
import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from tests.service.conftest import files, sentence


def test_every_form_of_audio_gives_the_same_answer(client_of, recordings):
    client = client_of(folder=recordings[0].parent)
    text = base64.b64encode(recordings[0].read_bytes()).decode()
    forms = [text, f"data:audio/flac;base64,{text}", {"path": recordings[0].name}, "\n".join((text[:8], text[8:]))]
    answers = [client.post("/v1/voice/embed", json={"audio": audio}).json()["embedding"] for audio in forms]
    answers.append(client.post("/v1/voice/embed", files=files(audio=recordings[0])).json()["embedding"])
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 400, "The field audio is missing: give it."),
        ({"audio": "http://example.com/a.wav"}, 400, "fetches no addresses"),
        ({"audio": "file:///etc/passwd"}, 400, "fetches no addresses"),
        ({"audio": "not base64!"}, 400, "Recording 1 is no base64"),
        ({"audio": "data:audio/wav,abc"}, 400, "data URI without base64"),
        ({"audio": "aGVsbG8="}, 400, "cannot be read"),
        ({"audio": ""}, 400, "cannot be read"),
        ({"audio": 7}, 400, "The field audio"),
        ({"audio": None}, 400, "The field audio"),
        ({"audio": {"path": "../../etc/passwd"}}, 403, "may not be read"),
        ({"audio": {"path": "/etc/passwd"}}, 403, "may not be read"),
        ({"audio": {"path": "a\0b"}}, 403, "may not be read"),
        ({"audio": {"path": "none.wav"}}, 404, "no recording at this path"),
        ({"audio": {"path": "."}}, 404, "no recording at this path"),
        ({"audio": "aGVsbG8=", "model": "another"}, 404, "has the model 'tiny' alone"),
        ({"audio": "aGVsbG8=", "audoi": 1}, 400, "no field audoi here"),
        ([], 400, "must be a JSON object"),
    ],
)
def test_what_cannot_be_embedded_gets_a_sentence(client_of, tmp_path, fields, status, words):
    answer = client_of(folder=tmp_path).post("/v1/voice/embed", json=fields)
    assert answer.status_code == status and words in sentence(answer)
    assert set(answer.json()["error"]) == {"code", "message", "type"} and answer.json()["error"]["code"] == status


def test_other_bodies_and_routes_get_a_sentence(client_of, recordings):
    client = client_of()
    for content_type, body, status in (
        ("text/plain", b"x", 415),
        ("", b"", 415),
        ("application/json", b"[[", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"\xff\xfe", 400),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n',
            400,
        ),
    ):
        answer = client.post("/v1/voice/embed", content=body, headers={"Content-Type": content_type})
        assert answer.status_code == status and sentence(answer).endswith("."), (content_type, body[:9])
    assert client.get("/nothing").status_code == 404 and client.get("/v1/voice/embed").status_code == 405
    many = [("audios", recordings[0].read_bytes())] * 9
    assert "1 to 8 recordings" in sentence(client.post("/v1/voice/register", data={"name": "Ana"}, files=many))
    both = client.post(
        "/v1/voice/verify", data={"name": "Ana"}, files=files(audio1=recordings[0], audio2=recordings[1])
    )
    assert both.status_code == 400 and "not both" in sentence(both)
    for data in ({"prior": 0}, {"prior": "nan"}, {"operating_point": "best"}, {"c_miss": "inf"}, {"threshold": 3}):
        sent = files(audio1=recordings[0], audio2=recordings[1])
        answer = client.post("/v1/voice/verify", data=data, files=sent)
        assert answer.status_code == 400 and next(iter(data)) in sentence(answer)
    for name in ("../a", "a" * 10_000, "", "a\nb"):
        answer = client.post("/v1/voice/register", data={"name": name}, files=files(audio=recordings[0]))
        assert answer.status_code == 400, name[:20]


def test_a_link_out_of_the_folder_is_refused(client_of, tmp_path, recordings):
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "link.flac").symlink_to(recordings[0])
    answer = client_of(folder=folder).post("/v1/voice/embed", json={"audio": {"path": "link.flac"}})
    assert answer.status_code == 403
    closed = client_of().post("/v1/voice/embed", json={"audio": {"path": "link.flac"}})
    assert closed.status_code == 403 and "reads no paths" in sentence(closed)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a", "audios": [{}] * 300_000},
        {"audio": {str(number): 1 for number in range(100_000)}},
        {str(number): 1 for number in range(100_000)},
        {"audio": [[[[[1]]]]]},
    ],
)
def test_a_body_of_many_small_parts_costs_little(client_of, fields):
    """Each part that is checked costs a thousand times its bytes."""
    tracemalloc.start()
    answer = client_of().post("/v1/voice/register", json=fields)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 400 and "too many fields" in sentence(answer) and peak < 100e6


def test_sentences_about_a_path_do_not_tell_where_it_is(client_of, tmp_path, recordings):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "short.wav", soundfile.read(recordings[0])[0][:3000], 16000)
    client = client_of(folder=tmp_path)
    for name in ("broken.wav", "short.wav", "a" * 300 + ".wav"):
        answer = client.post("/v1/voice/embed", json={"audio": {"path": name}})
        assert str(tmp_path) not in answer.text and answer.status_code in (200, 400, 404), name


def test_many_channels_are_refused_before_they_are_decoded(client_of):
    file = io.BytesIO()
    soundfile.write(file, np.zeros((1000, 16), np.int16), 192_000, format="WAV")
    answer = client_of().post("/v1/voice/embed", files={"audio": file.getvalue()})
    assert answer.status_code == 413 and "too many channels" in sentence(answer)


def test_an_unknown_field_is_named(client_of):
    answer = client_of().post("/v1/voice/embed", json={"audio": "aGVsbG8=", "a-b": 1})
    assert sentence(answer) == "There is no field a-b here: leave it out; see /docs."
