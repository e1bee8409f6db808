"""A dataset pushed to a hub by the real client, and training that streams it from there."""

import json

from modeling_oskdft.data.sources import load_manifest
from tests.tiny import tiny_teacher

TRAIN = [
    "train_oskdft.py",
    *("--validation_fraction", "0.3", "--max_steps", "3", "--num_train_epochs", "1", "--report_to", "none"),
    *("--per_device_train_batch_size", "4", "--crop_seconds", "0.5", "--use_cpu", "true"),
    *("--head_type", "statistics_pooling", "--dataloader_num_workers", "2"),
]


def test_push_stream_and_train(tmp_path, hub, at_hub, oskdft, voices, feature_extractor):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/private.txt").touch()
    done = oskdft("push-dataset", voices, "org/voices", "--out", tmp_path / "shards")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/datasets/org/voices"
    assert hub.repositories["dataset", "org/voices"].private
    assert set(hub.files("org/voices", "dataset")) == {
        ".gitattributes",
        "README.md",
        "data/train-00000-of-00001.parquet",
    }
    local = load_manifest(tmp_path / "shards")
    assert len(local) == 40

    tiny_teacher("hubert", True, "group").save_pretrained(tmp_path / "teacher")
    feature_extractor.save_pretrained(tmp_path / "teacher")
    hub.requests.clear()
    losses = []
    for name, data in (("streamed", "hf://datasets/org/voices"), ("local", tmp_path / "shards")):
        places = ("--teacher", tmp_path / "teacher", "--train_data", data, "--output_dir", tmp_path / name)
        done = at_hub(*TRAIN, *places)
        assert done.returncode == 0, done.stderr[-2000:]
        results = json.loads((tmp_path / name / "results.json").read_text())
        losses.append([entry["train_loss"] for entry in results["history"] if "train_loss" in entry])
        if name == "streamed":
            fetched = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
            assert fetched and not list((tmp_path / "home").rglob("*.parquet"))
    assert losses[0] == losses[1]


def test_without_a_token_the_reason_is_a_sentence(tmp_path, hub, oskdft, voices):
    done = oskdft("push-dataset", voices, "org/voices", "--out", tmp_path / "shards", token=None)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "oskdft: The Hub refuses 'org/voices' (401): log in with `hf auth login`, or set HF_TOKEN to a token that may "
        "write there."
    )


def test_an_interrupted_upload_continues(tmp_path, hub, oskdft, voices):
    hub.refuse_uploads_after = 0
    first = oskdft("push-dataset", voices, "org/voices", "--out", tmp_path / "shards")
    assert first.returncode == 2 and "Traceback" not in first.stderr
    assert "stopped (" in first.stderr and "run the same command again" in first.stderr
    (shard,) = (tmp_path / "shards" / "data").iterdir()
    before = shard.stat().st_mtime_ns
    hub.refuse_uploads_after = None
    assert oskdft("push-dataset", voices, "org/voices", "--out", tmp_path / "shards").returncode == 0
    assert shard.stat().st_mtime_ns == before
    assert hub.files("org/voices", "dataset")[f"data/{shard.name}"] == shard.read_bytes()


SHARDS = """
import sys
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.hub.upload import push_dataset
push_dataset(load_manifest(sys.argv[1]), "org/voices", sys.argv[2], shard_seconds=30)
"""


def test_shards_that_have_arrived_are_not_sent_again(tmp_path, hub, at_hub, voices):
    hub.refuse_uploads_after = 1
    assert at_hub("-c", SHARDS, voices, tmp_path / "shards").returncode == 1
    shards = sorted((tmp_path / "shards" / "data").iterdir())
    assert len(shards) > 2 and len(hub.objects) == 1
    hub.refuse_uploads_after = None
    hub.requests.clear()
    done = at_hub("-c", SHARDS, voices, tmp_path / "shards")
    assert done.returncode == 0, done.stderr
    assert sum(method == "PUT" for method, _ in hub.requests) == len(shards) - 1
    files = hub.files("org/voices", "dataset")
    assert all(files[f"data/{shard.name}"] == shard.read_bytes() for shard in shards)


def test_a_page_written_by_hand_is_kept_and_stale_shards_go(tmp_path, hub, oskdft, voices):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/README.md").write_text("licence: mine")
    push = ("push-dataset", voices, "org/voices", "--out", tmp_path / "shards")
    assert oskdft(*push).returncode == 0
    repository = hub.repositories["dataset", "org/voices"]
    repository.commit(hub.files("org/voices", "dataset") | {"data/train-00001-of-00002.parquet": b"of another run"})
    assert oskdft(*push).returncode == 0
    files = hub.files("org/voices", "dataset")
    assert files["README.md"] == b"licence: mine" and "data/train-00001-of-00002.parquet" not in files
