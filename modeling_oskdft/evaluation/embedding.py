"""Waveforms to embeddings, and what tells one model's embeddings from another's."""

import hashlib
from collections.abc import Sequence

import torch
from transformers import SequenceFeatureExtractor

from ..audio import SAMPLING_RATE, Waveform
from ..modeling_oskdft import OSKDFTForXVector


@torch.inference_mode()
def embed_batch(
    verifier: OSKDFTForXVector, feature_extractor: SequenceFeatureExtractor, waveforms: Sequence[Waveform]
) -> torch.Tensor:
    """Embeddings (batch, embedding_size) of 16 kHz waveforms; a row does not depend on its neighbours."""
    inputs = feature_extractor(
        list(waveforms), sampling_rate=SAMPLING_RATE, padding=True, return_attention_mask=True, return_tensors="pt"
    ).to(verifier.device)
    return verifier(inputs["input_values"].to(verifier.dtype), inputs["attention_mask"]).embeddings


def fingerprint(verifier: OSKDFTForXVector) -> str:
    """Of all weights, rounded to bfloat16, so that a copy in that precision has it as well."""
    digest = hashlib.sha256()
    for name, value in sorted(verifier.state_dict().items()):
        if value.is_floating_point():
            digest.update(name.encode())
            digest.update(value.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()
