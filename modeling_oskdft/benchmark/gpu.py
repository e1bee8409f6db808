"""Measure the joint step on a GPU at real size, and how much audio a student embeds there.

The step is the benchmark `training`, which runs on any device: steps a second, share of the card's arithmetic, memory,
waiting. Embeddings are those of HuBERT-base's student in bf16, from waveforms in memory to embeddings in memory, as
`embed` gives them. Without a GPU it ends with an error.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor

from ..audio.loading import SAMPLING_RATE
from ..embedding.runtimes import TorchEmbedder
from ..evaluation.cost import alternating_medians
from . import training
from .inference import STUDENT, SYSTEM, model_of

BATCHES, SECONDS, ROUNDS = (1, 64), 10, 9


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Run the benchmark `training` on the GPU, and embed recordings there.

    Returns:
        Its rows and ratios; and the hours of audio that are embedded a second, for each size of batch.

    Raises:
        ValueError: torch finds no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("There is no GPU that torch can use: run the benchmark 'training', which measures a CPU.")
    rows, ratios = training.measure()
    return rows, ratios | embedding_speed(torch.device("cuda"))


def embedding_speed(device: torch.device) -> dict[str, float]:
    """Measure how much audio a student embeds.

    Args:
        device: where it runs.

    Returns:
        Hours of audio a second, by a sentence for each size of batch.
    """
    model = model_of(SYSTEM, STUDENT).to(torch.bfloat16)
    embedder = TorchEmbedder(model, Wav2Vec2FeatureExtractor(return_attention_mask=True)).to(device)
    generator = np.random.default_rng(0)
    recordings = list(generator.normal(0, 0.1, (max(BATCHES), SECONDS * SAMPLING_RATE)).astype(np.float32))
    calls = {str(batch): partial(embedder.embed, recordings[:batch]) for batch in BATCHES}
    seconds = alternating_medians(calls, ROUNDS)
    return {
        f"hours of audio embedded a second, batch {batch} of {SECONDS} s": batch * SECONDS / 3600 / seconds[str(batch)]
        for batch in BATCHES
    }


def explain(rows: list[dict[str, Any]]) -> str:
    """Write the conditions under which the rows were measured."""
    return f"{torch.cuda.get_device_name()}, bf16 autocast, crops of noise, random weights of the published shapes."
