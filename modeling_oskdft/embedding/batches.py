"""Waveforms to embeddings."""

from collections.abc import Sequence

import torch
from transformers import SequenceFeatureExtractor

from ..audio.loading import SAMPLING_RATE, Waveform
from ..model.modeling_oskdft import OSKDFTForXVector


@torch.inference_mode()
def embed_batch(
    verifier: OSKDFTForXVector, feature_extractor: SequenceFeatureExtractor, waveforms: Sequence[Waveform]
) -> torch.Tensor:
    """Embeddings (batch, embedding_size) of 16 kHz waveforms; a row does not depend on its neighbours."""
    inputs = feature_extractor(
        list(waveforms), sampling_rate=SAMPLING_RATE, padding=True, return_attention_mask=True, return_tensors="pt"
    ).to(verifier.device)
    return verifier(inputs["input_values"].to(verifier.dtype), inputs["attention_mask"]).embeddings
