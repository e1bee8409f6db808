import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials, write_trials
from modeling_oskdft.embedding.corpus_shards import EmbedShard, plan_corpus, read_corpus, run_corpus, summarise_corpus
from modeling_oskdft.verification.verifier import SpeakerVerifier

pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'modeling-oskdft[scale]'")


@pytest.fixture
def recordings(voices, tmp_path):
    """A manifest of 40 recordings, of which one is cut off after the manifest was written."""
    folder = tmp_path / "voices"
    shutil.copytree(voices, folder)
    load_manifest(folder).save(tmp_path / "voices.parquet")
    damaged = sorted(folder.rglob("*.flac"))[7]
    damaged.write_bytes(damaged.read_bytes()[:200])
    return tmp_path / "voices.parquet"


def shards_of(corpus):
    return [corpus.shard(number).read_bytes() for number in range(corpus.shards)]


def test_each_row_is_what_the_recording_has_alone_and_damaged_ones_are_named(recordings, exported, tmp_path):
    corpus = plan_corpus(str(recordings), str(exported), tmp_path / "out", per_shard=7)
    assert corpus.shards == 6
    for number in range(corpus.shards):
        EmbedShard(corpus)(None, number, corpus.shards)
    assert summarise_corpus(corpus) == {"shards": 6, "of": 6, "embeddings": 39, "damaged": 1}
    rows = [row for number in range(6) for row in pq.read_table(corpus.shard(number)).to_pylist()]
    manifest, verifier = load_manifest(recordings), SpeakerVerifier.from_pretrained(exported)
    audio = {name: manifest.audio(row) for row, name in enumerate(manifest.column("utterance_id"))}
    assert len({row["utterance_id"] for row in rows}) == 39
    for row in rows[::6]:
        np.testing.assert_allclose(row["embedding"], verifier.embed(audio[row["utterance_id"]]), atol=1e-5)
        assert row["fingerprint"] == verifier.fingerprint() and row["seconds_of_speech"] > 0
    (line,) = (corpus.damaged(1)).read_text().splitlines()
    named = json.loads(line)
    assert {named["utterance_id"]} == set(audio) - {row["utterance_id"] for row in rows} and named["reason"].endswith(
        "."
    )
    kept = read_corpus(tmp_path / "out", verifier.fingerprint(), [rows[3]["utterance_id"], "unknown"])
    assert list(kept) == [rows[3]["utterance_id"]] and kept[rows[3]["utterance_id"]].dtype == np.float32


def test_two_workers_write_the_same_bytes_and_a_removed_shard_comes_back(recordings, exported, tmp_path):
    alone = plan_corpus(str(recordings), str(exported), tmp_path / "alone", per_shard=10)
    for number in range(alone.shards):
        EmbedShard(alone)(None, number, alone.shards)
    pair = plan_corpus(str(recordings), str(exported), tmp_path / "pair", per_shard=10)
    run_corpus(pair, workers=2)
    assert shards_of(pair) == shards_of(alone)
    pair.shard(2).unlink()
    before = [pair.shard(number).stat().st_mtime_ns for number in (0, 1, 3)]
    run_corpus(pair)
    assert shards_of(pair) == shards_of(alone)
    assert before == [pair.shard(number).stat().st_mtime_ns for number in (0, 1, 3)], "the others were not made anew"


def test_a_killed_run_goes_on(recordings, exported, tmp_path):
    out = tmp_path / "out"
    words = ["embed-corpus", str(recordings), "--model", str(exported), "--out", str(out), "--per_shard", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "modeling_oskdft.commands", *words],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("shards/*.parquet"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert main([*words, "--json"]) == 0
    names = [name for file in out.glob("shards/*.parquet") for name in pq.read_table(file)["utterance_id"].to_pylist()]
    assert len(names) == len(set(names)) == 39 and not list(out.rglob("*.partial*"))


def test_an_evaluation_reads_them_instead_of_embedding_anew(recordings, exported, tmp_path, capsys):
    manifest = load_manifest(recordings)
    trials = make_trials(manifest.by_speaker(), most=60, seed=0)
    write_trials(trials, tmp_path / "trials.txt")
    damaged = "voice001/session1/01"
    lines = [line for line in (tmp_path / "trials.txt").read_text().splitlines() if damaged not in line]
    (tmp_path / "trials.txt").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    assert main(["embed-corpus", str(recordings), "--model", str(exported), "--out", str(out)]) == 0
    assert "39 embeddings in 1 of 1 shards, 1 damaged, named in damaged/" in capsys.readouterr().out
    options = [
        "evaluate",
        str(exported),
        "--data",
        str(recordings),
        "--trials",
        str(tmp_path / "trials.txt"),
        "--json",
    ]
    assert main(options) == 0, capsys.readouterr().err
    expected = json.loads(capsys.readouterr().out)
    for file in tmp_path.rglob("*.flac"):
        file.write_bytes(b"")  # nothing is read any more
    assert main([*options, "--embeddings", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["eer"] == pytest.approx(expected["eer"]) and found["trials"] == expected["trials"]
    assert main([*options, "--embeddings", str(out), "--scoring", "segments"]) == 2
    assert "stored embeddings are of full recordings" in capsys.readouterr().err


def test_another_corpus_or_model_gets_a_sentence(recordings, exported, saved_verifier, voices, tmp_path, capsys):
    plan_corpus(str(recordings), str(exported), tmp_path / "out")
    for change, words in (
        ({"per_shard": 5}, "holds shards of another per_shard"),
        ({"per_shard": 0}, "per_shard is 0"),
    ):
        with pytest.raises(ValueError, match=words):
            plan_corpus(str(recordings), str(exported), tmp_path / "out", **change)
    few = tmp_path / "few"
    shutil.copytree(sorted(voices.iterdir())[0], few / "a")
    with pytest.raises(ValueError, match="holds shards of another digest"):
        plan_corpus(str(few), str(exported), tmp_path / "out")
    with pytest.raises(ValueError, match="embedded by another model"):
        read_corpus(tmp_path / "out", "1" * 64)
    with pytest.raises(ValueError, match="holds no corpus"):
        read_corpus(tmp_path)
    common = ["embed-corpus", str(recordings), "--model", str(exported), "--out", str(tmp_path / "out")]
    for options, words in (
        (["--workers", "0"], "workers is 0"),
        (["--partition", "p"], "without --executor slurm"),
        (["--executor", "slurm"], "Slurm needs a partition"),
    ):
        assert main([*common, *options]) == 2
        assert words in capsys.readouterr().err
