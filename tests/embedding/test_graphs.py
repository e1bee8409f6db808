"""The file that opens the graph of an export, in this package and beside verify.py."""

import hashlib
import sys

import numpy as np
import pytest

from modeling_oskdft.embedding.graphs import digest_of_graph, graph_in, open_graph, wanted_threads
from modeling_oskdft.embedding.runtimes import OnnxEmbedder


@pytest.mark.parametrize(
    ("value", "threads"), [("", 0), ("1", 1), ("3", 3), ("4,2", 4), (" 2 ", 2), ("all", 0), ("-1", 0)]
)
def test_threads_are_the_first_field_of_the_variable(value, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert wanted_threads() == threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert wanted_threads() == 0


def test_weights_in_a_file_of_their_own_are_in_the_digest(tmp_path):
    for name in ("model.xml", "model.bin", "model.onnx"):
        (tmp_path / name).write_text(name)
    assert digest_of_graph(tmp_path / "model.xml") == hashlib.sha256(b"model.xmlmodel.bin").hexdigest()
    assert digest_of_graph(tmp_path / "model.onnx") == hashlib.sha256(b"model.onnx").hexdigest()
    (tmp_path / "model.bin").unlink()
    assert digest_of_graph(tmp_path / "model.xml") == hashlib.sha256(b"model.xml").hexdigest()


def test_a_graph_gives_what_the_package_gives(exported):
    run, facts = open_graph(graph_in(exported))
    waveform = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    embedding = run(waveform[None], np.ones((1, 9000), np.int64))[0]
    embedder = OnnxEmbedder(exported / "model.onnx")
    expected = embedder.embed([waveform])[0]
    cosine = embedding @ expected / np.linalg.norm(embedding) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-6) and facts["fingerprint"] == embedder.fingerprint()


def test_what_is_missing_is_named(exported, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="None of model.onnx, model.xml, model.pte is beside this program"):
        graph_in(tmp_path)
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="onnxruntime or openvino is not installed, and runs model.onnx"):
        open_graph(exported / "model.onnx")
