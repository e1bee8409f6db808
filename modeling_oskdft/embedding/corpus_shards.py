"""Embed a corpus of any size, shard by shard, on the processes of datatrove: this machine's, Slurm's or Ray's.

A shard is a task: some rows of the manifest in, one Parquet file out, whole or not there. Tasks are handed the numbers
of rows; no waveform leaves the process that reads it. A run that was killed goes on with the shards that are missing.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.manifest import Manifest
from ..data.sources import load_manifest
from ..errors import check_choice, printable
from ..files import read_json, whole_file, write_json
from .locations import locate
from .recordings import Recording, embed_recordings, read_for_embedding, sentences_about
from .runtimes import Embedder, open_embedder

EXECUTORS = ("local", "slurm", "ray")
PLAN_NAME, SHARDS, DAMAGED, LOGS = "corpus.json", "shards", "damaged", "logs"
SCHEMA = pa.schema(
    [
        ("utterance_id", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("seconds_of_speech", pa.float32()),
        ("fingerprint", pa.string()),
        ("warnings", pa.list_(pa.string())),
    ]
)
TOGETHER = 64  # recordings that are read before they are embedded
EXTRA = "pip install 'modeling-oskdft[scale]'"


@dataclass(frozen=True)
class Corpus:
    """Describe what is embedded, and where the shards go.

    Attributes:
        manifest: source of the utterances, as `load_manifest` takes it.
        split: rows with this split; None: all.
        data_root: replaces the root of the manifest.
        model: folder or repository of the verifier.
        revision: branch, tag or commit of the repository.
        backend: runtime, as in `open_embedder`.
        device: device of torch; None: the CPU.
        out: folder of the result.
        per_shard: recordings in a shard.
        utterances: number of utterances.
        fingerprint: fingerprint of the weights.
        digest: SHA-256 of the ids of the utterances.
    """

    manifest: str
    split: str | None
    data_root: str | None
    model: str
    revision: str | None
    backend: str
    device: str | None
    out: str
    per_shard: int
    utterances: int
    fingerprint: str
    digest: str

    @property
    def shards(self) -> int:
        """Return the number of shards."""
        return -(-self.utterances // self.per_shard)

    def shard(self, number: int) -> Path:
        """Return the file of a shard."""
        return Path(self.out, SHARDS, f"{number:06d}.parquet")

    def damaged(self, number: int) -> Path:
        """Return the file that names the damaged recordings of a shard; it is there where some are."""
        return Path(self.out, DAMAGED, f"{number:06d}.jsonl")


def plan_corpus(
    manifest: str,
    model: str,
    out: str | Path,
    split: str | None = None,
    data_root: str | None = None,
    revision: str | None = None,
    backend: str = "auto",
    device: str | None = None,
    per_shard: int = 1000,
) -> Corpus:
    """Plan the shards of a corpus, and keep the plan in the folder of the result.

    Args:
        manifest: as in `Corpus`, where all arguments are explained.
        model: see there.
        out: see there.
        split: see there.
        data_root: see there.
        revision: see there.
        backend: see there.
        device: see there.
        per_shard: see there.

    Raises:
        ValueError: for a folder that holds another corpus, or the same one by other weights; for a per_shard below 1.
        OSError: as `load_manifest` and `open_embedder` do.
    """
    if per_shard < 1:
        raise ValueError(f"per_shard is {per_shard}: 1 or more recordings are in a shard.")
    utterances = load_manifest(manifest, split, data_root).column("utterance_id")
    fingerprint = open_embedder(locate(model, revision), backend, device).fingerprint()
    digest = hashlib.sha256("\n".join(utterances).encode("utf-8", "surrogatepass")).hexdigest()
    corpus = Corpus(
        manifest, split, data_root, model, revision, backend, device, str(Path(out).absolute()), per_shard,
        len(utterances), fingerprint, digest,
    )  # fmt: skip
    place = Path(out, PLAN_NAME)
    if place.is_file():
        kept = read_json(place)
        for name in ("fingerprint", "digest", "per_shard"):
            if kept.get(name) != getattr(corpus, name):
                raise ValueError(
                    f"'{printable(str(out))}' holds shards of another {name}: give another folder, or remove this one."
                )
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(asdict(corpus), place)
    return corpus


def run_corpus(
    corpus: Corpus, executor: str = "local", workers: int = 1, options: Mapping[str, object] | None = None
) -> None:
    """Embed the shards that are missing.

    Args:
        corpus: as `plan_corpus` returns it.
        executor: "local", "slurm" or "ray".
        workers: shards at the same time.
        options: further arguments of datatrove's executor, such as `time` and `partition` for Slurm; None: none.

    Raises:
        ImportError: without datatrove, and without Ray for its executor.
        ValueError: for another executor, and as `Embedder.embed` does: a damaged recording is no error.
    """
    check_choice("executor", executor, EXECUTORS)
    if workers < 1:
        raise ValueError(f"workers is {workers}: 1 or more shards are embedded at the same time.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker: they share the cores
    steps = [EmbedShard(corpus)]
    # A shard is done where its file is: the marks of datatrove would outlive a file that somebody has removed.
    common = {
        "tasks": corpus.shards,
        "workers": workers,
        "logging_dir": f"{corpus.out}/{LOGS}",
        "skip_completed": False,
    }
    _executor_of(executor)(pipeline=steps, **common, **(options or {})).run()


def _executor_of(name: str) -> Callable[..., Any]:
    try:
        if name == "local":
            from datatrove.executor.local import LocalPipelineExecutor as Executor
        elif name == "slurm":
            from datatrove.executor.slurm import SlurmPipelineExecutor as Executor
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports home otherwise
            import ray  # noqa: F401  # datatrove imports it without saying what is missing
            from datatrove.executor.ray import RayPipelineExecutor as Executor
    except ImportError as error:
        missing = "ray is not installed, and runs this executor: pip install ray" if error.name == "ray" else None
        raise ImportError(missing or f"datatrove is not installed, and runs the shards: {EXTRA}.") from None
    return Executor


@dataclass(frozen=True)
class EmbedShard:
    """Embed one shard: a step of datatrove.

    Attributes:
        corpus: what is embedded.
    """

    corpus: Corpus

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        """Embed shard number `rank`, unless its file is there.

        Args:
            data: what an earlier step made; there is none.
            rank: number of the shard.
            world_size: number of shards.
        """
        corpus = self.corpus
        if corpus.shard(rank).is_file():
            return
        manifest = _manifest_of(corpus)
        rows = range(rank * corpus.per_shard, min((rank + 1) * corpus.per_shard, len(manifest)))
        embedder = _embedder_of(corpus)
        damaged: list[dict[str, str]] = []
        columns: list[dict[str, Any]] = []
        for batch in _read(manifest, rows, damaged):
            columns += _embed(embedder, batch, damaged)
        if damaged:
            corpus.damaged(rank).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(corpus.damaged(rank)) as file:
                file.write_text("".join(json.dumps(line) + "\n" for line in damaged), encoding="utf-8")
        corpus.shard(rank).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(corpus.shard(rank)) as file:
            pq.write_table(pa.Table.from_pylist(columns, SCHEMA), file)


def _read(manifest: Manifest, rows: range, damaged: list[dict[str, str]]) -> Iterator[list[tuple[str, Recording]]]:
    """Read recordings, some at a time; what cannot be read is put into `damaged`."""
    names, batch = manifest.table.column("utterance_id"), []
    for row in rows:
        name = names[row].as_py()
        try:
            batch.append((name, read_for_embedding(manifest.audio(row))))
        except (ValueError, OSError) as error:
            damaged.append({"utterance_id": name, "reason": str(error)})
        if len(batch) == TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def _embed(
    embedder: Embedder, batch: list[tuple[str, Recording]], damaged: list[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    """Embed recordings together; where one cannot be embedded, each on its own."""
    recordings = [recording for _, recording in batch]
    try:
        embedded = embed_recordings(embedder, recordings)
    except ValueError as error:
        if len(batch) == 1:
            damaged.append({"utterance_id": batch[0][0], "reason": str(error)})
            return
        for one in batch:
            yield from _embed(embedder, [one], damaged)
        return
    fingerprint = embedder.fingerprint()
    for (name, recording), vectors in zip(batch, embedded, strict=True):
        yield {
            "utterance_id": name,
            "embedding": vectors.embedding,
            "seconds_of_speech": recording.speech.seconds,
            "fingerprint": fingerprint,
            "warnings": sentences_about([recording]),
        }


@functools.lru_cache(1)
def _manifest_of(corpus: Corpus) -> Manifest:
    """Read the manifest once in each process."""
    manifest = load_manifest(corpus.manifest, corpus.split, corpus.data_root)
    names = "\n".join(manifest.column("utterance_id")).encode("utf-8", "surrogatepass")
    if hashlib.sha256(names).hexdigest() != corpus.digest:
        raise ValueError(f"'{printable(corpus.manifest)}' has changed while it was embedded: start anew.")
    return manifest


@functools.lru_cache(1)
def _embedder_of(corpus: Corpus) -> Embedder:
    """Open the model once in each process."""
    embedder = open_embedder(locate(corpus.model, corpus.revision), corpus.backend, corpus.device)
    if embedder.fingerprint() != corpus.fingerprint:
        raise ValueError(f"'{printable(corpus.model)}' has changed while the corpus was embedded: start anew.")
    return embedder


def summarise_corpus(corpus: Corpus) -> dict[str, int]:
    """Count what is there: shards, embeddings and damaged recordings.

    Args:
        corpus: as `plan_corpus` returns it.
    """
    files = [corpus.shard(number) for number in range(corpus.shards) if corpus.shard(number).is_file()]
    damaged = [corpus.damaged(number) for number in range(corpus.shards) if corpus.damaged(number).is_file()]
    return {
        "shards": len(files),
        "of": corpus.shards,
        "embeddings": sum(pq.read_metadata(file).num_rows for file in files),
        "damaged": sum(len(file.read_text(encoding="utf-8").splitlines()) for file in damaged),
    }


def read_corpus(
    folder: str | Path, fingerprint: str | None = None, wanted: Collection[str] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Read embeddings from the shards of a corpus.

    Args:
        folder: `out` of the corpus.
        fingerprint: fingerprint of the model that they must be of; None: any.
        wanted: ids of utterances; None: all. Only these are held in memory.

    Returns:
        Utterance id to (embedding_size,), unit length.

    Raises:
        ValueError: for a folder without shards, for shards of other weights, and for one that cannot be read.
    """
    if not Path(folder, PLAN_NAME).is_file():
        raise ValueError(f"'{printable(str(folder))}' holds no corpus: make one with `oskdft embed-corpus`.")
    plan = read_json(Path(folder, PLAN_NAME))
    if fingerprint is not None and plan["fingerprint"] != fingerprint:
        raise ValueError(f"'{printable(str(folder))}' was embedded by another model: embed the corpus anew.")
    chosen = None if wanted is None else pa.array(sorted(wanted), pa.string())
    embeddings: dict[str, NDArray[np.float32]] = {}
    for file in sorted(Path(folder, SHARDS).glob("*.parquet")):
        try:
            table = pq.read_table(file, columns=["utterance_id", "embedding"])
        except (OSError, pa.ArrowInvalid):
            raise ValueError(
                f"'{printable(str(file))}' cannot be read: remove it, and run the same command."
            ) from None
        if chosen is not None:
            table = table.filter(pc.is_in(table.column("utterance_id"), value_set=chosen))
        rows = table.column("embedding").combine_chunks()
        if len(table):
            matrix = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
            embeddings |= dict(zip(table.column("utterance_id").to_pylist(), matrix, strict=True))
    return embeddings
