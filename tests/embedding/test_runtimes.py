import builtins
import sys

import numpy as np
import pytest

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.commands.main import main
from modeling_oskdft.embedding.runtimes import OnnxEmbedder

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'modeling-oskdft[export]'")


@pytest.fixture(scope="module")
def recordings(voices):
    return sorted(str(file) for file in voices.rglob("*.flac"))[:6]


@pytest.fixture
def both(saved_verifier, exported):
    return SpeakerVerifier.from_pretrained(saved_verifier), SpeakerVerifier.from_pretrained(
        exported, backend="onnxruntime"
    )


def test_both_backends_decide_the_same(both, recordings):
    torch_verifier, onnx_verifier = both
    assert onnx_verifier.thresholds == torch_verifier.thresholds is not None
    assert onnx_verifier.fingerprint() == torch_verifier.fingerprint()
    assert onnx_verifier.embedding_size == torch_verifier.embedding_size == 12
    np.testing.assert_allclose(onnx_verifier.embed_many(recordings), torch_verifier.embed_many(recordings), atol=1e-5)
    for point in ("eer", "far_1_percent", "far_0.1_percent"):
        for other in recordings[:3]:
            expected, result = (verifier.verify(recordings[0], other, point) for verifier in both)
            assert result.score == pytest.approx(expected.score, abs=1e-5)
            assert result.same_speaker is expected.same_speaker and result.warnings == expected.warnings
    short = np.tile([0.1, -0.1], 10).astype(np.float32)
    for verifier in both:
        with pytest.raises(ValueError, match="one frame needs 40"):
            verifier.verify(recordings[0], short)


def test_the_text_of_an_embedder_is_short(exported):
    path = exported / "model.onnx"
    assert repr(OnnxEmbedder(path)) == f"OnnxEmbedder('{path}', embedding_size=12)"


def test_a_backend_refuses_other_folders_in_one_sentence(saved_verifier, exported, recordings, tmp_path, capsys):
    def refusal(model, backend):
        assert main(["verify", *recordings[:2], "--model", str(model), "--backend", backend]) == 2
        sentence = capsys.readouterr().err
        assert sentence.count("\n") == 1
        return sentence

    assert "holds an export and no PyTorch weights: open it with backend='auto'" in refusal(exported, "torch")
    assert "holds no model.onnx: write one with `oskdft export`" in refusal(saved_verifier, "onnxruntime")
    assert "There is no folder at" in refusal(tmp_path / "nothing", "onnxruntime")
    with pytest.raises(ValueError, match="backend is 'tensorrt': use one of torch, onnxruntime"):
        SpeakerVerifier.from_pretrained(exported, backend="tensorrt")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    assert "is no exported verifier" in refusal(tmp_path, "onnxruntime")
    with pytest.raises(ValueError, match="device is 'cuda': an exported model runs on the CPU"):
        SpeakerVerifier.from_pretrained(exported, device="cuda", backend="onnxruntime")


def test_without_onnxruntime_the_sentence_says_what_to_install(saved_verifier, exported, monkeypatch, capsys):
    real = builtins.__import__

    def absent(name, *arguments, **options):
        if name.startswith("onnxruntime"):
            raise ImportError("No module named 'onnxruntime'", name="onnxruntime")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"onnxruntime is not installed.*pip install 'modeling-oskdft\[export\]'"):
        OnnxEmbedder(exported / "model.onnx")
    assert main(["embed", "a.wav", "--model", str(exported), "--backend", "onnxruntime", "--json"]) == 2
    sentence = capsys.readouterr().err
    assert sentence.endswith("pip install 'modeling-oskdft[export]'.\n") and sentence.count("\n") == 1


def test_a_session_has_the_threads_of_the_variable(exported, monkeypatch):
    for value, threads in (("", 0), ("4,2", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        session = OnnxEmbedder(exported / "model.onnx").session
        assert session.get_session_options().intra_op_num_threads == threads


def test_a_session_keeps_no_plan_of_memory_for_each_length(exported):
    options = OnnxEmbedder(exported / "model.onnx").session.get_session_options()
    assert options.enable_mem_pattern is False and options.log_severity_level == 4


def test_a_graph_of_another_program_is_refused(exported, tmp_path):
    import onnx

    model = onnx.load(exported / "model.onnx")
    for facts in ({}, {"fingerprint": "one", "shortest_input": "short"}):
        onnx.helper.set_model_props(model, facts)
        onnx.save(model, tmp_path / "model.onnx")
        with pytest.raises(ValueError, match=r"model.onnx' was not written by `oskdft export`: export the verifier\."):
            OnnxEmbedder(tmp_path / "model.onnx")


def test_both_backends_refuse_samples_that_are_not_finite_alike(both):
    fine = np.full(4000, 0.1, np.float32)
    for verifier in both:
        with pytest.raises(ValueError, match="There are no recordings: give one or more"):
            verifier.embed_waveforms([])
        for bad in (np.nan, np.inf):
            spoilt = fine.copy()
            spoilt[7] = bad
            with pytest.raises(ValueError, match="Recording 2 has NaN or infinite samples: finite audio is needed"):
                verifier.embed_waveforms([fine, spoilt])
