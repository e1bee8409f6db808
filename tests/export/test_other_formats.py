"""The same verifier in OpenVINO and ExecuTorch: the same embeddings, the same decisions, and what bad input gets."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.commands.main import main
from modeling_oskdft.embedding import other_runtimes
from modeling_oskdft.embedding.runtimes import open_embedder
from modeling_oskdft.export.other_formats import export_other
from modeling_oskdft.files import sha256_of
from tests.tiny import SHAPES, SHORT, tiny_verifier

FORMATS = ["openvino", "executorch"]
GRAPHS = {"openvino": "model.xml", "executorch": "model.pte"}


def wanted(form):
    pytest.importorskip(form, reason=f"{form} is not installed: pip install 'modeling-oskdft[{form}]'")


@pytest.fixture(scope="module", params=FORMATS)
def export(request, saved_verifier, tmp_path_factory):
    wanted(request.param)
    out = tmp_path_factory.mktemp(request.param) / "exported"
    written = export_other(saved_verifier, out, request.param, longest=12.0)
    assert written.cosine > 1 - 1e-4 and written.opset is None and written.bytes > 10_000
    return request.param, out


def test_the_embeddings_of_pytorch(export, saved_verifier, voices):
    form, out = export
    mine, theirs = SpeakerVerifier.from_pretrained(saved_verifier), SpeakerVerifier.from_pretrained(out)
    assert theirs.fingerprint() == mine.fingerprint() and theirs.embedder.backend == form
    recordings = sorted(voices.rglob("*.flac"))[:5]
    waveforms = [load_audio(path) for path in recordings]
    waveforms += [waveforms[0][:1700], np.concatenate(waveforms)[: 11 * 16000]]
    for waveform in waveforms:
        rows = [verifier.embedder.embed([waveform])[0] for verifier in (mine, theirs)]
        assert np.dot(*rows) / np.prod(np.linalg.norm(rows, axis=1)) > 1 - 1e-4
    batch = theirs.embedder.embed(waveforms[:4])
    for row, waveform in zip(batch, waveforms, strict=False):
        alone = theirs.embedder.embed([waveform])[0]
        assert np.dot(row, alone) / np.linalg.norm(row) / np.linalg.norm(alone) > 1 - 1e-4
    results = [verifier.verify(*recordings[:2]) for verifier in (mine, theirs)]
    assert results[0].score == pytest.approx(results[1].score, abs=1e-4)
    assert results[0].same_speaker is results[1].same_speaker


def test_the_program_beside_the_graph_decides_alone(export, saved_verifier, voices):
    form, out = export
    recordings = [str(path) for path in sorted(voices.rglob("*.flac"))[:2]]
    code = f"import sys; sys.modules['modeling_oskdft'] = None; sys.argv = ['verify.py', *{recordings!r}]; "
    code += f"import runpy; runpy.run_path({str(out / 'verify.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    score = SpeakerVerifier.from_pretrained(saved_verifier).verify(*recordings).score
    assert done.returncode in (0, 1), done.stderr
    assert float(done.stdout.split("score ")[1].split(",")[0]) == pytest.approx(score, abs=2e-4)


def test_facts_and_a_changed_graph(export, tmp_path):
    form, out = export
    facts = json.loads((out / "model.json").read_text())
    assert facts["format"] == form and ("longest_input" in facts) is (form == "executorch")
    changed = shutil.copytree(out, tmp_path / "changed")
    graph = changed / GRAPHS[form]
    graph.write_bytes(graph.read_bytes() + b"\n")
    with pytest.raises(ValueError, match="damaged or was changed|no exported verifier"):
        SpeakerVerifier.from_pretrained(changed)
    if form == "openvino":
        shutil.copy(out / "model.xml", graph)
        weights = bytearray((out / "model.bin").read_bytes())
        weights[100] ^= 1
        (changed / "model.bin").write_bytes(weights)
        with pytest.raises(ValueError, match="damaged or was changed"):
            SpeakerVerifier.from_pretrained(changed)
    graph.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no exported verifier"):
        open_embedder(str(changed), form)
    (changed / "model.json").unlink()
    with pytest.raises(ValueError, match=r"model.json is not beside it"):
        open_embedder(str(changed), form)


def test_too_short_and_too_long(export):
    form, out = export
    embedder = open_embedder(str(out), "auto")
    with pytest.raises(ValueError, match="one frame needs"):
        embedder.embed([np.zeros(embedder.shortest - 1, np.float32)])
    noise = np.random.default_rng(0).normal(0, 0.1, 13 * 16000).astype(np.float32)
    if form == "executorch":
        with pytest.raises(ValueError, match="this graph takes 12 s at most"):
            embedder.embed([noise])
    else:
        assert embedder.embed([noise]).shape == (1, embedder.embedding_size)


# The fixture is the third family. Both norms and both orders are among them; the second is thinner.
@pytest.mark.parametrize(("shape", "time_reduction"), [(SHAPES[3], 1), (SHAPES[6], 2)])
def test_one_shape_of_the_other_families(shape, time_reduction, tmp_path, feature_extractor):
    wanted("openvino")
    tiny_verifier(*shape, encoder=SHORT, time_reduction=time_reduction).save_pretrained(tmp_path / "model")
    feature_extractor.save_pretrained(tmp_path / "model")
    assert export_other(tmp_path / "model", tmp_path / "out", "openvino").cosine > 1 - 1e-4


def test_openvino_reads_the_onnx_graph_where_onnxruntime_is_missing(exported, voices):
    wanted("openvino")
    recordings = [str(path) for path in sorted(voices.rglob("*.flac"))[:2]]
    printed = []
    for missing in ((), ("onnxruntime",)):
        code = f"import sys; sys.argv = ['verify.py', *{recordings!r}]; "
        code += "".join(f"sys.modules[{name!r}] = None; " for name in missing)
        code += f"import runpy; runpy.run_path({str(exported / 'verify.py')!r}, run_name='__main__')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        printed.append(float(done.stdout.split("score ")[1].split(",")[0]))
    assert printed[0] == pytest.approx(printed[1], abs=2e-4)


def test_an_export_replaces_an_export_and_nothing_else(saved_verifier, tmp_path, exported):
    wanted("openvino")
    out = shutil.copytree(exported, tmp_path / "out")
    export_other(saved_verifier, out, "openvino")
    assert (out / "model.xml").is_file() and not (out / "model.onnx").exists()
    (out / "mine.txt").write_text("mine")
    before = sha256_of(out / "model.xml")
    with pytest.raises(ValueError, match="holds mine.txt"):
        export_other(saved_verifier, out, "openvino")
    assert sha256_of(out / "model.xml") == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--format", "openvino", "--int8"], "int8 was asked for without calibration"),
        (["--format", "executorch", "--calibration", "voices"], "calibration is 'voices' for a float32 export"),
        (["--format", "browser", "--int8"], "int8 was given for browser"),
        (["--format", "openvino", "--longest", "3"], "longest was given for openvino"),
        (["--longest", "3"], "longest was given for onnx"),
        (["--format", "executorch", "--opset", "20"], "opset was given for executorch"),
        (["--format", "executorch", "--longest", "0.001"], "seconds are needed"),
        (["--format", "executorch", "--longest", "nan"], "seconds are needed"),
    ],
)
def test_options_of_another_format(words, sentence, saved_verifier, tmp_path, capsys):
    assert main(["export", str(saved_verifier), "--out", str(tmp_path / "out"), *words]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_a_missing_runtime_is_named(form, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, form, None)
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    runtime = {"openvino": other_runtimes.OpenVinoEmbedder, "executorch": other_runtimes.ExecuTorchEmbedder}[form]
    with pytest.raises(ImportError, match=rf"{form} is not installed, and runs this export: pip install"):
        runtime(tmp_path / runtime.file)


def test_a_thinner_student_in_executorch(tmp_path, feature_extractor):
    """Its arithmetic with lengths is more than the format holds: the graph has one length there."""
    wanted("executorch")
    tiny_verifier(encoder=SHORT, time_reduction=2).save_pretrained(tmp_path / "model")
    feature_extractor.save_pretrained(tmp_path / "model")
    assert export_other(tmp_path / "model", tmp_path / "out", "executorch", longest=2.5).cosine > 1 - 1e-4
