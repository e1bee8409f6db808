"""Embeddings of a manifest: every utterance once, in batches of about equal lengths, on all processes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import DataLoader, Dataset
from transformers import SequenceFeatureExtractor

from ..audio.loading import SAMPLING_RATE, Waveform, load_audio
from ..data.damaged import DamagedFiles
from ..data.manifest import Manifest
from ..data.shard_reading import chunks_of_groups
from ..data.workers import WorkersThatStay
from ..model.modeling_oskdft import OSKDFTForXVector, shortest_input
from .batches import embed_batch

SEGMENTS, SEGMENT_SECONDS = 5, 3.0  # the paper's protocol
Embeddings = dict[str, NDArray[np.float32]]
Parts = Callable[[Waveform], list[Waveform]]
_Kind = TypeVar("_Kind")


def extract_embeddings(
    verifier: OSKDFTForXVector, feature_extractor: SequenceFeatureExtractor, manifest: Manifest, **options: Any
) -> Embeddings:
    """Utterance id to embedding (embedding_size,) of the whole recording, not normalised.

    options, all with a default:
    batch_seconds: padded audio in a batch, 60. num_workers: processes that read ahead, 0. progress: a bar on a
    terminal. max_damaged: how many unreadable or too short recordings are named in a warning and left out; one more is
    an error that names it, as every one is by default: an evaluation without it would be another one.
    Where a process group exists, each process embeds its share and all get everything; all must call this.
    The verifier is put into eval mode and back.
    """
    lengths = np.asarray(manifest.column("num_samples"))
    whole = _extract(verifier, feature_extractor, manifest, lengths, _whole, **options)
    return {name: embeddings[0] for name, embeddings in whole.items()}


def extract_segment_embeddings(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    segments: int = SEGMENTS,
    seconds: float = SEGMENT_SECONDS,
    **options: Any,
) -> Embeddings:
    """Utterance id to embeddings (segments, embedding_size) of `evenly_spaced_segments`; options as above."""
    samples = round(seconds * SAMPLING_RATE)
    lengths = np.full(len(manifest), segments * samples)
    parts = partial(evenly_spaced_segments, segments=segments, samples=samples)
    return _extract(verifier, feature_extractor, manifest, lengths, parts, **options)


def evenly_spaced_segments(waveform: Waveform, segments: int, samples: int) -> list[Waveform]:
    """`segments` pieces of `samples`, the first at the start, the last at the end; a short recording is repeated.

    The paper's protocol takes 5 of 3 s (scripts/prev of the authors' code).
    """
    if len(waveform) < samples:
        waveform = np.resize(waveform, samples)
    starts = np.linspace(0, len(waveform) - samples, segments).astype(int)
    return [waveform[start : start + samples] for start in starts]


def _whole(waveform: Waveform) -> list[Waveform]:
    return [waveform]


class _Batch(NamedTuple):
    """Rows that could be read with their parts, and the others with what is wrong."""

    rows: list[int]
    parts: list[list[Waveform]]
    damaged: dict[int, Exception]


class _Batches(Dataset[_Batch]):
    """Batches of recordings, read when they are asked for."""

    def __init__(self, manifest: Manifest, batches: list[list[int]], shortest: int, parts: Parts) -> None:
        self.manifest, self.batches, self.shortest, self.parts = manifest, batches, shortest, parts
        self.ids = manifest.table.column("utterance_id")

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> _Batch:
        batch = _Batch([], [], {})
        for row in self.batches[number]:
            try:
                parts = self.parts(self._load(row))
            except (ValueError, OSError) as error:
                batch.damaged[row] = error
                continue
            batch.rows.append(row)
            batch.parts.append(parts)
        return batch

    def _load(self, row: int) -> Waveform:
        waveform = load_audio(self.manifest.audio(row))
        if len(waveform) < self.shortest:
            raise ValueError(
                f"'{self.ids[row]}' has {len(waveform)} samples: one frame needs {self.shortest}; leave that "
                "recording out."
            )
        return waveform


def _extract(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    lengths: NDArray[np.int64],
    parts: Parts,
    batch_seconds: float = 60.0,
    num_workers: int = 0,
    progress: bool = False,
    max_damaged: int = 0,
) -> Embeddings:
    from tqdm.auto import tqdm

    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if _in_a_group() else (0, 1)
    groups = manifest.row_groups()
    if groups is None:
        batches = _length_sorted_batches(lengths, batch_seconds, np.arange(len(lengths)))[rank::processes]
    else:  # each row group is read once, by one worker of one process
        own = chunks_of_groups(groups)[rank::processes]
        batches = [batch for chunk in own for batch in _length_sorted_batches(lengths, batch_seconds, chunk)]
    workers = WorkersThatStay()
    loader = workers.serve(
        DataLoader(
            _Batches(manifest, batches, shortest_input(verifier.config), parts),
            batch_size=None,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # a loader draws a seed: not from the randomness of a training run
            num_workers=num_workers if groups is None else min(num_workers, 1),
        )
    )
    was_training = verifier.training
    verifier.eval()
    found: dict[int, torch.Tensor] = {}
    damaged: dict[int, Exception] = {}
    bar = tqdm(total=len(manifest), desc="embeddings", unit="utt", disable=None if progress and rank == 0 else True)
    try:
        for batch in loader:
            damaged |= batch.damaged
            if len(damaged) > max_damaged:
                break  # all processes meet below, and all end there
            if batch.rows:
                waveforms = [waveform for parts_of_one in batch.parts for waveform in parts_of_one]
                embeddings = embed_batch(verifier, feature_extractor, waveforms).float()
                found |= dict(zip(batch.rows, embeddings.unflatten(0, (len(batch.rows), -1)), strict=True))
            bar.update(processes * (len(batch.rows) + len(batch.damaged)))
    finally:
        workers.release()
    bar.close()
    verifier.train(was_training)
    skipped = DamagedFiles(max_damaged, "Left out of the evaluation:", "{reason}.")
    ids = manifest.table.column("utterance_id")
    for row, error in sorted(_everyones(damaged).items()):
        skipped.skip(ids[row].as_py(), error)
    return _gathered(found, manifest, verifier)


def _as_it_is(batch: _Kind) -> _Kind:
    return batch


def _in_a_group() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _everyones(damaged: dict[int, Exception]) -> dict[int, Exception]:
    if not _in_a_group():
        return damaged
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, damaged)
    return {row: error for part in parts for row, error in part.items()}


def _gathered(found: dict[int, torch.Tensor], manifest: Manifest, verifier: OSKDFTForXVector) -> Embeddings:
    """What all processes have found, by utterance id: a sum, because each row was one process's work."""
    ids = manifest.column("utterance_id")
    if not _in_a_group():
        return {ids[row]: embeddings.cpu().numpy() for row, embeddings in sorted(found.items())}
    parts = torch.tensor([len(next(iter(found.values()))) if found else 0], device=verifier.device)
    distributed.all_reduce(parts, distributed.ReduceOp.MAX)
    everything = torch.zeros(len(ids), int(parts), verifier.config.embedding_size, device=verifier.device)
    there = torch.zeros(len(ids), device=verifier.device)
    for row, embeddings in found.items():
        everything[row] = embeddings
        there[row] = 1.0
    distributed.all_reduce(everything)
    distributed.all_reduce(there)
    rows, values = torch.nonzero(there).flatten().tolist(), everything.cpu().numpy()
    return {ids[row]: values[row] for row in rows}


def _length_sorted_batches(
    lengths: NDArray[np.int64], batch_seconds: float, rows: NDArray[np.int64]
) -> list[list[int]]:
    """Rows from long to short, so that memory is highest at the start and padding is least."""
    budget = batch_seconds * SAMPLING_RATE
    batches: list[list[int]] = []
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(row)
    return batches
