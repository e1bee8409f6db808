import math

import numpy as np
import pytest

from modeling_oskdft.embedding.runtimes import TorchEmbedder
from modeling_oskdft.export.int8 import (
    FLOOR,
    StaticConvolutions,
    calibration_recordings,
    embeddings,
    harmless,
    quantise,
)
from modeling_oskdft.export.onnx_graph import write_graph
from tests.tiny import SHORT, tiny_verifier

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'modeling-oskdft[export]'")


@pytest.fixture(scope="module")
def graph(tmp_path_factory, feature_extractor):
    """LayerNorm between the convolutions, a time reduction and the convolutions of an ECAPA-TDNN."""
    model = tiny_verifier(
        "hubert",
        True,
        "layer",
        head_type="ecapa_tdnn",
        time_reduction=2,
        encoder=SHORT,
        ecapa_dilations=(2,),
        ecapa_res2net_scale=2,
    )
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(TorchEmbedder(model, feature_extractor), path, 20, "tiny")
    return path


def test_a_convolution_is_int8_where_it_changes_nothing(graph, voices, tmp_path):
    recordings = calibration_recordings(voices, 80)[::8]
    before = embeddings(graph, recordings)
    all_int8 = quantise(graph, tmp_path / "every.onnx", recordings, floor=-math.inf)
    assert len(all_int8.int8) > 5 and len(all_int8.float32) == 1, "the convolution that reads the waveform"
    all_float = quantise(graph, tmp_path / "none.onnx", recordings, floor=1.1)
    assert all_float.int8 == all_float.two_parts == ()
    assert set(all_float.float32) == {*all_int8.int8, *all_int8.float32}
    lowest = {
        name: (embeddings(tmp_path / f"{name}.onnx", recordings) * before).sum(1).min() for name in ("every", "none")
    }
    assert lowest["none"] > FLOOR and 0.9 < lowest["every"] < lowest["none"]


def test_convolutions_that_fail_in_one_part_are_int8_in_two(graph, voices, tmp_path, monkeypatch):
    recordings = calibration_recordings(voices, 80)[::8]
    before = embeddings(graph, recordings)
    quantise(graph, tmp_path / "plain.onnx", recordings, floor=-math.inf)
    measured = StaticConvolutions.cosine
    monkeypatch.setattr(
        StaticConvolutions,
        "cosine",
        lambda static, int8, two_parts: min(measured(static, int8, two_parts), 0.0 if int8 else 1.0),
    )
    done = quantise(graph, tmp_path / "two.onnx", recordings)
    assert not done.int8 and len(done.two_parts) > 3
    lowest = {
        name: (embeddings(tmp_path / f"{name}.onnx", recordings) * before).sum(1).min() for name in ("plain", "two")
    }
    assert lowest["two"] > FLOOR and lowest["two"] > lowest["plain"]


def test_convolutions_are_judged_together():
    losses = {"a": 0.0004, "b": 0.5, "c": 0.0004, "d": 0.0004}
    measured = []

    def cosine(names):
        measured.append(names)
        return 1 - sum(losses[name] for name in names)

    assert harmless(["a", "c"], 0.999, cosine) == ["a", "c"] and len(measured) == 1
    assert harmless(["a", "b", "c", "d"], 0.999, cosine) == ["a", "c"]
    assert harmless([], 0.999, cosine) == []


def test_calibration_takes_the_beginnings_of_some_recordings(voices, tmp_path):
    (tmp_path / "manifest.csv").write_text(
        "path,speaker,session,split\n"
        + "".join(
            f"{file.relative_to(voices)},{file.parts[-3]},{file.parts[-2]},{'train' if number % 2 else 'test'}\n"
            for number, file in enumerate(sorted(voices.rglob("*.flac")))
        )
    )
    whole = calibration_recordings(voices, 400)
    assert len(whole) == 40 and all(waveform.dtype == np.float32 and len(waveform) <= 64000 for waveform in whole)
    for file in voices.iterdir():
        (tmp_path / file.name).symlink_to(file)
    of_the_split = calibration_recordings(tmp_path / "manifest.csv", 400, "train")
    assert len(of_the_split) == 20
    for waveform, expected in zip(of_the_split, whole[1::2], strict=True):
        np.testing.assert_array_equal(waveform, expected)
