"""int8 in OpenVINO and ExecuTorch: smaller, near, and opened as any other export."""

import json
import sys

import pytest
from safetensors.torch import load_file

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.commands.main import main
from modeling_oskdft.export.other_formats import export_other
from tests.export.test_other_formats import wanted


@pytest.mark.parametrize(("form", "weights"), [("openvino", "model.bin"), ("executorch", "model.pte")])
def test_int8_is_smaller_and_near(form, weights, saved_verifier, voices, tmp_path, capfd):
    wanted(form)
    if form == "openvino":
        pytest.importorskip("nncf", reason="nncf is not installed: pip install 'modeling-oskdft[openvino]'")
    out = tmp_path / "out"
    words = ["--format", form, "--int8", "--calibration", str(voices), "--out", str(out), "--json"]
    assert main(["export", str(saved_verifier), *words, *(["--longest", "4"] if form == "executorch" else [])]) == 0
    written = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert written["precision"] == "int8" and 0.99 < written["cosine"] < 1 - 1e-5
    most = {"openvino": 1.5, "executorch": 6.0}[form]  # times the parameters; a tiny program is larger than they are
    parameters = sum(value.numel() for value in load_file(saved_verifier / "model.safetensors").values())
    assert (out / weights).stat().st_size < most * parameters
    recordings = sorted(voices.rglob("*.flac"))[:2]
    opened, expected = SpeakerVerifier.from_pretrained(out), SpeakerVerifier.from_pretrained(saved_verifier)
    assert opened.fingerprint() == expected.fingerprint() and opened.thresholds is not None
    assert opened.verify(*recordings).score == pytest.approx(expected.verify(*recordings).score, abs=0.03)


def test_a_missing_quantizer_is_named(saved_verifier, voices, tmp_path, monkeypatch):
    wanted("openvino")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(
        ImportError, match=r"nncf is not installed or too old, .*pip install 'modeling-oskdft\[openvino\]'"
    ):
        export_other(saved_verifier, tmp_path / "out", "openvino", int8=True, calibration=voices)
    assert not (tmp_path / "out").exists()
