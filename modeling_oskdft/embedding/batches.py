"""Embed one batch of waveforms with a PyTorch verifier."""

from collections.abc import Sequence

import torch
from transformers import SequenceFeatureExtractor

from ..audio.loading import SAMPLING_RATE, Waveform
from ..model.modeling_oskdft import OSKDFTForXVector


@torch.inference_mode()
def embed_batch(
    verifier: OSKDFTForXVector, feature_extractor: SequenceFeatureExtractor, waveforms: Sequence[Waveform]
) -> torch.Tensor:
    """Embed waveforms as one batch, in which no row depends on another.

    Args:
        verifier: the model, in eval mode.
        feature_extractor: the model's feature extractor.
        waveforms: (samples,) each, at 16 kHz.

    Returns:
        (batch, embedding_size) on the model's device, not normalised.

    Raises:
        ValueError: for a waveform that is shorter than one frame.
    """
    inputs = feature_extractor(
        list(waveforms), sampling_rate=SAMPLING_RATE, padding=True, return_attention_mask=True, return_tensors="pt"
    ).to(verifier.device)
    return verifier(inputs["input_values"].to(verifier.dtype), inputs["attention_mask"]).embeddings
