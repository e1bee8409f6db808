"""What must not change an embedding, for every family, norm and head, in PyTorch and in onnxruntime."""

import io

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2FeatureExtractor

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.embedding.runtimes import TorchEmbedder
from tests.tiny import tiny_verifier

SAME = 1 - 1e-4
# The lowest cosine of 60 round trips is 0.9889: MP3, and a tiny random network, which listens to what MP3 removes.
LOSSY = 0.98
SHAPES = {
    "hubert, post-norm, group norm, statistics": (("hubert", False, "group"), {}),
    "wav2vec2, pre-norm, layer norm, statistics": (("wav2vec2", True, "layer"), {}),
    "wavlm, post-norm, group norm, statistics": (("wavlm", False, "group"), {}),
    "wavlm, pre-norm, layer norm, ecapa": (("wavlm", True, "layer"), {"head_type": "ecapa_tdnn"}),
    "hubert, post-norm, group norm, ecapa": (("hubert", False, "group"), {"head_type": "ecapa_tdnn"}),
}
quick = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=SHAPES)
def torch_verifier(request):
    shape, fields = SHAPES[request.param]
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    return SpeakerVerifier(TorchEmbedder(tiny_verifier(*shape, **fields), extractor))


@pytest.fixture(scope="module")
def onnx_verifier(tmp_path_factory):
    pytest.importorskip("onnxscript", reason="onnxscript is missing: pip install 'modeling-oskdft[export]'")
    from modeling_oskdft import export_onnx

    place = tmp_path_factory.mktemp("export")
    shape, fields = SHAPES["wavlm, pre-norm, layer norm, ecapa"]
    tiny_verifier(*shape, **fields).save_pretrained(place / "model")
    Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True).save_pretrained(place / "model")
    with pytest.warns(UserWarning, match="has no thresholds"):
        export_onnx(place / "model", place / "out")
    return SpeakerVerifier.from_pretrained(place / "out")


@pytest.fixture(scope="module")
def speech(voices):
    return [load_audio(file) for file in sorted(voices.rglob("*.flac"))]


def cosine(first, second):
    return float(np.asarray(first) @ np.asarray(second))


def check_batches(verifier, speech, order, lengths):
    """A recording has one embedding, whatever its batch mates, their order and its padding are."""
    cut = [speech[row % len(speech)][: 4000 + 2000 * length] for row, length in zip(order, lengths, strict=True)]
    together = verifier.embed_waveforms(cut)
    for size in (1, 2, 3):
        for row, alone in enumerate(verifier.embed_waveforms(cut, batch_size=size)):
            assert cosine(together[row], alone) >= SAME


def check_files(verifier, waveform, gain, rate):
    expected = verifier.embed_waveforms([waveform])[0]
    peak = float(np.abs(waveform).max())
    quiet = (waveform / peak * 0.99 * 10 ** (gain / 20)).astype(np.float32)
    (of_gain,) = verifier.embed_waveforms([quiet])
    assert cosine(expected, of_gain) >= SAME
    for container, subtype in (("FLAC", "PCM_24"), ("WAV", "FLOAT"), ("AIFF", "PCM_24")):
        file = io.BytesIO()
        stereo = np.stack([waveform / peak, waveform / peak], axis=1)
        soundfile.write(file, stereo, 16000, format=container, subtype=subtype)
        assert cosine(expected, verifier.embed_waveforms([load_audio(file.getvalue())])[0]) >= SAME
    # Of a recording at 48 kHz: what lies between 7.5 and 8 kHz is lost by the first resampling, and by no other.
    recorded = soxr.resample(waveform, 16000, 48000, quality="VHQ")
    copy = soxr.resample(recorded, 48000, rate, quality="VHQ")
    first, second = (verifier.embed_waveforms([load_audio(take)])[0] for take in ((recorded, 48000), (copy, rate)))
    assert cosine(first, second) >= SAME


orders = st.lists(st.integers(0, 15), min_size=2, max_size=5)


@quick
@given(order=orders, data=st.data())
def test_padding_order_and_batch_mates(torch_verifier, speech, order, data):
    lengths = data.draw(st.lists(st.integers(0, 12), min_size=len(order), max_size=len(order)))
    check_batches(torch_verifier, speech, order, lengths)


@quick
@given(row=st.integers(0, 15), gain=st.floats(-40, 0), rate=st.sampled_from([32000, 44100, 96000]))
def test_gain_channels_containers_and_rates(torch_verifier, speech, row, gain, rate):
    check_files(torch_verifier, speech[row % len(speech)], gain, rate)


@quick
@given(order=orders, data=st.data(), gain=st.floats(-40, 0), rate=st.sampled_from([32000, 96000]))
def test_the_same_in_onnxruntime(onnx_verifier, speech, order, data, gain, rate):
    lengths = data.draw(st.lists(st.integers(0, 12), min_size=len(order), max_size=len(order)))
    check_batches(onnx_verifier, speech, order, lengths)
    check_files(onnx_verifier, speech[order[0] % len(speech)], gain, rate)


@pytest.mark.parametrize(("container", "options"), [("OGG", {"subtype": "OPUS"}), ("MP3", {}), ("OGG", {})])
def test_a_lossy_container_changes_little(torch_verifier, speech, container, options):
    for waveform in speech[:4]:
        file = io.BytesIO()
        soundfile.write(file, waveform, 16000, format=container, compression_level=0.2, **options)
        expected, lossy = (torch_verifier.embed(source) for source in (waveform, file.getvalue()))
        assert cosine(expected, lossy) >= LOSSY
