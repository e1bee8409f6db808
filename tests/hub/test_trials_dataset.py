import json
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard

from modeling_oskdft.commands.main import main
from modeling_oskdft.data.trials import read_trials
from modeling_oskdft.files import sha256_of
from modeling_oskdft.hub.trials_dataset import write_trials_dataset


@pytest.fixture
def lists(tmp_path) -> list[Path]:
    files = []
    for name, lines in (
        ("voxceleb1_o_cleaned", "1 a/b/1.wav a/c/2.wav\n0 a/b/1.wav d/e/3.wav\n"),
        ("mine", "0 x y\n1 x z\n"),
    ):
        files.append(tmp_path / f"{name}.txt")
        files[-1].write_text(lines)
    return files


def test_what_the_hub_reads(lists, tmp_path):
    facts = write_trials_dataset(lists, tmp_path / "out", "voxceleb1-trials")
    assert "license" not in DatasetCard.load(tmp_path / "out/README.md").data.to_dict(), "of one list alone"
    assert facts["voxceleb1_o_cleaned"] == {
        "trials": 2,
        "target_trials": 1,
        "utterances": 3,
        "sha256": sha256_of(lists[0]),
    }
    assert json.loads((tmp_path / "out/hashes.json").read_text()) == facts
    tasks = yaml.safe_load((tmp_path / "out/eval.yaml").read_text())["tasks"]
    assert [task["id"] for task in tasks] == ["voxceleb1_o_cleaned", "mine"] and tasks[0]["split"] == "test"
    card = DatasetCard.load(tmp_path / "out/README.md")
    assert facts["mine"]["sha256"] in card.text
    rows = load_dataset(str(tmp_path / "out"), "mine", split="test", cache_dir=str(tmp_path / "cache"))
    assert rows.to_list() == [{"label": 0, "enrol": "x", "test": "y"}, {"label": 1, "enrol": "x", "test": "z"}]
    copied = read_trials(tmp_path / "out/lists/voxceleb1_o_cleaned.txt")
    assert copied.utterances() == read_trials(lists[0]).utterances()


def test_no_licence_is_claimed_for_other_lists(lists, tmp_path):
    write_trials_dataset(lists[1:], tmp_path / "out", "mine")
    assert (
        "license" not in (tmp_path / "out/README.md").read_text()
        and "VoxCeleb" not in (tmp_path / "out/README.md").read_text()
    )


def test_by_the_command(lists, tmp_path, capsys):
    words = [str(file) for file in lists]
    assert main(["push-trials", *words, "--out", str(tmp_path / "out")]) == 0
    assert "voxceleb1_o_cleaned\t2 trials\t" in capsys.readouterr().out
    assert main(["push-trials", words[0], words[0], "--out", str(tmp_path / "two")]) == 2
    assert "each with a name of its own" in capsys.readouterr().err
    lists[0].write_text("not a list\n")
    assert main(["push-trials", words[0], "--out", str(tmp_path / "bad")]) == 2 and not (tmp_path / "bad").exists()
    assert main(["push-trials", str(tmp_path / "none.txt"), "--out", str(tmp_path / "bad")]) == 2


def test_push_by_the_real_client(lists, tmp_path, hub, oskdft):
    done = oskdft("push-trials", *lists, "--repository", "org/trials", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert hub.repositories["dataset", "org/trials"].private
    sent = {"README.md", "eval.yaml", "hashes.json"}
    sent |= {f"data/{file.stem}.parquet" for file in lists} | {f"lists/{file.name}" for file in lists}
    assert set(hub.files("org/trials", "dataset")) == sent | {".gitattributes"}


def test_a_folder_of_something_else_and_lists_of_before(lists, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project/README.md").write_text("mine")
    with pytest.raises(ValueError, match="has files of something else"):
        write_trials_dataset(lists, tmp_path / "project", "trials")
    assert (tmp_path / "project/README.md").read_text() == "mine"
    write_trials_dataset(lists, tmp_path / "out", "trials")
    write_trials_dataset(lists[:1], tmp_path / "out", "trials")
    assert [file.name for file in (tmp_path / "out/lists").iterdir()] == ["voxceleb1_o_cleaned.txt"]
    assert DatasetCard.load(tmp_path / "out/README.md").data.license == "cc-by-4.0"
