import torch

from modeling_oskdft.embedding.batches import embed_batch
from tests.tiny import tiny_verifier


def test_one_batch_is_one_row_a_waveform(feature_extractor):
    verifier = tiny_verifier()
    waveforms = [torch.randn(length).numpy() for length in (4000, 9000)]
    embeddings = embed_batch(verifier, feature_extractor, waveforms)
    assert embeddings.shape == (2, 12)
    alone = embed_batch(verifier, feature_extractor, waveforms[:1])
    torch.testing.assert_close(embeddings[:1], alone, atol=1e-4, rtol=1e-4)
