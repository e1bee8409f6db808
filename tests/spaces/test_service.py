"""What the page of spaces/speaker-verification does, without the page."""

import importlib
import os
import shutil
import sys
import time

import numpy as np
import pytest
import soundfile

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.scoring.thresholds import Thresholds
from tests.spaces.conftest import SPACE


@pytest.fixture(scope="module")
def parts():
    """The modules that lie beside app.py."""
    sys.path.insert(0, str(SPACE))
    yield {name: importlib.import_module(name) for name in ("service", "words", "drawing", "samples")}
    sys.path.remove(str(SPACE))


@pytest.fixture
def service(parts, space_model):
    return parts["service"].Service(str(space_model), str(space_model))


@pytest.fixture
def files(voices):
    return [str(file) for file in sorted(voices.rglob("*.flac"))]


def test_both_models_are_decided_at_the_same_point(service, files):
    for point, kind in (("eer", "same"), ("far_1_percent", "different"), ("far_0.1_percent", "undecided")):
        found = service.compare(files[0], files[0], point, None, "en")
        assert [one.kind for one in found.verdicts] == [kind, kind]
        assert any("no threshold at far_0.1_percent" in one for one in found.warnings) is (kind == "undecided")
    slid = service.compare(files[0], files[0], "slider", 0.2, "en").verdicts
    assert [one.kind for one in slid] == ["same", "undecided"], "the slider is on the student's scale"


def test_the_score_is_the_verifier_s(service, files, space_model):
    expected = SpeakerVerifier.from_pretrained(space_model).verify(files[0], files[5])
    found = service.compare(files[0], files[5], "eer", None, "en")
    assert found.verdicts[0].score == pytest.approx(expected.score, abs=1e-5)


def test_a_model_without_thresholds_says_so(parts, space_model, tmp_path, files):
    shutil.copytree(space_model, tmp_path / "bare")
    for name in ("thresholds.json", "README.md"):
        (tmp_path / "bare" / name).unlink()
    bare = parts["service"].Service(str(tmp_path / "bare"))
    assert bare.points == [] and bare.card() == "# bare"
    for language, said in (("en", "no threshold at eer"), ("ja", "しきい値がありません")):
        found = bare.compare(files[0], files[1], "eer", None, language)
        assert found.verdicts[0].kind == "undecided" and said in found.warnings[-1]
    app = importlib.import_module("app")
    page = app.build(bare, parts["samples"].write_samples(tmp_path))
    assert "/verify" in page.get_api_info()["named_endpoints"]


def refused(service, file, language="en"):
    with pytest.raises(Exception) as raised:
        service.listen(str(file), "Recording 1", language)
    assert type(raised.value).__name__ == "Refusal"
    return str(raised.value)


def test_a_small_file_with_hours_in_it_is_not_unpacked(service, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "hours.flac", np.zeros(16000 * 600, np.int16), 16000)
    assert (tmp_path / "hours.flac").stat().st_size < 100_000
    monkeypatch.setattr(sys.modules["service"], "read_recording", lambda *_: pytest.fail("it was unpacked"))
    assert "lasts more than 60 s" in refused(service, tmp_path / "hours.flac")


def test_what_is_no_recording(service, tmp_path):
    (tmp_path / "large.wav").write_bytes(b"\0" * (13 * 2**20))
    assert "has 13 MB: at most 12 MB are taken here" in refused(service, tmp_path / "large.wav")
    assert "was removed after ten minutes: give it again" in refused(service, tmp_path / "gone.wav")
    assert "もう一度送ってください" in refused(service, tmp_path / "gone.wav", "ja")
    soundfile.write(tmp_path / "wild.wav", np.full(16000, 1e18), 16000, subtype="DOUBLE")
    assert "Recording 1 has samples that reach 1.0e+18" in refused(service, tmp_path / "wild.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(16000, np.nan), 16000, subtype="DOUBLE")
    assert "Recording 1 has NaN or infinite samples" in refused(service, tmp_path / "nan.wav")
    assert "数値でない" in refused(service, tmp_path / "nan.wav", "ja")
    (tmp_path / "garbage.wav").write_bytes(b"RIFF, they said")
    assert "読み込めません" in refused(service, tmp_path / "garbage.wav", "ja")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    assert "is silent: give a recording with speech in it" in refused(service, tmp_path / "silent.wav")
    assert "録音 1は無音です" in refused(service, tmp_path / "silent.wav", "ja")
    assert "is missing: record or upload it first" in refused(service, "")


def test_a_visitor_is_told_the_reader_s_own_reason(service, files, tmp_path):
    samples, rate = soundfile.read(files[0])
    soundfile.write(tmp_path / "cut.wav", samples, rate)
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    assert refused(service, tmp_path / "cut.wav").startswith("Recording 1 is truncated: its end is missing")
    assert "途中で切れています" in refused(service, tmp_path / "cut.wav", "ja")
    piped = bytearray(whole)
    piped[4:8] = piped[40:44] = b"\xff\xff\xff\x7f"
    (tmp_path / "piped.wav").write_bytes(piped)
    unfinished = bytearray(whole)
    unfinished[4:8] = unfinished[40:44] = bytes(4)
    (tmp_path / "unfinished.wav").write_bytes(unfinished)
    answer = service.compare(str(tmp_path / "piped.wav"), str(tmp_path / "unfinished.wav"), "eer", None, "en")
    assert answer.verdicts[0].score == pytest.approx(1, abs=1e-4)
    assert answer.warnings == (
        "Recording 1 has a header without a length, as from a pipe: its end may be missing.",
        "Recording 2 has a header that was never finished: its end may be missing.",
    )


def test_a_threshold_is_a_number_inside_its_range(service):
    own = service.threshold("eer")
    assert service.threshold("slider", 0.3) == 0.3 and service.threshold("slider", 7) == 1.0
    for value in (float("nan"), float("inf"), "0.3", None):
        assert service.threshold("slider", value) is None
    assert service.threshold("x" * 10**6) is None and own == service.threshold("eer")


def test_a_name_that_no_page_can_show(service, files):
    voices, _ = service.enrol({}, "Ad\ud800a", files[0], "Recording", "en")
    assert list(voices) == ["Ada"]


def test_enrolment_has_limits_and_stays_with_its_visitor(service, files):
    none: dict = {}
    one, _ = service.enrol(none, "  Ada   L ", files[0], "Recording", "en")
    assert list(one) == ["Ada L"] and none == {}, "another visitor's voices are another dictionary"
    with pytest.raises(Exception, match="No name was given"):
        service.enrol(one, " ", files[0], "Recording", "en")
    with pytest.raises(Exception, match="has 41 characters: at most 40"):
        service.enrol(one, "a" * 41, files[0], "Recording", "en")
    full = {str(number): one["Ada L"] for number in range(20)}
    with pytest.raises(Exception, match="20 voices are enrolled: forget them first"):
        service.enrol(full, "one more", files[0], "Recording", "en")
    ranking, _ = service.identify(one, files[0], "Recording", "en")
    assert ranking[0][0] == "Ada L" and ranking[0][1] == pytest.approx(1, abs=1e-5)


def test_old_recordings_go_and_new_ones_stay(parts, tmp_path):
    app = importlib.import_module("app")
    (tmp_path / "a").mkdir()
    for name in ("old.wav", "a/older.wav", "new.wav"):
        (tmp_path / name).touch()
    for name in ("old.wav", "a/older.wav"):
        os.utime(tmp_path / name, (0, time.time() - 700))
    app.forget_old_recordings(tmp_path, 600)
    assert [file.name for file in tmp_path.rglob("*.wav")] == ["new.wav"]


def test_every_word_is_there_in_both_languages(parts):
    words = parts["words"]
    for table in (words.LABELS, words.SAID):
        assert set(table["en"]) == set(table["ja"])
        assert all(table["en"][name].count("{") == table["ja"][name].count("{") for name in table["en"])
    assert [words.language_of(asked) for asked in ("ja,en;q=0.8", "fr, ja;q=0.5", "en-GB", "de", None)] == [
        *("ja", "ja", "en", "en", "en")
    ]


def test_the_pictures_hold_every_score(parts):
    draw, said = parts["drawing"], parts["words"].SAID["en"]
    scores = {"non_target": [-0.9, 0.1, 0.95], "target": [-0.8, 0.5, 0.7]}
    picture = draw.distributions(scores, 0.3, 0.2, said)
    assert picture.count("<polygon") == 2 and "threshold 0.30" in picture and "score 0.20" in picture
    for samples in (1, 399, 16000, 960000):
        wave = np.random.default_rng(0).normal(size=samples).astype(np.float32)
        assert "nan" not in draw.recording(wave, "Recording 1", said).replace("base64", "")[:2000]


def test_thresholds_of_the_fixture_are_of_its_model(space_model):
    found = Thresholds.load(space_model / "thresholds.json")
    assert SpeakerVerifier.from_pretrained(space_model).thresholds == found


def test_which_model_is_opened(parts, space_model, tmp_path, monkeypatch, capsys):
    module, made = parts["service"], []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OSKDFT_MODEL", raising=False)
    monkeypatch.setattr(
        "modeling_oskdft.commands.quickstart.run",
        lambda root: made.append(shutil.copytree(space_model, root / "student")),
    )
    for _ in range(2):  # made at the first start, found at the second
        opened = module.open_service()
        assert opened.name == "quickstart/student" and opened.card().strip().startswith("# A tiny verifier")
    assert len(made) == 1 and "making the quickstart's small model" in capsys.readouterr().out
    monkeypatch.setenv("OSKDFT_MODEL", str(space_model))
    assert module.open_service().name == str(space_model)


def test_a_repository_without_a_page(service, monkeypatch):
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import EntryNotFoundError

    def missing(name):
        raise EntryNotFoundError("no README.md")

    monkeypatch.setattr(ModelCard, "load", missing)
    service.name = "org/student"
    assert service.card() == "# org/student"


def test_a_small_file_with_many_samples_is_not_unpacked(parts, tmp_path):
    soundfile.write(tmp_path / "wide.flac", np.zeros((655350 * 10, 8), np.int16), 655350, format="FLAC")
    assert (tmp_path / "wide.flac").stat().st_size < 2**20
    with pytest.raises(parts["service"].Refusal, match="Recording 1 has 8 channels at 655350 Hz: give one at 16000"):
        parts["service"].Service.listen(None, str(tmp_path / "wide.flac"), "Recording 1", "en")
