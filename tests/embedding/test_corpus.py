import shutil

import numpy as np
import pytest
import torch

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.embedding import corpus
from modeling_oskdft.embedding.batches import embed_batch
from modeling_oskdft.embedding.corpus import evenly_spaced_segments, extract_embeddings, extract_segment_embeddings
from tests.tiny import SHAPES, tiny_verifier


@pytest.mark.parametrize("shape", SHAPES)
def test_an_embedding_is_the_same_alone_and_in_a_batch(manifest, feature_extractor, shape):
    verifier = tiny_verifier(*shape)
    few = manifest.where("speaker_id", ["voice000", "voice001"])
    batched = extract_embeddings(verifier, feature_extractor, few, batch_seconds=30)
    assert set(batched) == set(few.column("utterance_id"))
    for row, name in enumerate(few.column("utterance_id")):
        alone = embed_batch(verifier, feature_extractor, [load_audio(few.audio(row))]).numpy()[0]
        np.testing.assert_allclose(batched[name], alone, atol=1e-4)


def test_the_mode_of_the_verifier_comes_back(manifest, feature_extractor):
    verifier = tiny_verifier().train()
    few = manifest.where("speaker_id", ["voice000"])
    first = extract_embeddings(verifier, feature_extractor, few)
    assert verifier.training
    second = extract_embeddings(verifier, feature_extractor, few)
    assert all(np.array_equal(first[name], second[name]) for name in first), "dropout was on"
    with pytest.raises(KeyError):
        extract_embeddings(verifier, lambda *_, **options: options["nothing"], few)
    assert verifier.training, "an error left it in eval mode"


def test_a_damaged_file_is_fatal_here_and_named(tmp_path, voices, feature_extractor):
    shutil.copytree(voices / "voice000", tmp_path / "voice000")
    manifest = load_manifest(tmp_path)
    (tmp_path / "voice000/session1/01.flac").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="session1/01.flac"):
        extract_embeddings(tiny_verifier(), feature_extractor, manifest)
    with pytest.warns(UserWarning, match="Left out of the evaluation: .*session1/01.flac"):
        assert len(extract_embeddings(tiny_verifier(), feature_extractor, manifest, max_damaged=1)) == 3


def test_a_recording_without_a_frame_is_named(tmp_path, feature_extractor):
    import soundfile

    (tmp_path / "s/a").mkdir(parents=True)
    soundfile.write(tmp_path / "s/a/short.wav", np.ones(300), 16000)
    with pytest.raises(ValueError, match="'s/a/short' has 300 samples: one frame needs 400"):
        extract_embeddings(tiny_verifier(), feature_extractor, load_manifest(tmp_path))


def test_segments_by_hand():
    waveform = np.arange(100, dtype=np.float32)
    assert [segment[0] for segment in evenly_spaced_segments(waveform, 5, 20)] == [0, 20, 40, 60, 80]
    assert [segment[0] for segment in evenly_spaced_segments(waveform, 3, 50)] == [0, 25, 50]
    short = evenly_spaced_segments(np.arange(3, dtype=np.float32), 2, 7)
    assert [segment.tolist() for segment in short] == [[0, 1, 2, 0, 1, 2, 0]] * 2


def test_segment_embeddings_are_those_of_the_segments(manifest, feature_extractor):
    verifier = tiny_verifier()
    few = manifest.where("speaker_id", ["voice000"])
    embeddings = extract_segment_embeddings(verifier, feature_extractor, few, segments=3, seconds=0.5, batch_seconds=4)
    for row, name in enumerate(few.column("utterance_id")):
        segments = evenly_spaced_segments(load_audio(few.audio(row)), 3, 8000)
        np.testing.assert_allclose(embeddings[name], embed_batch(verifier, feature_extractor, segments), atol=1e-5)


def test_readers_change_nothing(manifest, feature_extractor):
    verifier = tiny_verifier()
    here = extract_embeddings(verifier, feature_extractor, manifest, batch_seconds=8)
    ahead = extract_embeddings(verifier, feature_extractor, manifest, batch_seconds=8, num_workers=2)
    assert list(here) == list(ahead)
    assert all(np.array_equal(here[name], ahead[name]) for name in here)


def _gather_share(rank, store, results, manifest):
    """One of two processes: the odd rows are this one's or the other's, and the last row is nobody's."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    corpus.ROWS_TOGETHER = 3
    rows = range(rank, len(manifest) - 1, 2)
    verifier = tiny_verifier()
    share = {row: torch.full((1, verifier.config.embedding_size), float(row + 1)) for row in rows}
    gathered = corpus._gather(share, manifest, verifier)
    results.put({name: float(values[0, 0]) for name, values in gathered.items()})
    torch.distributed.destroy_process_group()


def test_processes_exchange_embeddings_block_by_block(manifest, tmp_path):
    few = manifest.where("utterance_id", manifest.column("utterance_id")[:8])
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=_gather_share, args=(rank, tmp_path / "store", results, few)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    expected = {name: row + 1.0 for row, name in enumerate(few.column("utterance_id")[:-1])}
    assert found == [expected, expected]
