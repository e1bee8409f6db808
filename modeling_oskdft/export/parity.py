"""Compare an exported graph with its PyTorch verifier: tracing may have taken something for a constant."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from ..audio.forms import SAMPLING_RATE, Waveform
from ..embedding.runtimes import Embedder, TorchEmbedder

PARITY = 1e-4  # largest distance in cosine between the graph and the PyTorch verifier
INT8_PARITY = 0.3  # of an int8 graph on noise: one that was traced wrongly is far from the verifier
BATCH = 8


def lowest_cosine(first: Embedder, second: Embedder, recordings: Sequence[Waveform]) -> float:
    """Measure the lowest cosine between the embeddings of the same recordings by two runtimes.

    Args:
        first: a runtime.
        second: another runtime.
        recordings: (samples,) at 16 kHz.

    Raises:
        ValueError: for embeddings that are not finite.
    """
    batches = [recordings[start : start + BATCH] for start in range(0, len(recordings), BATCH)]
    first_embeddings, second_embeddings = (
        torch.from_numpy(np.concatenate([embedder.embed(batch) for batch in batches])) for embedder in (first, second)
    )
    cosine = float(torch.cosine_similarity(first_embeddings, second_embeddings).min())
    if not math.isfinite(cosine):
        raise ValueError(
            "The verifier or its graph gives NaN or infinite embeddings: export a verifier whose weights are sound."
        )
    return cosine


def check_parity(
    source: TorchEmbedder, exported: Embedder, recordings: Sequence[Waveform], distance: float = PARITY
) -> float:
    """Refuse a graph that is not the verifier.

    Args:
        source: the verifier.
        exported: the graph in its runtime.
        recordings: (samples,) at 16 kHz, of several lengths.
        distance: largest distance in cosine.

    Returns:
        The lowest cosine between their embeddings.

    Raises:
        ValueError: for embeddings that are not finite.
        RuntimeError: for a larger distance.
    """
    cosine = min(lowest_cosine(source, exported, batch) for batch in (recordings, recordings[-1:]))
    if not cosine > 1 - distance:
        raise RuntimeError(f"The exported graph is not the verifier (cosine {cosine:.6f}): report this model's shape.")
    return cosine


def noise(shortest: int) -> list[Waveform]:
    """Draw noise of three lengths, (samples,) each, the first of which is the shortest that the model takes.

    Args:
        shortest: samples of one frame.
    """
    generator = np.random.default_rng(0)
    lengths = (shortest, SAMPLING_RATE, 2 * SAMPLING_RATE)
    return [generator.normal(0.0, 0.1, samples).astype(np.float32) for samples in lengths]
