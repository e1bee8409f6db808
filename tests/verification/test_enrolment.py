from dataclasses import replace

import numpy as np
import pytest
import soundfile

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.scoring.calibration import OperatingPoint
from modeling_oskdft.verification.enrolment import nearest
from modeling_oskdft.verification.voice import Index
from modeling_oskdft.verification.voices import VoiceStore
from tests.scoring.test_calibration import calibration
from tests.tiny import save_verifier

HUMS = {"low": 300.0, "high": 3000.0}


class HumEmbedder:
    """A stand-in for a model: the share of each hum in a waveform; a voice is the hum behind it."""

    embedding_size = 2

    def fingerprint(self):
        return "a" * 64

    def to(self, device):
        return self

    def embed(self, waveforms):
        rows = []
        for waveform in waveforms:
            time = np.arange(len(waveform)) / 16000
            rows.append([abs(np.mean(waveform * np.exp(-2j * np.pi * hum * time))) for hum in HUMS.values()])
        return np.asarray(rows, np.float32)


@pytest.fixture
def say(voices):
    """Makes a recording of a voice by the hum behind it."""
    files = sorted(voices.rglob("*.flac"))

    def make(who, number=0, seconds=3.0):
        speech = np.resize(load_audio(files[number]), round(seconds * 16000))
        hum = np.sin(2 * np.pi * HUMS[who] * np.arange(len(speech)) / 16000)
        return (0.8 * speech / np.abs(speech).max() + 0.05 * hum).astype(np.float32)

    return make


@pytest.fixture
def verifier():
    # The target trials of this curve lie above -1; a cosine of 0.8 has the ratio 0.
    points = {"eer": OperatingPoint(0.0, -1.0, 1.0)}
    stored = calibration(score=(10.0, -8.0), duration=None, operating_points=points, trials=400, target_trials=200)
    curve = stored.curve | {"llr": [-3.0, -1.0, 3.0], "false_rejects": [0.0, 0.01, 1.0]}
    return SpeakerVerifier(HumEmbedder(), calibration=replace(stored, curve=curve))


def test_enrol_verify_identify_forget(verifier, say):
    enrolment = verifier.enroll("Ada", [say("low", 0), say("low", 1)], consent="form 12")
    assert (enrolment.name, enrolment.recordings) == ("Ada", 2) and enrolment.speech > 4
    verifier.enroll("Bob", say("high", 2))
    assert [voice.name for voice in verifier.list()] == ["Ada", "Bob"]
    same, different = verifier.verify("Ada", say("low", 3)), verifier.verify("Ada", say("high", 3))
    assert same.same_speaker is True and different.same_speaker is False and same.llr > 0 > different.llr
    found = verifier.identify(say("high", 1), top_k=2)
    assert [match.name for match in found.matches] == ["Bob", "Ada"] and found.margin > 0
    assert found.matches[0].probability == pytest.approx(1 / (1 + np.exp(-found.matches[0].llr)))  # prior 1/2
    assert found.as_dict()["matches"][0]["name"] == "Bob"
    verifier.rename("Bob", "Bobby")
    verifier.forget("Ada")
    assert [match.name for match in verifier.identify(say("low", 1)).matches] == ["Bobby"]
    assert verifier.identify(say("low", 1)).margin is None
    facts = verifier.voices.get("Bobby").facts[0]
    assert (facts.fingerprint, facts.size, facts.calibration) == ("a" * 64, 2, "2026-11-26") and facts.speech > 2


def test_a_voice_can_be_renewed_by_the_same_speaker(verifier, say):
    verifier.enroll("Ada", say("low", 0), consent="form 12")
    assert verifier.update("Ada", say("low", 1)).recordings == 2
    with pytest.raises(ValueError, match="The recordings do not agree with the voice of 'Ada': 99 of 100"):
        verifier.update("Ada", say("high", 1))
    assert len(verifier.voices.get("Ada").facts) == 2
    with pytest.raises(ValueError, match="'Bob' is not enrolled: there are 'Ada'"):
        verifier.update("Bob", say("low", 1))


def test_the_gate_says_why(verifier, say, tmp_path):
    soundfile.write(tmp_path / "other.wav", say("high", 2), 16000)
    for recordings, said in (
        ([say("low")[:12000]], r"Recording 1 has 0\.\d s of speech: a voice is enrolled with 1 s or more"),
        ([np.clip(30 * say("low"), -1, 1)], "Recording 1 (is clipped: record it again|has 0)"),
        ([say("low", 0), say("low", 1), str(tmp_path / "other.wav")], "other.wav' does not agree with the other reco"),
        ([np.zeros(48000, np.float32)], "Recording 1 is silent"),
        ([], "There are no recordings of 'Ada'"),
    ):
        with pytest.raises(ValueError, match=said):
            verifier.enroll("Ada", recordings)
    with pytest.raises(ValueError, match="has slashes, line breaks or hidden letters"):
        verifier.enroll("a/b", say("low"))
    verifier.enroll("Ada", say("low"))
    with pytest.raises(ValueError, match="'Ada' is enrolled already"):
        verifier.enroll("Ada", say("low"))
    assert len(verifier.voices) == 1


def test_two_speakers_in_one_recording_are_told_of(verifier, say):
    for first, second in ((3.0, 3.0), (20.0, 20.0)):  # one window of two halves, and several windows
        both = np.concatenate([say("low", 0, first), say("high", 1, second)])
        alone = np.concatenate([say("low", 0, first), say("low", 1, second)])
        assert any("may have several speakers" in warning for warning in verifier.enroll("Two", both).warnings)
        assert not any("several speakers" in warning for warning in verifier.enroll("One", alone).warnings)
        verifier.forget("Two"), verifier.forget("One")


def test_a_second_speaker_in_a_long_recording_is_told_of_by_every_door(verifier, say):
    both = np.concatenate([say("low", 0, 20.0), say("high", 1, 20.0)])
    alone = np.concatenate([say("low", 0, 20.0), say("low", 1, 20.0)])
    verifier.enroll("Ada", say("low"))
    for recording, is_told in ((both, True), (alone, False)):
        for answer in (verifier.verify("Ada", recording), verifier.identify(recording)):
            assert any("several speakers" in warning for warning in answer.warnings) is is_told


def test_little_evidence_makes_no_gate(verifier, say):
    verifier.calibration = replace(verifier.calibration, target_trials=20)
    verifier.enroll("Both", [say("low"), say("high")])


def test_the_first_place_does_not_depend_on_how_many_are_shown():
    vectors = np.array([[1.0, 0], [0.98, 0.2], [0.96, 0.28]], np.float32)
    index = Index(["short", "middle", "long"], vectors, np.array([1.0, 2.0, 8.0]))
    stored = calibration(duration=(2.0, 0.0, 2.0, 2.0))
    first = [nearest(index, vectors[0], 8.0, "silero", stored, top_k)[0][0].name for top_k in (1, 2, 3)]
    assert first == ["long"] * 3


def test_without_measurements_nothing_is_said_about_agreement(say):
    verifier = SpeakerVerifier(HumEmbedder())
    verifier.enroll("Both", [say("low"), say("high")])
    found = verifier.identify(say("low"))
    assert found.matches[0].llr is None and found.matches[0].probability is None


def test_the_search_ranks_by_ratio_and_gives_the_prior_of_the_crowd():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(1000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = Index([f"v{number}" for number in range(1000)], vectors, generator.uniform(1, 8, 1000))
    stored = calibration()
    matches, margin = nearest(index, vectors[7], 5.0, "silero", stored, 3)
    assert matches[0].name == "v7" and len(matches) == 3 and margin == pytest.approx(matches[0].llr - matches[1].llr)
    assert matches[0].probability == pytest.approx(1 / (1 + 999 * np.exp(-matches[0].llr)))
    scores = np.sort(vectors @ vectors[7])[::-1]
    without, _ = nearest(index, vectors[7], 5.0, "silero", None, 5)
    assert [match.score for match in without] == pytest.approx(scores[:5].tolist())
    with pytest.raises(ValueError, match="top_k is 0"):
        nearest(index, vectors[7], 5.0, None, None, 0)
    with pytest.raises(ValueError, match="Nobody is enrolled"):
        nearest(Index([], np.zeros((0, 0), np.float32), np.zeros(0)), vectors[7], 5.0, None, None, 3)


def test_voices_of_another_model_are_refused(verifier, say, tmp_path, feature_extractor):
    store = VoiceStore(tmp_path / "voices")
    first = SpeakerVerifier(HumEmbedder(), voices=store)
    first.enroll("Ada", say("low"))
    save_verifier(tmp_path / "model", feature_extractor)
    other = SpeakerVerifier.from_pretrained(tmp_path / "model", voices=tmp_path / "voices")
    for use in (
        lambda: other.identify(say("low")),
        lambda: other.verify("Ada", say("low")),
        lambda: other.enroll("Bob", say("low")),
    ):
        with pytest.raises(ValueError, match="were embedded by another model"):
            use()
