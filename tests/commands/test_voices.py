import json

import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.verification.voices import VoiceStore
from tests.scoring.test_calibration import calibration
from tests.tiny import save_verifier


@pytest.fixture
def model(tmp_path, feature_extractor):
    fingerprint = save_verifier(tmp_path / "model", feature_extractor).fingerprint()
    calibration(fingerprint=fingerprint).save(tmp_path / "model")
    return ["--model", str(tmp_path / "model")]


@pytest.fixture
def recordings(voices):
    return sorted(str(file) for file in voices.rglob("*.flac"))


def said(capsys, words, code=0):
    assert main(words) == code
    captured = capsys.readouterr()
    return captured.out if code != 2 else captured.err


def test_a_life_of_a_voice(tmp_path, model, recordings, capsys):
    store = ["--voices", str(tmp_path / "voices")]
    out = said(capsys, ["enroll", "Ada", *recordings[:2], *model, *store, "--consent", "form 1"])
    assert out.startswith("Ada: 2 recordings, ")
    assert json.loads(said(capsys, ["enroll", "Bob", recordings[5], *model, *store, "--json"]))["recordings"] == 1
    assert "Ada: 3 recordings" in said(capsys, ["enroll", "Ada", recordings[3], "--update", *model, *store])
    assert said(capsys, ["verify", "Ada", recordings[0], *model, *store]).startswith("same speaker (score ")
    matches = json.loads(said(capsys, ["identify", recordings[5], "--top_k", "1", *model, *store, "--json"]))[
        "matches"
    ]
    assert [match["name"] for match in matches] == ["Bob"] and 0 <= matches[0]["probability"] <= 1
    assert "\tprobability " in said(capsys, ["identify", recordings[0], *model, *store])
    assert [line.split("\t")[0] for line in said(capsys, ["voices", "list", store[1]]).splitlines()] == ["Ada", "Bob"]
    said(capsys, ["voices", "rename", store[1], "Bob", "Bobby"])
    said(capsys, ["voices", "forget", store[1], "Ada"])
    assert [row["name"] for row in json.loads(said(capsys, ["voices", "list", store[1], "--json"]))] == ["Bobby"]


def test_an_encrypted_store_takes_its_key_from_a_file_or_the_environment(
    tmp_path, model, recordings, capsys, monkeypatch
):
    key = tmp_path / "key.txt"
    key.write_text(said(capsys, ["voices", "key"]))
    store = ["--voices", str(tmp_path / "voices")]
    said(capsys, ["enroll", "Ada", recordings[0], *model, *store, "--key_file", str(key)])
    assert b"Ada" not in (tmp_path / "voices").read_bytes()
    assert "is encrypted: give its key" in said(capsys, ["voices", "list", store[1]], 2)
    monkeypatch.setenv("OSKDFT_VOICES_KEY", key.read_text().strip())
    assert said(capsys, ["voices", "list", store[1]]).startswith("Ada\t")
    key.write_text(said(capsys, ["voices", "key"]))
    assert "The key does not open" in said(capsys, ["voices", "list", store[1], "--key_file", str(key)], 2)


def test_what_is_wrong_is_one_sentence(tmp_path, model, recordings, capsys):
    store = ["--voices", str(tmp_path / "voices")]
    for words, sentence in (
        (["voices", "list", str(tmp_path / "no")], "There is no file of voices at"),
        (["identify", recordings[0], *model, *store], "Nobody is enrolled: enrol a voice first"),
        (["verify", "Ada", recordings[0], *model, *store], "'Ada' is not enrolled: nobody is; enrol a voice first"),
        (["verify", "Ada", *recordings[:2], *model, *store], "the name of a voice and one recording are needed"),
        (["enroll", "a\nb", recordings[0], *model, *store], "has slashes, line breaks or hidden letters"),
        (["enroll", "Ada", "nowhere.wav", *model, *store], "There is no recording at 'nowhere.wav'"),
        (["enroll", "Ada", recordings[0], *model, *store, "--key_file", "no"], "There is no key at 'no'"),
        (["enroll", "Ada", recordings[0], *model, "--voices", str(tmp_path)], "cannot be used (is a directory)"),
    ):
        err = said(capsys, words, 2)
        assert sentence in err and err.count("\n") == 1, err
    assert not (tmp_path / "voices").exists()


def test_a_new_model_embeds_the_recordings_anew(tmp_path, model, recordings, capsys, feature_extractor):
    store = str(tmp_path / "voices")
    said(capsys, ["enroll", "Ada", recordings[0], *model, "--voices", store])
    save_verifier(tmp_path / "new", feature_extractor, adapter_size=4)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/Ada.flac").write_bytes(open(recordings[0], "rb").read())
    new = ["--model", str(tmp_path / "new")]
    assert "were embedded by another model" in said(capsys, ["identify", recordings[0], *new, "--voices", store], 2)
    out = said(capsys, ["voices", "migrate", store, *new, "--recordings", str(tmp_path / "audio")])
    assert out == "1 voices were embedded anew.\n" and "Ada" in VoiceStore(store)
    assert "Ada" in said(capsys, ["identify", recordings[0], *new, "--voices", store])
