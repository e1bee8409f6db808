import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import pipeline

from modeling_oskdft import OSKDFTForSequenceClassification, OSKDFTForXVector
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.crops import UNLABELLED, CropDataset, check_classes, classes_of
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.student.shared_trunk import SharedTrunk
from modeling_oskdft.training.class_validation import LabelledDataset
from modeling_oskdft.training.recipe import read_recipe
from train_oskdft import main


@pytest.fixture(scope="module")
def run(tmp_path_factory, words):
    place = tmp_path_factory.mktemp("run") / "student"
    assert main([*words, "--label_column", "mood", "--test_split", "test", "--output_dir", str(place)]) == 0
    return place


def test_a_classifier_is_trained_in_the_one_step_and_measured(run):
    results = json.loads((run / "results.json").read_text())
    first = results["history"][0]
    assert first["kd_loss"] > 0 and first["ft_loss"] == pytest.approx(np.log(2), rel=0.5)
    assert results["selection_uar"] == max(line["eval_uar"] for line in results["history"] if "eval_uar" in line)
    test = results["test"]
    assert test["classes"] == ["angry", "calm"] and np.sum(test["confusion"]) == test["recordings"] > 0
    low, high = test["uar_interval"]
    assert low <= test["uar"] <= high and test["speakers"] == 1
    assert not (run / "thresholds.json").exists() and not (run / "calibration.json").exists()


def test_its_card_says_what_was_measured_and_its_example_runs(run, voices, tmp_path, monkeypatch):
    card = ModelCard.load(run / "README.md")
    results = json.loads((run / "results.json").read_text())
    assert card.data.pipeline_tag == "audio-classification" and card.data.metrics == ["uar", "macro_f1", "accuracy"]
    assert card.data.eval_results[0].metric_value == round(100 * results["test"]["uar"], 3)
    assert (
        "2 classes of the column `mood`" in card.text and f"| UAR | {100 * results['test']['uar']:.1f} |" in card.text
    )
    assert f"Of the weights {OSKDFTForSequenceClassification.from_pretrained(run).fingerprint()}." in card.text
    shutil.copy(sorted(voices.rglob("*.flac"))[0], tmp_path / "a.flac")
    monkeypatch.chdir(run.parent)
    example = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1].replace(
        '"a.flac"', repr(str(tmp_path / "a.flac"))
    )
    names = {}
    exec(compile(example, "card", "exec"), names)
    assert {row["label"] for row in names["answer"]} == {"angry", "calm"}


def test_the_pipeline_of_transformers_opens_it(run, voices):
    waveform = load_audio(sorted(voices.rglob("*.flac"))[0])
    found = pipeline("audio-classification", model=str(run), top_k=None)(waveform)
    assert {row["label"] for row in found} == {"angry", "calm"}


@pytest.mark.parametrize("metric", ["uar", "macro_f1", "accuracy"])
def test_of_a_metric_of_classes_the_larger_is_better(words, metric):
    recipe = read_recipe([*words, "--output_dir", "x", "--label_column", "mood", "--metric_for_best_model", metric])
    assert recipe.training.greater_is_better and recipe.training.metric_for_best_model == metric
    assert recipe.objectives.speaker_objective == "class_softmax"
    verifier = read_recipe([*words, "--output_dir", "x"])
    assert verifier.training.greater_is_better is False and verifier.training.metric_for_best_model == "eer"


def test_without_distillation_recordings_without_a_class_are_left_out(words, tmp_path):
    more = ["--label_column", "mood", "--kd_weight", "0", "--max_steps", "1", "--output_dir", str(tmp_path / "x")]
    assert main([*words, *more]) == 0
    assert "kd_loss" not in json.loads((tmp_path / "x/results.json").read_text())["history"][0]


def test_a_test_without_classes_is_refused_before_the_training(words, table, tmp_path, capsys):
    empty = tmp_path / "table.csv"
    lines = table.read_text().splitlines()
    rows = [line.replace(",calm,ça va,", ",,ça va,").replace(",angry,ça va,", ",,ça va,") for line in lines]
    empty.write_text("\n".join(rows))
    place = words.index("--train_data") + 1
    other = [*words[:place], str(empty), *words[place + 1 :], "--label_column", "mood", "--test_split", "test"]
    assert main([*other, "--output_dir", str(tmp_path / "run")]) == 2
    assert "has 0 classes" in capsys.readouterr().err and not (tmp_path / "run/model.safetensors").exists()


def test_two_runs_on_one_frozen_trunk_are_opened_together(tmp_path, words):
    first = str(tmp_path / "first")
    assert main([*words, "--output_dir", first]) == 0
    frozen = [*words, "--student_from", first, "--freeze", "trunk", "--kd_weight", "0"]
    assert main([*frozen, "--output_dir", str(tmp_path / "speaker")]) == 0
    assert main([*frozen, "--label_column", "mood", "--output_dir", str(tmp_path / "mood")]) == 0

    tasks = SharedTrunk.from_pretrained({name: tmp_path / name for name in ("speaker", "mood")})
    speaker, mood = (tasks.models[name].state_dict() for name in tasks.tasks)
    start = OSKDFTForXVector.from_pretrained(first).state_dict()
    adapter = "oskdft.encoder.layers.0.adapter.up.weight"
    assert not torch.equal(mood[adapter], speaker[adapter])
    for name in (name for name in start if name.startswith("oskdft.") and ".adapter." not in name):
        assert torch.equal(mood[name], start[name]), name
    assert "kd_loss" not in json.loads((tmp_path / "mood/results.json").read_text())["history"][0]


def test_a_class_that_no_training_speaker_has_is_named(table):
    with pytest.raises(ValueError, match="No training speaker has 'sad' in the column 'mood'"):
        check_classes(load_manifest(table), "mood", ["angry", "calm", "sad"])
    with pytest.raises(ValueError, match="No recording here has a class in 'mood'"):
        LabelledDataset(load_manifest(table), "mood", ("sad", "glad"))


def test_whole_numbers_of_a_manifest_are_classes(table, tmp_path):
    manifest = load_manifest(table)
    ages = pa.array([20 + number % 3 for number in range(len(manifest))])
    pq.write_table(manifest.table.append_column("age", ages), tmp_path / "m.parquet")
    opened = load_manifest(tmp_path / "m.parquet", data_root=manifest.root)
    crops = CropDataset(opened, 0.5, 0, label_column="age")
    assert crops.classes == ["20", "21", "22"] and set(crops.labels) == {0, 1, 2}
    assert len(LabelledDataset(opened, "age", ("20", "21", "22"))) == len(manifest)


def test_a_run_of_a_classifier_goes_on(run, words, capsys):
    before = OSKDFTForSequenceClassification.from_pretrained(run).fingerprint()
    written = {place.name: place.stat().st_mtime_ns for place in run.glob("checkpoint-*")}
    again = ["--label_column", "mood", "--output_dir", str(run), "--resume_from_checkpoint", "last"]
    assert main([*words, *again]) == 0, capsys.readouterr().err
    results = json.loads((run / "results.json").read_text())
    assert results["resumed"] and written
    assert {place.name: place.stat().st_mtime_ns for place in run.glob("checkpoint-*")} == written, "no step was left"
    assert OSKDFTForSequenceClassification.from_pretrained(run).fingerprint() == before == results["fingerprint"]


def test_crops_without_a_label_are_for_the_distillation(table):
    manifest = load_manifest(table)
    crops = CropDataset(manifest, 0.5, 0, label_column="mood")
    assert crops.classes == classes_of(manifest, "mood") == ["angry", "calm"]
    without = len([number for number in range(len(manifest)) if number % 7 == 5])
    assert (crops.labels == UNLABELLED).sum() == without > 3
    assert sum(crops.utterances_of_classes()) == len(manifest) - without
    dataset = LabelledDataset(manifest, "mood", ("angry", "calm"))
    assert len(dataset) == len(manifest) - without and set(dataset.labels().values()) == {0, 1}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--label_column", "colour"], "The data have no column 'colour': they have .*mood"),
        (["--label_column", "split"], "has 1 classes"),
        (["--freeze", "trunk"], "freeze is 'trunk' with a distillation on the kd path"),
        (["--label_column", "speaker_id"], "label_column is speaker_id, which every recording has"),
        (["--label_column", "mood", "--speaker_objective", "none"], "no loss would read the labels"),
        (["--label_column", "mood", "--metric_for_best_model", "min_dcf"], "use uar, macro_f1, accuracy"),
        (["--label_column", "mood", "--start_from", "x"], "start_from is set with label_column"),
        (["--speaker_objective", "class_softmax"], "class_softmax without label_column"),
        (["--metric_for_best_model", "uar"], "metric_for_best_model is uar without label_column"),
        (["--label_column", "mood", "--labelled_fraction", "0.5"], "labelled_fraction is 0.5 with label_column"),
        (["--label_column", "mood", "--speed_perturbation", "0.9"], "speed_perturbation is"),
        (["--label_column", "mood", "--test_trials", "x.txt"], "test_trials is set with label_column"),
    ],
)
def test_what_does_not_fit_a_classifier_is_named(words, tmp_path, more, message, capsys):
    assert main([*words, "--output_dir", str(tmp_path / "x"), *more]) == 2
    assert re.search(message, capsys.readouterr().err)
