"""Embed every utterance of a manifest once, in batches of about equal lengths, on all processes."""

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import DataLoader, Dataset
from transformers import SequenceFeatureExtractor

from ..audio.forms import SAMPLING_RATE, Waveform
from ..audio.loading import load_audio
from ..audio.speech import speech_seconds
from ..data.damaged import DamagedFiles
from ..data.manifest import Manifest
from ..data.shard_reading import chunks_of_groups
from ..data.workers import WorkersThatStay
from ..model.modeling_oskdft import OSKDFTForXVector, shortest_input
from .batches import embed_batch

SEGMENTS, SEGMENT_SECONDS = 5, 3.0  # the paper's protocol
ROWS_TOGETHER = 4096  # recordings whose embeddings processes exchange at a time
BATCH_SECONDS = 60.0
EmbeddingsById = dict[str, NDArray[np.float32]]  # by utterance id
Cut = Callable[[Waveform], list[Waveform]]  # makes the pieces of a recording that are embedded
_Item = TypeVar("_Item")


def extract_embeddings(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    batch_seconds: float = BATCH_SECONDS,
    num_workers: int = 0,
    progress: bool = False,
    max_damaged: int = 0,
) -> EmbeddingsById:
    """Embed the whole recording of each utterance.

    Where a process group exists, each process embeds its share and all get all embeddings; all must call this.

    Args:
        verifier: the model; it is in eval mode while this runs, and then in the mode that it had.
        feature_extractor: the model's feature extractor.
        manifest: the utterances.
        batch_seconds: padded audio in a batch at most, in seconds; a longer recording comes alone.
        num_workers: processes that read recordings ahead.
        progress: whether to show a bar, where stderr is a terminal.
        max_damaged: recordings that may be unreadable or too short. Each is named in a warning and left out; one more
            is an error. The default is 0, because an evaluation without a recording is another evaluation.

    Returns:
        Utterance id to (embedding_size,), not normalised.

    Raises:
        ValueError: naming a recording that is damaged or shorter than one frame, beyond `max_damaged`.
    """
    lengths = np.asarray(manifest.column("num_samples"))
    reading = _Reading(batch_seconds, num_workers, progress, max_damaged)
    embeddings = _extract(verifier, feature_extractor, manifest, lengths, _uncut, reading)
    return {name: pieces[0] for name, pieces in embeddings.items()}


def extract_segment_embeddings(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    segments: int = SEGMENTS,
    seconds: float = SEGMENT_SECONDS,
    batch_seconds: float = BATCH_SECONDS,
    num_workers: int = 0,
    progress: bool = False,
    max_damaged: int = 0,
) -> EmbeddingsById:
    """Embed the `evenly_spaced_segments` of each utterance.

    Args:
        verifier: the model, as in `extract_embeddings`, where most of these arguments are explained.
        feature_extractor: the model's feature extractor, see there.
        manifest: the utterances, see there.
        segments: segments of a recording.
        seconds: length of a segment.
        batch_seconds: padded audio in a batch, see there.
        num_workers: processes that read, see there.
        progress: whether to show a bar, see there.
        max_damaged: recordings that may be damaged, see there.

    Returns:
        Utterance id to (segments, embedding_size), not normalised.

    Raises:
        ValueError: as `extract_embeddings` does.
    """
    samples = round(seconds * SAMPLING_RATE)
    lengths = np.full(len(manifest), segments * samples)
    cut = partial(evenly_spaced_segments, segments=segments, samples=samples)
    reading = _Reading(batch_seconds, num_workers, progress, max_damaged)
    return _extract(verifier, feature_extractor, manifest, lengths, cut, reading)


class CutEmbeddings(NamedTuple):
    """Hold the embeddings of recordings as a whole and of a cut of each.

    Attributes:
        embeddings: utterance id to (2, embedding_size), the whole first, not normalised.
        speech: utterance id to the seconds of speech in both.
    """

    embeddings: EmbeddingsById
    speech: dict[str, tuple[float, float]]


def extract_cut_embeddings(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    cut_seconds: Sequence[float],
    batch_seconds: float = BATCH_SECONDS,
    num_workers: int = 0,
    progress: bool = False,
    max_damaged: int = 0,
) -> CutEmbeddings:
    """Embed each utterance as a whole and a cut of its middle, with the seconds of speech of both.

    Args:
        verifier: the model, as in `extract_embeddings`, where most of these arguments are explained.
        feature_extractor: the model's feature extractor, see there.
        manifest: the utterances, see there.
        cut_seconds: lengths of the cuts in seconds, which are taken in turn; a recording that is no longer is cut to
            half of its length.
        batch_seconds: padded audio in a batch, see there.
        num_workers: processes that read, see there.
        progress: whether to show a bar, see there.
        max_damaged: recordings that may be damaged, see there.

    Raises:
        ValueError: as `extract_embeddings` does.
    """
    lengths = 2 * np.asarray(manifest.column("num_samples"))
    cut = _WholeAndMiddle([round(seconds * SAMPLING_RATE) for seconds in cut_seconds], shortest_input(verifier.config))
    reading = _Reading(batch_seconds, num_workers, progress, max_damaged, count_speech=True)
    speech: dict[str, tuple[float, float]] = {}
    return CutEmbeddings(_extract(verifier, feature_extractor, manifest, lengths, cut, reading, speech), speech)


class _WholeAndMiddle:
    """Cut the middle out of a recording; its length is one of `lengths`, always the same for one recording."""

    def __init__(self, lengths: list[int], shortest: int) -> None:
        self.lengths, self.shortest = lengths, shortest

    def __call__(self, waveform: Waveform) -> list[Waveform]:
        # By the samples, not by their number: lengths of files are often multiples of the same few numbers.
        length = self.lengths[zlib.crc32(waveform[:SAMPLING_RATE].tobytes()) % len(self.lengths)]
        if length >= len(waveform):
            length = len(waveform) // 2
        length = min(max(length, self.shortest), len(waveform))
        start = (len(waveform) - length) // 2
        return [waveform, waveform[start : start + length]]


def evenly_spaced_segments(waveform: Waveform, segments: int, samples: int) -> list[Waveform]:
    """Cut segments out of a recording, the first at its start and the last at its end.

    The paper's protocol takes 5 of 3 s (scripts/prev of the authors' code).

    Args:
        waveform: (samples,); a recording shorter than a segment is repeated.
        segments: number of segments, which may overlap.
        samples: length of a segment in samples.

    Returns:
        `segments` waveforms, (samples,).
    """
    if len(waveform) < samples:
        waveform = np.resize(waveform, samples)
    starts = np.linspace(0, len(waveform) - samples, segments).astype(int)
    return [waveform[start : start + samples] for start in starts]


def _uncut(waveform: Waveform) -> list[Waveform]:
    return [waveform]


class _Reading(NamedTuple):
    """Options of both functions above, see `extract_embeddings`."""

    batch_seconds: float
    num_workers: int
    progress: bool
    max_damaged: int
    count_speech: bool = False


class _Batch(NamedTuple):
    """Rows of the manifest with their pieces and the speech in them, and errors of rows that cannot be read."""

    rows: list[int]
    pieces: list[list[Waveform]]
    damaged: dict[int, Exception]
    speech: dict[int, tuple[float, ...]]


class _Batches(Dataset[_Batch]):
    """Read each batch of recordings when it is needed. shortest: samples of one frame."""

    def __init__(
        self, manifest: Manifest, batches: list[list[int]], shortest: int, cut: Cut, count_speech: bool
    ) -> None:
        self.manifest, self.batches, self.shortest, self.cut = manifest, batches, shortest, cut
        self.count_speech = count_speech
        self.ids = manifest.table.column("utterance_id")

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> _Batch:
        batch = _Batch([], [], {}, {})
        for row in self.batches[number]:
            try:
                pieces = self.cut(self._load(row))
            except (ValueError, OSError) as error:
                batch.damaged[row] = error
                continue
            batch.rows.append(row)
            batch.pieces.append(pieces)
            if self.count_speech:
                batch.speech[row] = tuple(map(speech_seconds, pieces))
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
    cut: Cut,
    reading: _Reading,
    speech: dict[str, tuple[float, float]] | None = None,
) -> EmbeddingsById:
    """Embed the pieces of each recording: utterance id to (pieces, embedding_size). lengths: samples of each row.

    speech: is filled with the seconds of speech of each recording's pieces, where `reading` counts them.
    """
    groups = manifest.row_groups()
    batches = _batches_of_this_process(lengths, groups, reading.batch_seconds)
    workers = WorkersThatStay()
    loader = workers.protect(
        DataLoader(
            _Batches(manifest, batches, shortest_input(verifier.config), cut, reading.count_speech),
            batch_size=None,
            collate_fn=_uncollated,
            generator=torch.Generator(),  # a loader draws a seed: not from the randomness of a training run
            num_workers=reading.num_workers if groups is None else min(reading.num_workers, 1),
        )
    )
    was_training = verifier.training
    verifier.eval()
    try:
        embeddings, damaged, seconds = _embed_batches(verifier, feature_extractor, loader, len(manifest), reading)
    finally:
        workers.release()
        verifier.train(was_training)
    skipped = DamagedFiles(reading.max_damaged, "Left out of the evaluation:", "{reason}.")
    ids = manifest.table.column("utterance_id")
    for row, error in sorted(_of_all_processes(damaged).items()):
        skipped.skip(ids[row].as_py(), error)
    if speech is not None:
        speech.update({ids[row].as_py(): pair for row, pair in sorted(_of_all_processes(seconds).items())})
    return _gather(embeddings, manifest, verifier)


def _embed_batches(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    loader: "DataLoader[_Batch]",
    utterances: int,
    reading: _Reading,
) -> tuple[dict[int, torch.Tensor], dict[int, Exception], dict[int, Any]]:
    """Embed the rows of this process: row to (pieces, embedding_size), to error, and to speech. utterances: of all."""
    from tqdm.auto import tqdm

    rank, processes = _rank_and_processes()
    hidden = None if reading.progress and rank == 0 else True  # None: hidden unless stderr is a terminal
    embeddings_by_row: dict[int, torch.Tensor] = {}
    damaged: dict[int, Exception] = {}
    speech: dict[int, Any] = {}
    with tqdm(total=utterances, desc="embeddings", unit="utt", disable=hidden) as bar:
        for batch in loader:
            damaged |= batch.damaged
            speech |= batch.speech
            if len(damaged) > reading.max_damaged:
                break  # not an error yet: all processes exchange their errors, and then all end with the same one
            if batch.rows:
                waveforms = [piece for pieces in batch.pieces for piece in pieces]
                embeddings = embed_batch(verifier, feature_extractor, waveforms).float().cpu()
                embeddings_by_row |= dict(zip(batch.rows, embeddings.unflatten(0, (len(batch.rows), -1)), strict=True))
            bar.update(processes * (len(batch.rows) + len(batch.damaged)))
    return embeddings_by_row, damaged, speech


def _uncollated(batch: _Item) -> _Item:
    return batch


# ---- processes ------------------------------------------------------------------------------------------------------


def _in_a_group() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _rank_and_processes() -> tuple[int, int]:
    return (distributed.get_rank(), distributed.get_world_size()) if _in_a_group() else (0, 1)


def _batches_of_this_process(
    lengths: NDArray[np.int64], groups: NDArray[np.int64] | None, batch_seconds: float
) -> list[list[int]]:
    """Share out the batches; each row group of shards is read once, by one worker of one process."""
    rank, processes = _rank_and_processes()
    if groups is None:
        return _length_sorted_batches(lengths, batch_seconds, np.arange(len(lengths)))[rank::processes]
    chunks = chunks_of_groups(groups)[rank::processes]
    return [batch for chunk in chunks for batch in _length_sorted_batches(lengths, batch_seconds, chunk)]


def _length_sorted_batches(
    lengths: NDArray[np.int64], batch_seconds: float, rows: NDArray[np.int64]
) -> list[list[int]]:
    """Sort rows from long to short, so that memory is highest at the start and padding is least."""
    budget = batch_seconds * SAMPLING_RATE
    batches: list[list[int]] = []
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(row)
    return batches


def _of_all_processes(by_row: dict[int, _Item]) -> dict[int, _Item]:
    if not _in_a_group():
        return by_row
    by_process: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(by_process, by_row)
    return {row: item for items in by_process for row, item in items.items()}


def _gather(
    embeddings_by_row: dict[int, torch.Tensor], manifest: Manifest, verifier: OSKDFTForXVector
) -> EmbeddingsById:
    """Give the embeddings of all processes to each, by sums: every row was embedded by one process.

    A block of rows at a time is on the device, so that a long list does not have to fit there.
    """
    ids = manifest.column("utterance_id")
    if not _in_a_group():
        return {ids[row]: embeddings.numpy() for row, embeddings in sorted(embeddings_by_row.items())}
    pieces_here = max(map(len, embeddings_by_row.values()), default=0)  # a process may have no row
    pieces = torch.tensor([pieces_here], device=verifier.device)
    distributed.all_reduce(pieces, distributed.ReduceOp.MAX)
    gathered: EmbeddingsById = {}
    for start in range(0, len(ids), ROWS_TOGETHER):
        rows = range(start, min(start + ROWS_TOGETHER, len(ids)))
        here = [row for row in rows if row in embeddings_by_row]
        block = torch.zeros(len(rows), int(pieces), verifier.config.embedding_size)
        is_embedded = torch.zeros(len(rows), device=verifier.device)
        for row in here:
            block[row - start] = embeddings_by_row[row]
        is_embedded[[row - start for row in here]] = 1.0
        summed = block.to(verifier.device)
        distributed.all_reduce(summed)
        distributed.all_reduce(is_embedded)
        values = summed.cpu().numpy()
        gathered |= {ids[start + row]: values[row] for row in torch.nonzero(is_embedded).flatten().tolist()}
    return gathered
