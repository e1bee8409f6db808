import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from modeling_oskdft import OSKDFTModel, SpeakerVerifier, VerificationResult
from modeling_oskdft.audio.loading import load_audio
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


def test_tensors_and_decoders_are_audio(folder, recordings):
    verifier = SpeakerVerifier.from_pretrained(folder)
    samples, rate = soundfile.read(recordings[0], dtype="float32")
    expected = verifier.embed(recordings[0])
    tensor = torch.from_numpy(samples)

    class AudioDecoder:
        """As `datasets` >= 4 gives one: items by two names, and nothing else."""

        def __getitem__(self, name):
            return {"array": samples, "sampling_rate": rate}[name]

    for audio in (tensor, tensor.requires_grad_(), (tensor, rate), (tensor[None], torch.tensor(rate)), AudioDecoder()):
        np.testing.assert_allclose(verifier.embed(audio), expected, atol=1e-6)
        assert verifier.encode(audio).shape == (12,)
        assert verifier.verify(audio, recordings[0]).score == pytest.approx(1, abs=1e-5)


def test_a_column_of_a_dataset_is_several_recordings(folder, recordings):
    datasets = pytest.importorskip("datasets", reason="datasets is in the extra: pip install 'modeling-oskdft[train]'")
    verifier = SpeakerVerifier.from_pretrained(folder)
    column = datasets.Dataset.from_dict({"path": recordings})["path"]
    np.testing.assert_allclose(verifier.encode(column), verifier.embed_many(recordings), atol=1e-6)


class CountingEmbedder:
    """Keeps the lengths of each batch; its embedding is the length and the first sample of a waveform."""

    embedding_size = 2

    def __init__(self):
        self.batches = []

    def fingerprint(self):
        return "none"

    def to(self, device):
        return self

    def embed(self, waveforms):
        self.batches.append([len(waveform) for waveform in waveforms])
        return np.array([[len(waveform), waveform[0]] for waveform in waveforms], np.float32)


def test_batches_are_bounded_and_rows_keep_their_order(recordings):
    verifier = SpeakerVerifier(CountingEmbedder())
    speech = np.resize(load_audio(recordings[0]), 30 * 16000)
    second = 16000
    lengths = [second, 2 * second, second, second, 3 * second, 2 * second, second]
    embeddings = verifier.embed_many([speech[:length] for length in lengths], batch_size=3)
    assert verifier.embedder.batches == [lengths[:3], lengths[3:6], lengths[6:]]
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    # 2 x 10 s of padded audio: 15 s comes alone, 25 s as well, 9 s and 10 s together.
    long = [15, 9, 10, 25, 1, 1]
    verifier.embedder.batches.clear()
    verifier.embed_many([speech[: seconds * second] for seconds in long], batch_size=2)
    batches = [[length // second for length in batch] for batch in verifier.embedder.batches]
    assert batches == [[15], [9, 10], [25], [1, 1]]
    with pytest.raises(ValueError, match="batch_size is 0: 1 or more recordings are needed in a batch"):
        verifier.embed_many([speech], batch_size=0)


def test_recordings_are_read_a_batch_at_a_time(recordings):
    verifier = SpeakerVerifier(CountingEmbedder())
    batches_before = []

    def five_recordings():
        for _ in range(5):
            batches_before.append(len(verifier.embedder.batches))
            yield recordings[0]

    assert verifier.encode(five_recordings(), batch_size=2).shape == (5, 2)
    assert batches_before == [0, 0, 0, 1, 1]  # the third is read to see that the first batch is full


def test_a_waveform_is_numbered_across_batches():
    verifier = SpeakerVerifier(CountingEmbedder())
    waveforms = [np.ones(400, np.float32) for _ in range(4)]
    waveforms[3][0] = np.nan
    with pytest.raises(ValueError, match="Recording 4 has NaN or infinite samples"):
        verifier.embed_waveforms(waveforms, batch_size=2)


def test_encode_is_embed_in_the_words_of_sentence_transformers(folder, recordings, capsys):
    verifier = SpeakerVerifier.from_pretrained(folder)
    samples, rate = soundfile.read(recordings[0], dtype="float32")
    several = verifier.encode(recordings, batch_size=2)
    assert several.shape == (3, 12) and several.dtype == np.float32
    np.testing.assert_allclose(several, verifier.embed_many(recordings), atol=1e-5)
    np.testing.assert_allclose(verifier.encode(tuple(recordings[:2])), several[:2], atol=1e-5)
    with open(recordings[0], "rb") as file:
        for single in (recordings[0], Path(recordings[0]), samples, (samples, rate), file):
            np.testing.assert_allclose(verifier.encode(single), several[0], atol=1e-5)
    assert verifier.encode(recordings[:1]).shape == (1, 12)
    capsys.readouterr()
    verifier.encode(recordings, batch_size=1)
    assert capsys.readouterr().err == "", "no bar where stderr is no terminal"
    verifier.encode(recordings, show_progress_bar=True)
    assert "3/3" in capsys.readouterr().err
    for wrong in (recordings[0], (samples, rate), {"array": samples, "sampling_rate": rate}, torch.zeros(4000)):
        with pytest.raises(TypeError, match="was given: a list of recordings is needed; use embed for one"):
            verifier.embed_many(wrong)
    with pytest.raises(ValueError, match="There are no recordings: give one or more"):
        verifier.encode([])


def test_similarity_is_the_matrix_of_cosines(folder, recordings):
    verifier = SpeakerVerifier.from_pretrained(folder)
    embeddings = verifier.encode(recordings)
    scores = verifier.similarity(embeddings, 3 * embeddings[:2])
    assert scores.shape == (3, 2) and scores.dtype == np.float32
    assert scores[2, 1] == pytest.approx(verifier.verify(recordings[2], recordings[1]).score, abs=1e-5)
    assert verifier.similarity(embeddings[0], torch.from_numpy(embeddings[0])) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match=r"Embeddings of shapes \(3, 12\) and \(3, 5\) were given"):
        verifier.similarity(embeddings, embeddings[:, :5])
    with pytest.raises(ValueError, match="has no direction"):
        verifier.similarity(embeddings, np.zeros(12))


def test_texts_of_objects_are_short(folder):
    verifier = SpeakerVerifier.from_pretrained(folder)
    thresholds = "Thresholds(eer=0.5000, far_1_percent=1.0000, far_0.1_percent=None, trials=100, speakers=40, "
    thresholds += "data='made up')"
    embedder = f"TorchEmbedder('{folder}', embedding_size=12, device='cpu', dtype='float32')"
    assert repr(verifier.thresholds) == thresholds and repr(verifier.embedder) == embedder
    assert repr(verifier) == f"SpeakerVerifier({embedder}, {thresholds})"
    result = VerificationResult(0.123456, True, 0.1, ("Recording 1 is clipped.",))
    assert repr(result) == (
        "VerificationResult(score=0.1235, same_speaker=True, threshold=0.1000, warnings=('Recording 1 is clipped.',))"
    )
    assert repr(VerificationResult(-0.5, None, None)) == (
        "VerificationResult(score=-0.5000, same_speaker=None, threshold=None)"
    )


def test_the_answer(folder, recordings):
    verifier = SpeakerVerifier.from_pretrained(folder)
    same = verifier.verify(recordings[0], recordings[0])
    assert same.score == pytest.approx(1, abs=1e-5) and same.same_speaker is True and same.threshold == 0.5
    pair = verifier.verify(*recordings[:2])
    first, second = (verifier.embed(recording) for recording in recordings[:2])
    assert pair.score == pytest.approx(float(first @ second), abs=1e-5)
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
    assert any("Recording 1 is clipped" in warning for warning in verifier.verify(loud, recordings[1]).warnings)
    with pytest.warns(UserWarning, match="decisions are unreliable"):
        verifier.embed(speech[:8000])
    for silence in (np.zeros(16000, np.float32), np.full(16000, 1e-5, np.float32)):
        with pytest.raises(ValueError, match="Recording 2 is silent"):
            verifier.verify(recordings[0], silence)


def test_the_command_answers_by_its_exit_code(folder, recordings, capsys):
    model = ["--model", str(folder)]
    assert main(["verify", recordings[0], recordings[0], *model]) == 0
    assert capsys.readouterr().out.startswith("same speaker (score 1.0000, threshold 0.5000)")
    different = ["verify", *recordings[:2], *model, "--operating_point", "far_1_percent", "--json"]
    assert main(different) == 1
    assert json.loads(capsys.readouterr().out)["same_speaker"] is False
    assert main(["verify", *recordings[:2], *model, "--operating_point", "far_0.1_percent"]) == 3
    printed = capsys.readouterr()
    assert printed.out.startswith("no decision (score") and "no threshold" in printed.err
    assert main(["verify", recordings[0], "nowhere.wav", *model]) == 2
    assert capsys.readouterr().err == "oskdft: There is no recording at 'nowhere.wav': check the path.\n"


def test_embeddings_on_the_command_line(folder, recordings, tmp_path, capsys):
    options = ["--model", str(folder), "--json", "--out", str(tmp_path / "e.npz")]
    assert main(["embed", *recordings, *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stored = np.load(tmp_path / "e.npz")
    assert stored["paths"].tolist() == [line["path"] for line in lines] == recordings
    np.testing.assert_allclose(stored["embeddings"], [line["embedding"] for line in lines], atol=1e-6)
    assert main(["embed", recordings[0], "--model", str(folder)]) == 2
    assert "give --out FILE.npz, or --json" in capsys.readouterr().err
