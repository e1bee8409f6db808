import torch

from modeling_oskdft.evaluation.embedding import embed_batch, fingerprint
from tests.tiny import tiny_verifier


def test_one_batch_is_one_row_a_waveform(feature_extractor):
    verifier = tiny_verifier()
    waveforms = [torch.randn(length).numpy() for length in (4000, 9000)]
    embeddings = embed_batch(verifier, feature_extractor, waveforms)
    assert embeddings.shape == (2, 12)
    alone = embed_batch(verifier, feature_extractor, waveforms[:1])
    torch.testing.assert_close(embeddings[:1], alone, atol=1e-4, rtol=1e-4)


def test_a_fingerprint_is_of_the_weights(tmp_path):
    verifier = tiny_verifier()
    known = fingerprint(verifier)
    verifier.save_pretrained(tmp_path)
    again = type(verifier).from_pretrained(tmp_path)
    assert fingerprint(again) == known and fingerprint(again.to(torch.bfloat16)) == known
    with torch.no_grad():
        verifier.head.projection.weight[0, 0] += 0.1
    assert fingerprint(verifier) != known
