import csv
import json
import re

import numpy as np
import pytest
from transformers import pipeline

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.crops import UNLABELLED, CropDataset, classes_of
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.training.class_validation import LabelledDataset
from tests.tiny import tiny_teacher
from train_oskdft import main

WORDS = [
    *("--kd_objective", "layerwise_heads", "--head_type", "statistics_pooling", "--adapter_size", "8"),
    *("--num_train_epochs", "2", "--per_device_train_batch_size", "4", "--crop_seconds", "0.5", "--use_cpu", "true"),
    *("--validation_fraction", "0.3", "--logging_steps", "1", "--dataloader_num_workers", "0"),
    *("--report_to", "none", "--train_split", "train"),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory, voices):
    """Recordings with a column of moods; each seventh has none."""
    place = tmp_path_factory.mktemp("moods")
    manifest = load_manifest(voices)
    columns = (manifest.column(name) for name in ("path", "speaker_id", "session_id"))
    with (place / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "speaker", "session", "mood", "split"])
        for number, (path, speaker, session) in enumerate(zip(*columns, strict=True)):
            mood = "" if number % 7 == 5 else ("calm", "angry")[number % 2]
            rows.writerow([voices / path, speaker, session, mood, "test" if speaker == "voice000" else "train"])
    return place / "table.csv"


@pytest.fixture(scope="module")
def words(tmp_path_factory, table, feature_extractor):
    place = tmp_path_factory.mktemp("teacher")
    tiny_teacher("hubert", True, "group").save_pretrained(place)
    feature_extractor.save_pretrained(place)
    return ["--teacher", str(place), "--train_data", str(table), *WORDS]


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


def test_the_pipeline_of_transformers_opens_it(run, voices):
    waveform = load_audio(sorted(voices.rglob("*.flac"))[0])
    found = pipeline("audio-classification", model=str(run), top_k=None)(waveform)
    assert {row["label"] for row in found} == {"angry", "calm"}


def test_a_run_of_a_classifier_goes_on(run, words, capsys):
    again = ["--label_column", "mood", "--output_dir", str(run), "--resume_from_checkpoint", "last"]
    assert main([*words, *again]) == 0, capsys.readouterr().err


def test_crops_without_a_label_are_for_the_distillation(table):
    manifest = load_manifest(table)
    crops = CropDataset(manifest, 0.5, 0, label_column="mood")
    assert crops.speakers == classes_of(manifest, "mood") == ["angry", "calm"]
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
        (["--label_column", "mood", "--kd_weight", "0"], "Some crops have no label"),
        (["--label_column", "mood", "--labelled_fraction", "0.5"], "labelled_fraction is 0.5 with label_column"),
        (["--label_column", "mood", "--speed_perturbation", "0.9"], "speed_perturbation is"),
        (["--label_column", "mood", "--test_trials", "x.txt"], "test_trials is set with label_column"),
    ],
)
def test_what_does_not_fit_a_classifier_is_named(words, tmp_path, more, message, capsys):
    assert main([*words, "--output_dir", str(tmp_path / "x"), *more]) == 2
    assert re.search(message, capsys.readouterr().err)
