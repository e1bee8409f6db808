import json
import os
import subprocess
import sys

import pytest

from modeling_oskdft.cli import main
from modeling_oskdft.evaluation.scoring import make_trials, write_trials
from tests.test_conversion import original_names
from tests.tiny import tiny_config, tiny_verifier


@pytest.fixture
def saved(tmp_path, feature_extractor):
    tiny_verifier().save_pretrained(tmp_path / "model")
    feature_extractor.save_pretrained(tmp_path / "model")
    return tmp_path


def test_evaluate_prints_rates_and_their_intervals(saved, voices, manifest, capsys):
    write_trials(make_trials(manifest.by_speaker()), saved / "trials.txt")
    words = ["evaluate", str(saved / "model"), "--data", str(voices), "--trials", str(saved / "trials.txt")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "EER" in printed and "minDCF" in printed and "120 trials of 10 speakers" in printed
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 120


def test_an_error_is_one_sentence_on_stderr_and_2(saved, voices, capsys):
    words = ["evaluate", str(saved / "model"), "--data", str(voices), "--trials", str(saved / "none.txt")]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "no trial list at" in captured.err
    with pytest.raises(FileNotFoundError):
        main([*words, "--debug"])


def test_convert_writes_a_folder_that_opens(tmp_path, capsys):
    from safetensors.torch import save_file

    from modeling_oskdft import OSKDFTModel

    encoder = OSKDFTModel(tiny_config(adapter_norm=False))
    state = {name: value.contiguous() for name, value in original_names(encoder, "hubert.").items()}
    save_file(state, tmp_path / "original.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"encoder_config": encoder.config.encoder_config.to_dict()}))
    words = [str(tmp_path / "original.safetensors"), str(tmp_path / "config.json"), "--out", str(tmp_path / "ours")]
    assert main(["convert", *words]) == 0
    assert "had no head" in capsys.readouterr().out
    assert OSKDFTModel.from_pretrained(tmp_path / "ours").config.adapter_scale == 1.0
    assert main(["convert", words[0], str(tmp_path / "none.json"), "--out", "x"]) == 2


def test_an_unknown_command_or_option_ends_with_2():
    for words in (["fly"], ["evaluate"], ["quickstart", "--speed", "3"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2


def test_a_recipe_s_errors_come_through(capsys):
    assert main(["train", "nowhere.yaml"]) == 2
    assert "no recipe at 'nowhere.yaml'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["oskdft", f"{sys.executable} -m modeling_oskdft.cli"])
def test_help_of_the_installed_command(command):
    words = command.split()
    words[0] = os.path.join(os.path.dirname(sys.executable), words[0]) if words[0] == "oskdft" else words[0]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("quickstart", "train", "evaluate", "convert", "benchmark"):
        assert name in done.stdout
