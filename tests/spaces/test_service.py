"""The service behind the page of spaces/speaker-verification, without the page."""

import ast
import copy
import importlib
import os
import re
import shutil
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.scoring.thresholds import Thresholds
from modeling_oskdft.verification.voices import VoiceStore
from tests.scoring.test_calibration import calibration
from tests.spaces.conftest import ROOT, SPACE


@pytest.fixture(scope="module")
def modules():
    """The modules beside app.py."""
    sys.path.insert(0, str(SPACE))
    yield {name: importlib.import_module(name) for name in ("uploads", "service", "words", "drawing", "samples")}
    sys.path.remove(str(SPACE))


@pytest.fixture
def service(modules, space_model):
    return modules["service"].Service(str(space_model), str(space_model))


@pytest.fixture
def files(voices):
    return [str(file) for file in sorted(voices.rglob("*.flac"))]


def test_both_models_are_decided_at_the_same_point(service, files):
    for point, kind in (("eer", "same"), ("far_1_percent", "different"), ("far_0.1_percent", "undecided")):
        answer = service.compare(files[0], files[0], point, None, "en")
        assert [verdict.kind for verdict in answer.verdicts] == [kind, kind]
        no_threshold = any("no threshold at far_0.1_percent" in warning for warning in answer.warnings)
        assert no_threshold is (kind == "undecided")
    verdicts = service.compare(files[0], files[0], "slider", 0.2, "en").verdicts
    assert [verdict.kind for verdict in verdicts] == ["same", "undecided"], "the slider is on the student's scale"


def test_the_score_is_the_verifier_s(service, files, space_model):
    expected = SpeakerVerifier.from_pretrained(space_model).verify(files[0], files[5])
    answer = service.compare(files[0], files[5], "eer", None, "en")
    assert answer.verdicts[0].score == pytest.approx(expected.score, abs=1e-5)


def test_a_model_without_thresholds_gives_a_warning(modules, space_model, tmp_path, files):
    shutil.copytree(space_model, tmp_path / "bare")
    for name in ("thresholds.json", "README.md"):
        (tmp_path / "bare" / name).unlink()
    bare = modules["service"].Service(str(tmp_path / "bare"))
    assert bare.points == [] and bare.card() == "# bare"
    for language, warning in (("en", "no threshold at eer"), ("ja", "しきい値がありません")):
        answer = bare.compare(files[0], files[1], "eer", None, language)
        assert answer.verdicts[0].kind == "undecided" and warning in answer.warnings[-1]
    app = importlib.import_module("app")
    page = app.build(bare, modules["samples"].write_samples(tmp_path))
    assert "/verify" in page.get_api_info()["named_endpoints"]


def refusal(service, file, language="en"):
    with pytest.raises(Exception) as raised:
        service.read(str(file), "Recording 1", language)
    assert type(raised.value).__name__ == "Refusal"
    return str(raised.value)


def test_a_small_file_with_hours_in_it_is_not_unpacked(service, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "hours.flac", np.zeros(16000 * 600, np.int16), 16000)
    assert (tmp_path / "hours.flac").stat().st_size < 100_000
    monkeypatch.setattr(sys.modules["service"], "read_recording", lambda *_: pytest.fail("it was unpacked"))
    assert "lasts more than 60 s" in refusal(service, tmp_path / "hours.flac")


def test_files_that_are_no_recordings_are_refused(service, tmp_path):
    (tmp_path / "large.wav").write_bytes(b"\0" * (13 * 2**20))
    assert "has 13 MB: at most 12 MB are taken here" in refusal(service, tmp_path / "large.wav")
    assert "was removed after ten minutes: give it again" in refusal(service, tmp_path / "gone.wav")
    assert "もう一度送ってください" in refusal(service, tmp_path / "gone.wav", "ja")
    soundfile.write(tmp_path / "wild.wav", np.full(16000, 1e18), 16000, subtype="DOUBLE")
    assert "Recording 1 has samples that reach 1.0e+18" in refusal(service, tmp_path / "wild.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(16000, np.nan), 16000, subtype="DOUBLE")
    assert "Recording 1 has NaN or infinite samples" in refusal(service, tmp_path / "nan.wav")
    assert "数値でない" in refusal(service, tmp_path / "nan.wav", "ja")
    (tmp_path / "garbage.wav").write_bytes(b"RIFF, but nothing more")
    assert "読み込めません" in refusal(service, tmp_path / "garbage.wav", "ja")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    assert "is silent: give a recording with speech in it" in refusal(service, tmp_path / "silent.wav")
    assert "録音 1は無音です" in refusal(service, tmp_path / "silent.wav", "ja")
    assert "is missing: record or upload it first" in refusal(service, "")


def test_a_visitor_reads_the_decoder_s_reason(service, files, tmp_path):
    samples, rate = soundfile.read(files[0])
    soundfile.write(tmp_path / "cut.wav", samples, rate)
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    assert refusal(service, tmp_path / "cut.wav").startswith("Recording 1 is truncated: its end is missing")
    assert "途中で切れています" in refusal(service, tmp_path / "cut.wav", "ja")
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
    assert service.slider_threshold("slider", 0.3) == 0.3 and service.slider_threshold("slider", 7) == 1.0
    for value in (float("nan"), float("inf"), "0.3", None):
        assert service.slider_threshold("slider", value) is None
    assert service.slider_threshold("x" * 10**6, 0.3) is None and service.threshold() == 0.5


def test_letters_that_no_page_can_show_leave_a_name(service, files):
    names, _ = service.enrol(VoiceStore(), "Ad\ud800a", files[0], "Recording", "en")
    assert names == ["Ada"]
    for name, language, said in (("a/b", "en", "has slashes, line breaks"), ("a/b", "ja", "使えない文字")):
        with pytest.raises(Exception, match=said):
            service.enrol(VoiceStore(), name, files[0], "Recording", language)


def test_enrolment_has_limits_and_stays_with_its_visitor(service, files):
    voices, other = VoiceStore(), VoiceStore()
    for _ in range(2):  # the same name again replaces the voice
        names, _ = service.enrol(voices, "  Ada   L ", files[0], "Recording", "en")
    assert names == ["Ada L"] == list(copy.deepcopy(voices).voices()) and len(other) == 0
    with pytest.raises(Exception, match="No name was given"):
        service.enrol(voices, " ", files[0], "Recording", "en")
    with pytest.raises(Exception, match="has 41 characters: at most 40"):
        service.enrol(voices, "a" * 41, files[0], "Recording", "en")
    matches, _ = service.identify(voices, files[0], "Recording", "en")
    assert matches[0].name == "Ada L" and matches[0].score == pytest.approx(1, abs=1e-5)
    for number in range(19):
        voices.add(replace(voices.get("Ada L"), name=str(number)))
    with pytest.raises(Exception, match="20 voices are enrolled: forget them first"):
        service.enrol(voices, "Ben", files[0], "Recording", "en")
    with pytest.raises(Exception, match="Nobody is enrolled yet"):
        service.identify(other, files[0], "Recording", "en")


def test_a_calibrated_model_gives_probabilities(space_model, tmp_path, files, modules):
    shutil.copytree(space_model, tmp_path / "model")
    stored = calibration(fingerprint=SpeakerVerifier.from_pretrained(space_model).fingerprint())
    stored.save(tmp_path / "model")
    service = modules["service"].Service(str(tmp_path / "model"))
    verdict = service.compare(files[0], files[5], "eer", None, "en").verdicts[0]
    expected = SpeakerVerifier.from_pretrained(tmp_path / "model").verify(files[0], files[5])
    assert verdict.llr == pytest.approx(expected.llr, abs=1e-3) and verdict.threshold == pytest.approx(
        expected.threshold
    )
    assert verdict.probability == pytest.approx(expected.probability, abs=1e-3)
    own = service.compare(files[0], files[5], "slider", 0.2, "en").verdicts[0]
    assert own.threshold == 0.2 and own.llr == verdict.llr


def test_old_recordings_are_removed_and_new_ones_stay(modules, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("old.wav", "a/older.wav", "new.wav"):
        (tmp_path / name).touch()
    for name in ("old.wav", "a/older.wav"):
        os.utime(tmp_path / name, (0, time.time() - 700))
    modules["uploads"].remove_old_recordings(tmp_path, 600)
    assert [file.name for file in tmp_path.rglob("*.wav")] == ["new.wav"]


def test_every_text_is_there_in_both_languages(modules):
    texts = modules["words"]
    for table in (texts.LABELS, texts.ANSWERS):
        assert set(table["en"]) == set(table["ja"])
        assert all(table["en"][name].count("{") == table["ja"][name].count("{") for name in table["en"])
    for header, language in {"ja,en;q=0.8": "ja", "fr, ja;q=0.5": "ja", "en-GB": "en", "de": "en", None: "en"}.items():
        assert texts.language_of(header) == language


def sentences_of(file):
    """Every text of a source file, with 1 in the place of a value, and without docstrings and comments."""
    tree = ast.parse(file.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(value.value) if isinstance(value, ast.Constant) else "1" for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            yield node.value


def test_every_translated_sentence_is_still_in_the_library(modules):
    """The patterns of words.py are English sentences of other files: a changed sentence needs its pattern changed."""
    package = ROOT / "modeling_oskdft"
    files = [*(package / "audio").glob("*.py"), package / "scoring/thresholds.py", package / "embedding/runtimes.py"]
    files += [*(package / "verification").glob("*.py"), package / "model/modeling_oskdft.py", SPACE / "service.py"]
    sentences = [sentence for file in files for sentence in sentences_of(file)]
    sentences += [f"Recording 1 {sentence}" for sentence in sentences]  # notes lack the recording's name
    assert any(sentence.startswith("1 is silent: ") for sentence in sentences)
    unused = [
        pattern
        for pattern in modules["words"].SENTENCES
        if not any(re.fullmatch(pattern, sentence) for sentence in sentences)
    ]
    assert not unused, "no sentence matches these patterns"


def test_a_sentence_of_the_library_is_translated(modules):
    translate = modules["words"].translate
    sentence = "Recording 2 is silent: give a recording with speech in it."
    assert translate(sentence, "ja").startswith("録音 2は無音")
    for sentence, language in (("Recording 2 is silent: no.", "en"), ("An unknown sentence.", "ja")):
        assert translate(sentence, language) == sentence


def test_the_pictures_hold_every_score(modules):
    draw, texts = modules["drawing"], modules["words"].ANSWERS["en"]
    scores = {"non_target": [-0.9, 0.1, 0.95], "target": [-0.8, 0.5, 0.7]}
    picture = draw.distributions(scores, 0.3, 0.2, texts)
    assert picture.count("<polygon") == 2 and "threshold 0.30" in picture and "score 0.20" in picture
    for samples in (1, 399, 16000, 960000):
        wave = np.random.default_rng(0).normal(size=samples).astype(np.float32)
        assert "nan" not in draw.recording(wave, "Recording 1", texts).replace("base64", "")[:2000]


def test_thresholds_of_the_fixture_are_of_its_model(space_model):
    stored = Thresholds.load(space_model / "thresholds.json")
    assert SpeakerVerifier.from_pretrained(space_model).thresholds == stored


def test_which_model_is_opened(modules, space_model, tmp_path, monkeypatch, capsys):
    module, made = modules["service"], []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OSKDFT_MODEL", raising=False)
    monkeypatch.setattr(
        "modeling_oskdft.commands.demonstration.run",
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


def test_a_small_file_with_many_samples_is_not_unpacked(modules, tmp_path):
    soundfile.write(tmp_path / "wide.flac", np.zeros((655350 * 10, 8), np.int16), 655350, format="FLAC")
    assert (tmp_path / "wide.flac").stat().st_size < 2**20
    with pytest.raises(modules["service"].Refusal, match="Recording 1 has 8 channels at 655350 Hz: give one at 16000"):
        modules["service"].Service.read(None, str(tmp_path / "wide.flac"), "Recording 1", "en")
