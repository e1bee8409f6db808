"""SECURITY.md keeps its word: what is executed when a model is opened, and what is not."""

import os
import re
import shutil

import pytest

from tests.pages import ROOT, run_alone


def test_a_model_s_own_code_runs_only_without_the_package(saved_verifier, tmp_path):
    """Each of the six files would leave a mark."""
    folder = tmp_path / "model"
    shutil.copytree(saved_verifier, folder)
    code = sorted(folder.glob("*_oskdft.py"))
    assert [f"`{file.name}`" for file in code] == re.findall(r"`\w+_oskdft\.py`", (ROOT / "SECURITY.md").read_text())
    for file in code:
        file.write_text(f"open('ran', 'a').write('{file.name} ')\n{file.read_text()}")
    given = "from transformers import AutoModel\nAutoModel.from_pretrained('model', trust_remote_code=True)"
    with_package = "from modeling_oskdft import SpeakerVerifier\nSpeakerVerifier.from_pretrained('model')\n"
    run_alone(with_package + given, tmp_path)
    assert not (tmp_path / "ran").exists()
    run_alone(f"import sys\nsys.modules['modeling_oskdft'] = None\n{given}", tmp_path)
    assert set((tmp_path / "ran").read_text().split()) == {file.name for file in code}


def test_no_pickle_runs_when_a_model_is_opened(saved_verifier, tmp_path):
    import torch

    from modeling_oskdft import SpeakerVerifier
    from modeling_oskdft.student.conversion import read_original_checkpoint

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    shutil.copytree(saved_verifier, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({"oskdft.weight": Harmful()}, tmp_path / "model/pytorch_model.bin")
    with pytest.raises(ValueError):
        SpeakerVerifier.from_pretrained(tmp_path / "model")
    with pytest.raises(ValueError):
        read_original_checkpoint(str(tmp_path / "model/pytorch_model.bin"))
    assert not (tmp_path / "ran").exists()
