"""The folder of an export for browsers; tests/spaces/in_browser opens it in one."""

import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.embedding.runtimes import OnnxEmbedder, TorchEmbedder
from modeling_oskdft.export import browser
from modeling_oskdft.export.parity import lowest_cosine, noise
from modeling_oskdft.files import read_json, sha256_of


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page that needs no npm."""
    for package in ("onnxruntime", "onnxscript", "silero_vad"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'modeling-oskdft[export,vad]'")
    built = tmp_path / "source" / "dist"
    (built / "assets").mkdir(parents=True)
    for file in (built / "index.html", built / "sw.js", built / "assets/page.js", built.parent / "README.md"):
        file.write_text(file.name)
    monkeypatch.setattr(browser, "built_page", lambda: built)
    return built


def test_the_page_with_a_listing_of_the_verifier(page, saved_verifier, tmp_path, capsys):
    assert main(["export", str(saved_verifier), "--format", "browser", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "int8 weights" in said and "python -m http.server" in said
    out = tmp_path / "out"
    assert (out / "index.html").read_text() == "index.html" and (out / "README.md").is_file()
    listing = read_json(out / "verifier/verifier.json")
    assert set(listing["files"]) == {"model.onnx", "silero_vad_16k_sequence.onnx", "thresholds.json"}
    for name, facts in listing["files"].items():
        file = out / "verifier" / name
        assert (facts["bytes"], facts["sha256"]) == (file.stat().st_size, sha256_of(file))
    assert read_json(out / "verifier/thresholds.json")["graph"] == listing["files"]["model.onnx"]["sha256"]
    exported, source = OnnxEmbedder(out / "verifier/model.onnx"), TorchEmbedder.from_pretrained(str(saved_verifier))
    assert listing["facts"]["fingerprint"] == source.fingerprint()
    assert lowest_cosine(source, exported, noise(8000)) > 0.999


def test_an_export_for_browsers_is_replaced_and_nothing_else_is(page, saved_verifier, tmp_path, capsys):
    def refusal() -> str:
        assert main(["export", str(saved_verifier), "--format", "browser", "--out", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err

    (tmp_path / "out").write_text("")
    assert "is a file" in refusal()
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("all of it")
    assert "holds thesis.tex, which no export wrote" in refusal()
    (tmp_path / "out" / "thesis.tex").rename(tmp_path / "out" / "index.html")
    assert "is no export for browsers" in refusal()
    (tmp_path / "out" / "index.html").unlink()
    (tmp_path / "out" / "verifier").mkdir()
    for name in ("verifier.json", "model.onnx"):  # an earlier export
        (tmp_path / "out" / "verifier" / name).touch()
    browser.export_browser(saved_verifier, tmp_path / "out")
    assert (tmp_path / "out" / "verifier" / "model.onnx").stat().st_size > 1000
    (tmp_path / "out" / ".git").mkdir()  # the clone of a Space
    assert "holds .git, which no export wrote" in refusal()


@pytest.mark.parametrize("words", ["--int8", "--opset 18", "--longest 3", "--split train"])
def test_options_of_another_format(words, saved_verifier, tmp_path, capsys):
    arguments = ["export", str(saved_verifier), "--format", "browser", "--out", str(tmp_path / "out"), *words.split()]
    assert main(arguments) == 2
    assert "was given for browser, where it has no effect: leave it out." in capsys.readouterr().err


def test_without_the_network_that_finds_speech(page, saved_verifier, tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "sequence_model", lambda: None)
    with pytest.raises(ImportError, match=r"silero-vad is not installed, .*modeling-oskdft\[vad\]"):
        browser.export_browser(saved_verifier, tmp_path / "out")
