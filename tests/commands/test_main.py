import json
import os
import subprocess
import sys

import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.data.trials import make_trials, write_trials
from tests.student.test_conversion import original_names
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
    assert main([*words, "--debug"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


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


@pytest.mark.parametrize("command", ["oskdft", f"{sys.executable} -m modeling_oskdft.commands"])
def test_help_of_the_installed_command(command):
    words = command.split()
    words[0] = os.path.join(os.path.dirname(sys.executable), words[0]) if words[0] == "oskdft" else words[0]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("quickstart", "train", "evaluate", "convert", "benchmark"):
        assert name in done.stdout


@pytest.fixture
def recordings(voices):
    return sorted(map(str, voices.rglob("*.flac")))


def test_speakers_are_held_out_and_trials_made(tmp_path, voices, capsys):
    from modeling_oskdft.data.sources import load_manifest
    from modeling_oskdft.data.trials import read_trials

    assert main(["split", str(voices), "--test", "4", "--out", str(tmp_path)]) == 0
    assert "24 utterances of 6 speakers" in capsys.readouterr().out
    train, test = (load_manifest(tmp_path / f"{name}.parquet") for name in ("train", "test"))
    assert not set(train.speakers) & set(test.speakers) and len(test.speakers) == 4
    trials = read_trials(tmp_path / "trials.txt")
    assert set(trials.utterances()) <= set(test.column("utterance_id"))
    words = ["make-trials", str(tmp_path / "test.parquet"), "--across_sessions", "--out", str(tmp_path / "across.txt")]
    assert main(words) == 0
    across = read_trials(tmp_path / "across.txt")
    assert len(across.labels) < len(trials.labels) and 0 < across.labels.sum()
    capsys.readouterr()
    assert main(["split", str(voices), "--test", "10", "--out", str(tmp_path)]) == 2
    assert "both sides of a split need at least 2" in capsys.readouterr().err


def test_pairs_and_several_enrolments(saved_verifier, recordings, tmp_path, capsys):
    model = ["--model", str(saved_verifier)]
    pairs = [list(pair) for pair in zip(recordings[:3], recordings[1:4], strict=True)]
    (tmp_path / "pairs.txt").write_text("".join("\t".join(pair) + "\n" for pair in pairs))
    words = ["verify", "--pairs", str(tmp_path / "pairs.txt"), *model]
    assert main(words) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == pairs and all("speaker" in line[2] for line in lines)
    assert main([*words, "--operating_point", "far_0.1_percent"]) == 3
    capsys.readouterr()
    assert main(["verify", recordings[0], recordings[0], recordings[0], *model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(1, abs=1e-5)
    for words, said in (
        ([recordings[0]], "Two recordings are needed"),
        (["--pairs", "nowhere.txt"], "There is no list of pairs at 'nowhere.txt'"),
        ([*recordings[:2], "--pairs", "x"], "Recordings were given beside --pairs"),
    ):
        assert main(["verify", *words, *model]) == 2 and said in capsys.readouterr().err


def test_a_folder_of_recordings_is_embedded_and_damaged_ones_skipped(saved_verifier, voices, tmp_path, capsys):
    import shutil

    import pyarrow.parquet as pq

    shutil.copytree(voices / "voice000", tmp_path / "v")
    (tmp_path / "v" / "session0" / "00.flac").write_bytes(b"nothing")
    words = ["embed", str(tmp_path / "v"), "--model", str(saved_verifier), "--out", str(tmp_path / "e.parquet")]
    assert main(words) == 2 and not (tmp_path / "e.parquet").exists()
    capsys.readouterr()
    assert main([*words, "--skip-damaged"]) == 0
    printed = capsys.readouterr()
    assert "3 embeddings of 12 numbers, 1 skipped" in printed.out and "00.flac' cannot be read" in printed.err
    assert pq.read_table(tmp_path / "e.parquet").num_rows == 3
    assert main([*words[:-1], str(tmp_path / "e.xlsx")]) == 2
    assert "give a name that ends in .npz" in capsys.readouterr().err
    assert main([*words[:-1], "/dev/null/e.npz", "--skip-damaged"]) == 2
    assert "'/dev/null' cannot be used (file exists)" in capsys.readouterr().err


def test_what_was_exported_is_evaluated_like_its_source(saved_verifier, exported, voices, manifest, tmp_path, capsys):
    write_trials(make_trials(manifest.by_speaker(), most=40), tmp_path / "trials.txt")
    reports = []
    for model in (saved_verifier, exported):
        words = ["evaluate", str(model), "--data", str(voices), "--trials", str(tmp_path / "trials.txt"), "--json"]
        assert main([*words, "--p_target", "0.05", "--scores", str(tmp_path / "scores.tsv")]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == pytest.approx(reports[1], abs=1e-4)
    lines = [line.split("\t") for line in (tmp_path / "scores.tsv").read_text().splitlines()]
    assert len(lines) == 80 and all(len(line) == 4 and -1 <= float(line[3]) <= 1 for line in lines)


def test_trials_that_contradict_the_data_are_refused(saved_verifier, voices, manifest, tmp_path, capsys):
    trials = make_trials(manifest.by_speaker(), most=40)
    write_trials(trials._replace(labels=1 - trials.labels), tmp_path / "wrong.txt")
    words = ["evaluate", str(saved_verifier), "--data", str(voices), "--trials", str(tmp_path / "wrong.txt")]
    assert main(words) == 2
    assert "80 of 80 trials of" in capsys.readouterr().err


def test_an_encoder_is_no_verifier_for_any_command(tmp_path, voices, capsys):
    from modeling_oskdft import OSKDFTModel

    OSKDFTModel(tiny_config()).save_pretrained(tmp_path / "encoder")
    (tmp_path / "t.txt").write_text("1 voice000/session0/00 voice000/session0/01\n")
    for words in (["evaluate", "--data", str(voices), "--trials", str(tmp_path / "t.txt")], ["export", "--out", "x"]):
        assert main([words[0], str(tmp_path / "encoder"), *words[1:]]) == 2
        assert "without a speaker head" in capsys.readouterr().err
