import numpy as np
import pytest

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.embedding.recordings import (
    embed_recordings,
    halves_of,
    read_all,
    read_for_embedding,
    sentences_about,
    weighted_mean,
)
from modeling_oskdft.embedding.runtimes import TorchEmbedder
from tests.tiny import tiny_verifier

RATE = 16000


@pytest.fixture
def embedder(feature_extractor):
    return TorchEmbedder(tiny_verifier(), feature_extractor)


@pytest.fixture
def long(voices):
    """70 s of one voice, with pauses of 3 s."""
    speech = load_audio(sorted(voices.rglob("*.flac"))[0])
    pause = (0.0005 * np.random.default_rng(0).normal(size=3 * RATE)).astype(np.float32)
    return np.resize(np.concatenate([speech, speech, speech, pause]), 70 * RATE)


def test_a_short_recording_is_embedded_as_it_is(embedder, voices):
    files = sorted(voices.rglob("*.flac"))[:3]
    embedded = embed_recordings(embedder, read_all(files))
    for file, vectors in zip(files, embedded, strict=True):
        whole = embedder.embed([load_audio(file)])[0]
        np.testing.assert_allclose(vectors.embedding, whole / np.linalg.norm(whole), atol=1e-5)
        assert len(vectors.windows) == 1


def test_a_long_recording_is_the_mean_of_its_windows_by_speech(embedder, long):
    recording = read_for_embedding(long)
    (vectors,) = embed_recordings(embedder, [recording])
    assert len(vectors.windows) == len(recording.windows) >= 25
    expected = vectors.speech @ vectors.windows
    np.testing.assert_allclose(vectors.embedding, expected / np.linalg.norm(expected), atol=1e-6)
    rows = [embedder.embed([long[window.start : window.stop]])[0] for window in recording.windows]
    np.testing.assert_allclose(vectors.windows, [row / np.linalg.norm(row) for row in rows], atol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.3, 5.0, 7.7, 9.5])
def test_the_edges_of_windows_hardly_matter(embedder, long, shift):
    moved = np.concatenate([np.zeros(round(shift * RATE), np.float32), long])
    first, second = (vectors.embedding for vectors in embed_recordings(embedder, read_all([long, moved])))
    assert float(first @ second) > 1 - 0.02


def test_short_and_long_recordings_keep_their_order(embedder, long, voices):
    file = sorted(voices.rglob("*.flac"))[1]
    together = embed_recordings(embedder, read_all([file, long, file, long[: 35 * RATE]]), batch_size=2)
    for source, vectors in zip([file, long, file, long[: 35 * RATE]], together, strict=True):
        (alone,) = embed_recordings(embedder, read_all([source]))
        np.testing.assert_allclose(vectors.embedding, alone.embedding, atol=1e-5)
    with pytest.raises(ValueError, match="There are no recordings: give one or more"):
        embed_recordings(embedder, [])


def test_the_first_seconds_alone(embedder, long):
    (part,) = embed_recordings(embedder, read_all([long], max_seconds=5))
    (cut,) = embed_recordings(embedder, read_all([long[: 5 * RATE]]))
    np.testing.assert_allclose(part.embedding, cut.embedding, atol=1e-6)


def test_a_long_silence_is_no_speech(embedder):
    with pytest.raises(ValueError, match="Recording 1 is silent"):
        read_for_embedding(np.zeros(40 * RATE, np.float32))


def test_halves_have_equal_speech(voices):
    speech = load_audio(sorted(voices.rglob("*.flac"))[0])
    twice = read_for_embedding(np.concatenate([speech, np.zeros(5 * RATE, np.float32), speech]))
    first, second = halves_of(twice)
    before = twice.speech.seconds_between(0, len(first))
    assert before == pytest.approx(twice.speech.seconds / 2, abs=0.04)
    assert len(first) + len(second) == len(twice.track)
    assert halves_of(read_for_embedding(speech[: 2 * RATE])) is None


def test_opposite_embeddings_have_no_mean():
    with pytest.raises(ValueError, match="opposite embeddings and no mean"):
        weighted_mean(np.array([[1.0, 0], [-1, 0]], np.float32), np.array([0.5, 0.5]))


def test_a_level_detector_is_told_of_once(voices, monkeypatch):
    monkeypatch.setattr("modeling_oskdft.audio.speech.speech_network", lambda: None)
    recordings = list(read_all(sorted(voices.rglob("*.flac"))[:2]))
    (sentence,) = sentences_about(recordings)
    assert sentence.startswith("Speech was found by its level alone")
