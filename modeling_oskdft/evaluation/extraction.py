"""Embeddings of a manifest: every utterance once, whole, in padded batches of about equal lengths."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import SequenceFeatureExtractor

from ..audio import SAMPLING_RATE, Waveform, load_audio
from ..data.manifest import Manifest
from ..modeling_oskdft import OSKDFTForXVector, shortest_input


@torch.inference_mode()
def embed_batch(
    verifier: OSKDFTForXVector, feature_extractor: SequenceFeatureExtractor, waveforms: Sequence[Waveform]
) -> torch.Tensor:
    """Embeddings (batch, embedding_size) of 16 kHz waveforms; a row does not depend on its neighbours."""
    inputs = feature_extractor(
        list(waveforms), sampling_rate=SAMPLING_RATE, padding=True, return_attention_mask=True, return_tensors="pt"
    ).to(verifier.device)
    return verifier(inputs["input_values"].to(verifier.dtype), inputs["attention_mask"]).embeddings


def extract_embeddings(
    verifier: OSKDFTForXVector,
    feature_extractor: SequenceFeatureExtractor,
    manifest: Manifest,
    batch_seconds: float = 60.0,
    progress: bool = False,
    max_damaged: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Utterance id to embedding (embedding_size,), not normalised.

    batch_seconds: padded audio in a batch. max_damaged: how many unreadable or too short recordings are named in a
    warning and left out; one more is a `ValueError` naming it, as every one is by default: an evaluation without it
    would be another one. The verifier is put into eval mode and back.
    """
    from tqdm.auto import tqdm

    was_training = verifier.training
    verifier.eval()
    shortest = shortest_input(verifier.config)
    ids = manifest.column("utterance_id")
    embeddings: dict[str, NDArray[np.float32]] = {}
    damaged = 0
    bar = tqdm(total=len(manifest), desc="embeddings", unit="utt", disable=None if progress else True)
    for rows in _batches(manifest, batch_seconds):
        waveforms: dict[str, Waveform] = {}
        for row in rows:
            try:
                waveforms[ids[row]] = _load(manifest, row, ids[row], shortest)
            except (ValueError, OSError) as error:
                damaged += 1
                if damaged > max_damaged:
                    raise
                warnings.warn(f"Left out of the evaluation: {error}", stacklevel=2)
        if waveforms:
            batch = embed_batch(verifier, feature_extractor, list(waveforms.values()))
            embeddings |= dict(zip(waveforms, batch.float().cpu().numpy(), strict=True))
        bar.update(len(rows))
    bar.close()
    verifier.train(was_training)
    return embeddings


def _load(manifest: Manifest, row: int, name: str, shortest: int) -> Waveform:
    waveform = load_audio(manifest.audio(row))
    if len(waveform) < shortest:
        raise ValueError(
            f"'{name}' has {len(waveform)} samples: one frame needs {shortest}; leave that recording out."
        )
    return waveform


def _batches(manifest: Manifest, batch_seconds: float) -> Iterator[list[int]]:
    """Rows from long to short, so that memory is highest at the start and padding is least."""
    lengths = np.asarray(manifest.column("num_samples"))
    budget = batch_seconds * SAMPLING_RATE
    batch: list[int] = []
    for row in np.argsort(-lengths, kind="stable"):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(int(row))
    if batch:
        yield batch
