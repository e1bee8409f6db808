import pickle

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.crops import CropDataset, EpochSampler
from modeling_oskdft.data.shard_reading import ShardedRecordings, chunks_of_groups, find_shards, visiting_order
from modeling_oskdft.data.shard_writing import write_shards
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.embedding.corpus import extract_embeddings
from tests.tiny import tiny_verifier


@pytest.fixture
def shards(tmp_path, manifest):
    return write_shards(manifest, tmp_path / "set", shard_seconds=20)


def test_shards_hold_what_the_folder_holds(tmp_path, manifest, shards):
    assert len(shards) > 1
    sharded = load_manifest(tmp_path / "set")
    assert sorted(sharded.column("utterance_id")) == sorted(manifest.column("utterance_id"))
    rows = {name: row for row, name in enumerate(manifest.column("utterance_id"))}
    for row, name in enumerate(sharded.column("utterance_id")):
        np.testing.assert_array_equal(load_audio(sharded.audio(row)), load_audio(manifest.audio(rows[name])))
        assert sharded.column("speaker_id")[row] == manifest.column("speaker_id")[rows[name]]
        assert sharded.column("num_samples")[row] == manifest.column("num_samples")[rows[name]]


def test_a_crop_is_the_same_from_a_file_and_from_a_shard(tmp_path, manifest, shards):
    sharded = load_manifest(tmp_path / "set")
    rows = {name: row for row, name in enumerate(manifest.column("utterance_id"))}
    streamed, local = CropDataset(sharded, 0.5, 7), CropDataset(manifest, 0.5, 7)
    for row, name in enumerate(sharded.column("utterance_id")):
        from_shard, from_file = streamed[3, row], local[3, rows[name]]
        np.testing.assert_array_equal(from_shard["waveform"], from_file["waveform"])
        assert from_shard["label"] == from_file["label"]


def test_a_url_streams_and_fetches_each_row_group_once_an_epoch(tmp_path, manifest, shards, monkeypatch):
    memory = fsspec.filesystem("memory")
    for file in shards:
        memory.pipe(f"/remote/data/{file.name}", file.read_bytes())
    streamed = load_manifest("memory://remote")
    assert sorted(streamed.column("utterance_id")) == sorted(manifest.column("utterance_id"))
    fetched = []
    read = ShardedRecordings._shard

    def counted(self, file):
        fetched.append(file)
        return read(self, file)

    monkeypatch.setattr(ShardedRecordings, "_shard", counted)
    dataset = CropDataset(streamed, 0.5, 0)
    for item in EpochSampler(streamed, 0, readers=1, batch=4):
        dataset[item]
    assert len(fetched) == len(np.unique(streamed.row_groups())) == 10
    extract_embeddings(tiny_verifier(), feature_extractor_of_nothing(), streamed)
    assert len(fetched) == 10  # all still in memory


def feature_extractor_of_nothing():
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(return_attention_mask=True)


@pytest.mark.parametrize(("lanes", "batch"), [(1, 4), (2, 4), (6, 8), (16, 50)])
def test_every_row_once_and_every_lane_its_own_groups(lanes, batch):
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), generator.integers(1, 17, 300))
    order = visiting_order(groups, lanes, batch, np.random.default_rng(1), mixed=8)
    assert sorted(order) == list(range(len(groups)))
    rounds = len(groups) // (lanes * batch) - 1  # the last ones may be what is left over
    visited = [set() for _ in range(lanes)]
    for number in range(rounds * lanes):
        visited[number % lanes] |= set(groups[order[number * batch : (number + 1) * batch]])
    assert sum(len(groups_of_lane) for groups_of_lane in visited) == len(set.union(*visited))
    assert not np.array_equal(order, visiting_order(groups, lanes, batch, np.random.default_rng(2), mixed=8))


def test_a_batch_mixes_row_groups():
    groups = np.repeat(np.arange(200), 16)
    order = visiting_order(groups, 4, 128, np.random.default_rng(0))
    assert min(len(set(groups[order[i : i + 128]])) for i in range(0, 2560, 128)) > 30


def test_a_column_of_texts_is_read_however_its_shards_write_it(tmp_path, manifest):
    files = write_shards(manifest, tmp_path, shard_seconds=30)
    kinds = [pa.large_string(), pa.null(), pa.int64(), pa.string()]
    for number, file in enumerate(files):
        shard = pq.read_table(file)
        mood = pa.nulls(len(shard), kinds[number % 2])
        size = pa.array([1] * len(shard)).cast(kinds[2 + number % 2])
        pq.write_table(shard.append_column("mood", mood).append_column("size", size), file)
    opened = load_manifest(tmp_path)
    assert len(files) > 1 and opened.column("mood") == [None] * len(manifest)
    assert "size" not in opened.table.column_names


def test_little_is_kept_in_memory_and_workers_open_their_own(tmp_path, shards):
    recordings = ShardedRecordings(find_shards(tmp_path / "set"), kept=2)
    for row in range(len(recordings)):
        assert recordings[row]["audio"]["bytes"][:4] == b"fLaC"
        assert len(recordings._cache) <= 2
    copy = pickle.loads(pickle.dumps(recordings))
    assert not copy._open and copy[3]["audio"] == recordings[3]["audio"]


def test_chunks_keep_groups_together():
    groups = np.array([2, 0, 1, 0, 2, 5])
    chunks = chunks_of_groups(groups, together=2)
    assert [sorted(chunk.tolist()) for chunk in chunks] == [[1, 2, 3], [0, 4, 5]]


def test_splits_and_missing_shards_are_named(tmp_path, manifest, shards):
    write_shards(manifest.where("speaker_id", ["voice000"]), tmp_path / "set", split="test")
    assert len(load_manifest(tmp_path / "set", split="test")) == 4
    assert len(load_manifest(tmp_path / "set", split="train")) == 40
    with pytest.raises(FileNotFoundError, match="memory://void' has no Parquet files"):
        load_manifest("memory://void")
    with pytest.raises(FileNotFoundError, match="has no dev-….parquet"):
        load_manifest(tmp_path / "set", split="dev")


def test_shards_of_two_data_sets_are_told_beside_others(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "train-00000-of-00001", "train-x-00000-of-00001"):
        (tmp_path / f"{name}.parquet").touch()
    with pytest.raises(ValueError, match="has shards of two data sets"):
        find_shards(tmp_path)


def test_one_of_several_shards_that_is_missing_is_named(tmp_path, manifest):
    shards = write_shards(manifest, tmp_path / "set", shard_seconds=30)
    assert len(shards) > 2
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=f"has {len(shards) - 1} of {len(shards)} shards, 'train-00001-of-"):
        load_manifest(tmp_path / "set")
