import io
import json

import numpy as np
import pytest
import soundfile

from modeling_oskdft import OSKDFTModel, SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.audio.speech import speech_seconds
from modeling_oskdft.commands.main import main
from modeling_oskdft.embedding.runtimes import TorchEmbedder
from modeling_oskdft.scoring.thresholds import Thresholds
from tests.tiny import randomise, tiny_config, tiny_verifier


@pytest.fixture
def folder(tmp_path, feature_extractor):
    """A model with a threshold of 0.5 at the EER and none at 0.1 % false accepts."""
    model = tiny_verifier()
    model.save_pretrained(tmp_path / "model")
    feature_extractor.save_pretrained(tmp_path / "model")
    values = {"eer": 0.5, "far_1_percent": 0.999999, "far_0.1_percent": None}
    Thresholds(values, 100, 50, 40, "made up", model.fingerprint()).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def recordings(voices):
    return sorted(str(file) for file in voices.rglob("*.flac"))[:3]


def test_a_model_is_no_embedder():
    with pytest.raises(TypeError, match="given a OSKDFTForXVector: an Embedder is needed, such as runtimes.TorchEmb"):
        SpeakerVerifier(tiny_verifier())


def test_every_kind_of_audio_is_the_same_voice(folder, recordings):
    verifier = SpeakerVerifier.from_pretrained(folder)
    samples, rate = soundfile.read(recordings[0], dtype="float32")
    with open(recordings[0], "rb") as file:
        content = file.read()
    expected = verifier.embed(recordings[0])
    assert expected.shape == (12,) and np.linalg.norm(expected) == pytest.approx(1, abs=1e-6)
    for audio in (content, io.BytesIO(content), (samples, rate), samples, {"array": samples, "sampling_rate": rate}):
        np.testing.assert_allclose(verifier.embed(audio), expected, atol=1e-6)
    stereo = np.stack([samples, samples], axis=1)
    np.testing.assert_allclose(verifier.embed((stereo, rate)), expected, atol=1e-6)


def test_alone_and_in_a_batch(folder, recordings):
    verifier = SpeakerVerifier.from_pretrained(folder)
    together = verifier.embed_many(recordings)
    for row, recording in enumerate(recordings):
        np.testing.assert_allclose(together[row], verifier.embed(recording), atol=1e-5)


def test_the_answer(folder, recordings):
    verifier = SpeakerVerifier.from_pretrained(folder)
    same = verifier.verify(recordings[0], recordings[0])
    assert same.score == pytest.approx(1, abs=1e-5) and same.same_speaker is True and same.threshold == 0.5
    pair = verifier.verify(*recordings[:2])
    one, other = (verifier.embed(recording) for recording in recordings[:2])
    assert pair.score == pytest.approx(float(one @ other), abs=1e-5)
    assert pair.same_speaker is (pair.score >= 0.5) and pair.warnings == ()
    assert verifier.verify(*recordings[:2], operating_point="far_1_percent").same_speaker is False
    unsure = verifier.verify(*recordings[:2], operating_point="far_0.1_percent")
    assert unsure.same_speaker is None and "no threshold at far_0.1_percent" in unsure.warnings[0]
    with pytest.raises(ValueError, match="operating_point is 'best': use one of eer"):
        verifier.verify(*recordings[:2], operating_point="best")


def test_thresholds_of_other_weights_are_left_out(folder, recordings, tmp_path, feature_extractor):
    embedder = SpeakerVerifier.from_pretrained(folder).embedder
    thresholds = Thresholds.load(folder / "thresholds.json")
    with pytest.warns(UserWarning, match="thresholds are of other weights"):
        other = SpeakerVerifier(TorchEmbedder(randomise(embedder.model, seed=1), feature_extractor), thresholds)
    assert other.thresholds is None and other.verify(*recordings[:2]).same_speaker is None
    (folder / "thresholds.json").unlink()
    assert SpeakerVerifier.from_pretrained(folder).thresholds is None
    OSKDFTModel(tiny_config()).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="without a speaker head"):
        SpeakerVerifier.from_pretrained(tmp_path / "encoder")


def test_the_guard_rails(folder, recordings):
    verifier = SpeakerVerifier.from_pretrained(folder)
    speech = load_audio(recordings[0])
    short = verifier.verify((speech[:8000], 16000), recordings[1])
    assert "Recording 1 has 0." in short.warnings[0] and "decisions are unreliable" in short.warnings[0]
    loud = np.clip(speech * 30 / np.abs(speech).max(), -1, 1)
    assert "Recording 1 is clipped" in verifier.verify(loud, recordings[1]).warnings[0]
    with pytest.warns(UserWarning, match="decisions are unreliable"):
        verifier.embed(speech[:8000])
    for silence in (np.zeros(16000, np.float32), np.full(16000, 1e-5, np.float32)):
        with pytest.raises(ValueError, match="Recording 2 is silent"):
            verifier.verify(recordings[0], silence)


def test_pauses_are_no_speech():
    tone = 0.5 * np.sin(np.arange(16000) / 5).astype(np.float32)
    pause = np.zeros(32000, np.float32)
    hiss = 0.001 * np.random.default_rng(0).normal(size=32000).astype(np.float32)
    for rest in (pause, hiss):
        assert speech_seconds(np.concatenate([tone, rest, tone])) == pytest.approx(2.0, abs=0.05)


def test_the_command_answers_by_its_exit_code(folder, recordings, capsys):
    words = ["--model", str(folder)]
    assert main(["verify", recordings[0], recordings[0], *words]) == 0
    assert capsys.readouterr().out.startswith("same speaker (score 1.0000, threshold 0.5000)")
    different = ["verify", *recordings[:2], *words, "--operating_point", "far_1_percent", "--json"]
    assert main(different) == 1
    assert json.loads(capsys.readouterr().out)["same_speaker"] is False
    assert main(["verify", *recordings[:2], *words, "--operating_point", "far_0.1_percent"]) == 3
    printed = capsys.readouterr()
    assert printed.out.startswith("no decision (score") and "no threshold" in printed.err
    assert main(["verify", recordings[0], "nowhere.wav", *words]) == 2
    assert capsys.readouterr().err == "oskdft: There is no recording at 'nowhere.wav': check the path.\n"


def test_embeddings_on_the_command_line(folder, recordings, tmp_path, capsys):
    words = ["--model", str(folder), "--json", "--out", str(tmp_path / "e.npz")]
    assert main(["embed", *recordings, *words]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stored = np.load(tmp_path / "e.npz")
    assert stored["paths"].tolist() == [line["path"] for line in lines] == recordings
    np.testing.assert_allclose(stored["embeddings"], [line["embedding"] for line in lines], atol=1e-6)
    assert main(["embed", recordings[0], "--model", str(folder)]) == 2
    assert "give --out FILE.npz, or --json" in capsys.readouterr().err
