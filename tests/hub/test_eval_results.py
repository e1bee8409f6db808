import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from modeling_oskdft.commands.main import main
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials, write_trials
from modeling_oskdft.evaluation.report import TrialReport
from modeling_oskdft.hub.eval_results import parse_task, write_eval_results
from modeling_oskdft.hub.upload import files_of_model, left_behind

REPORT = TrialReport(0.0098, 0.0081, 0.0119, 0.11, 0.09, 0.13, 0.4, 37_611, 40)


@pytest.fixture
def model(saved_verifier, tmp_path):
    import shutil

    return shutil.copytree(saved_verifier, tmp_path / "model")


def test_the_hub_s_own_parser_reads_them(model):
    path = write_eval_results(model, "org/voxceleb1-trials:vox1_o", REPORT)
    assert path == model / ".eval_results/org--voxceleb1-trials--vox1_o.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("org/voxceleb1-trials", "vox1_o", 0.98)
    assert (
        "0.81 to 1.19" in entry.notes
        and "full recordings" in entry.notes
        and "37,611 trials of 40 speakers" in entry.notes
    )


def test_a_second_run_replaces_the_first_and_another_task_stands_beside(model):
    for eer in (0.02, 0.01):
        write_eval_results(model, "org/trials:o", TrialReport(eer, 0, 1, 0.1, 0, 1, 0.4, 100, 40))
    write_eval_results(model, "org/trials:e", REPORT)
    values = [yaml.safe_load(path.read_text())[0]["value"] for path in sorted((model / ".eval_results").iterdir())]
    assert values == [0.98, 1.0]
    assert ".eval_results/org--trials--o.yaml" in files_of_model(model) and ".eval_results" not in left_behind(
        model, files_of_model(model)
    )


@pytest.mark.parametrize("task", ["vox1_o", "org/name", "org/name:", "org/a/b:c", "../x:y z", "org/name:../../x"])
def test_a_task_of_another_form(task):
    with pytest.raises(ValueError, match="a dataset and its task are needed"):
        parse_task(task)


def test_by_the_command(model, voices, tmp_path, capsys):
    manifest = load_manifest(voices)
    write_trials(make_trials(manifest.by_speaker()), tmp_path / "trials.txt")
    words = ["evaluate", str(model), "--data", str(voices), "--trials", str(tmp_path / "trials.txt")]
    assert main([*words, "--write-eval-results", "org/voices:all"]) == 0
    stored = yaml.safe_load((model / ".eval_results/org--voices--all.yaml").read_text())
    assert f"EER     {stored[0]['value']:.2f} %" in capsys.readouterr().out
    words[1] = "org/model"
    assert main([*words, "--write-eval-results", "org/voices:all"]) == 2
    assert "results are written into a model's folder" in capsys.readouterr().err
