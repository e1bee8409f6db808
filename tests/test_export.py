import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.cli import main
from modeling_oskdft.evaluation.calibration import Thresholds
from modeling_oskdft.export import WRITTEN, export_onnx, write_graph
from modeling_oskdft.modeling_oskdft import shortest_input
from modeling_oskdft.runtimes import OnnxEmbedder, TorchEmbedder
from tests.tiny import SHORT, encoder_config, tiny_verifier

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'modeling-oskdft[export]'")
ROOT = Path(__file__).resolve().parents[1]


class Case(NamedTuple):
    family: str
    pre_norm: bool
    conv_norm: str
    head_type: str
    time_reduction: int
    fields: dict = {}
    do_normalize: bool = True


# Every pair of values of the first five: see `test_the_cases_hold_every_pair`.
CASES = [
    Case("hubert", False, "group", "ecapa_tdnn", 2),
    Case("hubert", True, "layer", "statistics_pooling", 1, {"use_weighted_layer_sum": False}),
    Case("wav2vec2", False, "layer", "ecapa_tdnn", 1, {"adapter_residual": True}),
    Case("wav2vec2", True, "group", "statistics_pooling", 2, do_normalize=False),
    Case("wavlm", False, "layer", "statistics_pooling", 2, {"adapter_size": 0}),
    Case("wavlm", True, "group", "ecapa_tdnn", 1),
]


def test_the_cases_hold_every_pair():
    for one, other in itertools.combinations(range(5), 2):
        values = [{case[place] for case in CASES} for place in (one, other)]
        assert {(case[one], case[other]) for case in CASES} == set(itertools.product(*values))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case[:5])))
def pair(request, tmp_path_factory):
    """The PyTorch verifier and its graph in onnxruntime."""
    case = request.param
    model = tiny_verifier(
        *case[:3],
        head_type=case.head_type,
        time_reduction=case.time_reduction,
        encoder=SHORT,
        ecapa_dilations=(2,),
        **case.fields,
    )
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=case.do_normalize)
    torch_embedder = TorchEmbedder(model, extractor)
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(torch_embedder, path, 20, "tiny")
    return torch_embedder, OnnxEmbedder(path)


def noise(*lengths, seed=0):
    """Waveforms with an offset and a level of their own, as recordings have them."""
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(0.02, 0.05 * (1 + row), samples)).astype(np.float32) for row, samples in enumerate(lengths)
    ]


def cosines(first, second):
    return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def test_the_graph_gives_what_pytorch_gives_at_any_length_and_batch(pair):
    shortest = shortest_input(pair[0].model.config)
    for lengths in ((shortest,), (16000,), (shortest, 4001, 9000), (3000,) * 5):
        expected, found = (embedder.embed(noise(*lengths)) for embedder in pair)
        assert found.shape == expected.shape == (len(lengths), 12)
        assert cosines(expected, found).min() > 1 - 1e-4
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_padding_changes_nothing(pair):
    """Whatever stands in the padding: the graph must not read it."""
    waveforms = noise(2000, 9000, 4001)
    together = pair[1].embed(waveforms)
    alone = np.concatenate([pair[1].embed([waveform]) for waveform in waveforms])
    np.testing.assert_allclose(together, alone, atol=1e-4 * np.abs(alone).max())
    values, mask = np.full((1, 6000), 0.7, np.float32), np.zeros((1, 6000), np.int64)
    values[0, :2000], mask[0, :2000] = waveforms[0], 1
    (loud,) = pair[1].session.run(None, {"input_values": values, "attention_mask": mask})
    np.testing.assert_allclose(loud[0], alone[0], atol=1e-4 * np.abs(alone).max())


@pytest.fixture(scope="module")
def recordings(voices):
    return sorted(str(file) for file in voices.rglob("*.flac"))[:6]


def test_the_folder_and_what_the_graph_says_of_itself(exported, saved_verifier):
    import onnx

    assert {file.name for file in exported.iterdir()} == WRITTEN
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""} and model.opset_import[0].version == 20
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["input_values"] == shapes["attention_mask"] and len(set(shapes["input_values"])) == 2
    assert shapes["embeddings"] == [shapes["input_values"][0], 12]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    torch_verifier = SpeakerVerifier.from_pretrained(saved_verifier)
    assert facts["fingerprint"] == torch_verifier.fingerprint() and facts["sampling_rate"] == "16000"
    assert facts["shortest_input"] == str(shortest_input(torch_verifier.embedder.model.config))


def test_an_export_is_replaced_and_nothing_else_is(exported, saved_verifier, tmp_path, capsys):
    place = tmp_path / "place"
    shutil.copytree(exported, place)
    (place / "thresholds.json").write_text("{}")
    report = export_onnx(saved_verifier, place, opset=18)
    assert report.opset == 18 and report.cosine > 1 - 1e-6
    assert report.bytes == (place / "model.onnx").stat().st_size
    assert Thresholds.load(place / "thresholds.json") == Thresholds.load(saved_verifier / "thresholds.json")
    assert [file.name for file in tmp_path.iterdir()] == ["place"]
    before = sorted(file.name for file in saved_verifier.iterdir())
    assert main(["export", str(saved_verifier), "--out", str(saved_verifier)]) == 2
    assert "which no export wrote: give a folder that is new" in capsys.readouterr().err
    assert sorted(file.name for file in saved_verifier.iterdir()) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file: give a folder"):
        export_onnx(saved_verifier, tmp_path / "file")


def test_what_cannot_be_exported_is_said_in_a_sentence(saved_verifier, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]

    def refusal(*words):
        assert main(["export", *words, *out]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and not (tmp_path / "out").exists()
        return said

    assert "opset is 17: 18 to 23 are supported" in refusal(str(saved_verifier), "--opset", "17")
    assert "There is no verifier that can be read at" in refusal(str(tmp_path / "nothing"))
    HubertModel(encoder_config()).save_pretrained(tmp_path / "plain")
    assert "holds a HubertModel: a saved OSKDFTForXVector" in refusal(str(tmp_path / "plain"))
    shutil.copytree(saved_verifier, tmp_path / "left")
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, sampling_rate=8000)
    extractor.save_pretrained(tmp_path / "left")
    assert "Wav2Vec2FeatureExtractor at 8000 Hz that pads with 0.0" in refusal(str(tmp_path / "left"))


def test_killed_in_the_middle_nothing_has_the_final_name(saved_verifier, tmp_path):
    """The process dies while the folder is being written: after the graph, before the rest."""
    code = """
import os, sys, time
from pathlib import Path
from modeling_oskdft import export
def stop(*_):
    print("written", flush=True)
    time.sleep(60)
export.lowest_cosine = stop
export.write_graph = lambda source, path, *_: path.write_bytes(b"graph")
export.OnnxEmbedder = lambda path: None
export.export_onnx(sys.argv[1], sys.argv[2])
"""
    words = [sys.executable, "-c", code, str(saved_verifier), str(tmp_path / "deep" / "out")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "deep" / "out").exists()
