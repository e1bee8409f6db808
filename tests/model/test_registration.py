import subprocess
import sys

import pytest
from transformers import MODEL_MAPPING, AutoConfig, AutoModel

import modeling_oskdft.model
from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector, OSKDFTModel
from tests.tiny import tiny_config


def test_auto_model_builds_from_a_configuration(tmp_path):
    assert type(AutoModel.from_config(tiny_config())) is OSKDFTForXVector
    OSKDFTModel(tiny_config()).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is OSKDFTConfig
    with pytest.raises(ValueError, match="The configuration holds an OSKDFTModel without a speaker head"):
        AutoModel.from_config(config)


def test_the_class_that_refuses_hides_no_other():
    first, *_, refusing = MODEL_MAPPING[OSKDFTConfig]
    assert first is OSKDFTForXVector, "of a configuration that names no architecture"
    assert refusing.__name__ == "OSKDFTModel" and refusing is not OSKDFTModel
    assert not hasattr(modeling_oskdft.model, "OSKDFTModel")


RUN = """
import runpy, sys
sys.orig_argv, sys.argv = ["python", "-m", "modeling_oskdft.commands"], ["-m", *ARGUMENTS]
try:
    runpy.run_module("modeling_oskdft.commands", run_name="__main__")
except SystemExit:
    pass
print("LOADED", *[name for name in ("torch", "transformers", "pyarrow") if name in sys.modules])
"""


def imported(*arguments, output):
    """List the heavy packages that a command imports, and check that it prints `output`."""
    code = RUN.replace("ARGUMENTS", repr(list(arguments)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output in done.stdout, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("LOADED")).split()[1:]


def test_help_waits_for_neither_torch_nor_transformers():
    assert imported("--help", output="usage: ") == []


def test_an_exported_verifier_is_run_without_torch(exported, voices):
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    assert imported("verify", *recordings, "--model", str(exported), output="(score ") == []
