import json
import os
import re
from pathlib import Path

import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from transformers import pipeline

from modeling_oskdft.commands.main import main
from modeling_oskdft.hub.card_facts import collect_facts, example_recordings
from modeling_oskdft.hub.model_card import (
    Statements,
    is_card_of_others,
    read_statements,
    record,
    render,
    render_record,
    write_card,
)
from modeling_oskdft.hub.upload import check_model
from modeling_oskdft.scoring.thresholds import measure_thresholds
from tests.forked import run_python
from tests.tiny import tiny_verifier

ROOT = Path(__file__).resolve().parents[2]
REPORT = {"eer": 0.0512, "eer_low": 0.04, "eer_high": 0.07, "min_dcf": 0.5, "min_dcf_low": 0.4, "min_dcf_high": 0.6}
REPORT |= {"threshold": 0.4, "trials": 1200, "speakers": 24}
ENCODER = {"parameters": 1000, "encoder_parameters": 2_000_000, "encoder_milliseconds": 20.0}
RESULTS = {
    "seed": 3,
    "steps": 1500,
    "seconds": 600.0,
    "encoders": {"teacher": ENCODER, "student": ENCODER | {"encoder_milliseconds": 5.0}},
    "data": {"name": "speech", "speakers": 200, "utterances": 3000, "hours": 2.5, "gender": {"f": 90, "m": 110}},
    "recipe": {"kd_weight": 1.0, "kd_objective": "layerwise_heads", "margin": 0.2},
    "test": {"name": "trials", **REPORT, "by_gender": {"f": REPORT | {"eer": 0.09}}},
    "machine": {"cpu": "A processor", "cores": 2, "system": "Linux"},
    "versions": {"torch": "2", "transformers": "5"},
}


@pytest.fixture
def folder(tmp_path, feature_extractor):
    return save_verifier(tmp_path / "student", feature_extractor)


def save_verifier(folder, feature_extractor):
    tiny_verifier().save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("start", "kd_weight", "origin"),
    [
        ("importance", 1.0, "cut from org/teacher. One-step distillation and fine-tuning (OS-KDFT)."),
        ("random_weights", 1.0, "distilled from org/teacher. One-step distillation"),
        ("random_weights", 0.0, "in the shape of org/teacher, trained from random weights. Fine-tuning."),
    ],
)
def test_a_card_names_the_origin_of_the_student(folder, start, kd_weight, origin):
    stored = record(folder)
    stored["facts"]["teacher"]["name"] = "org/teacher"
    stored["facts"]["recipe"] = RESULTS["recipe"] | {"student_start": start, "kd_weight": kd_weight}
    assert f"layers {origin}" in render_record(stored)


def test_a_card_names_every_teacher(folder):
    stored = record(folder)
    stored["facts"]["teacher"]["name"] = "org/base"
    stored["facts"]["recipe"] = RESULTS["recipe"]
    stored["facts"]["teachers"] = {"student_from": "org/base", "hidden_states": "org/large", "embeddings": ["a", "b"]}
    page = render_record(stored)
    assert (
        "cut from org/base. One-step distillation and fine-tuning (OS-KDFT), from hidden states of org/large, " in page
    )
    assert "from embeddings of a, b." in page and "|  | teacher (org/large) | this model" in page


def test_a_measured_model(folder):
    (folder / "results.json").write_text(json.dumps(RESULTS | {"fingerprint": tiny_verifier().fingerprint()}))
    scores, labels = (0.1 * torch.randn(4000)).numpy(), [0, 1] * 2000
    measure_thresholds(scores, labels, 40, "40 speakers set aside", tiny_verifier().fingerprint()).save(folder)
    text = write_card(folder, "org/name", Statements("cc-by-4.0", "Apache-2.0", "its own", "A note.")).read_text()
    card = ModelCard(text)
    (eer, dcf) = card.data.eval_results
    assert (eer.metric_value, eer.metric_args["confidence_interval_95"]) == (5.12, [4.0, 7.0])
    assert (dcf.metric_type, dcf.metric_value) == ("min_dcf", 0.5)
    assert card.data.license == "cc-by-4.0" and card.data.model_name == "name"
    for line in (
        "| encoder time for 3 s, ms | 20.0 | 5.0 | -75% |",
        "5.12 (4.00–7.00)",
        "| f | 9.00 (4.00–7.00) |",
        "By language: not measured",
        "| 0.1 % false accepts | too few trials to measure it |",  # of 2,000
        "200 speakers, 3,000 utterances, 2.5 hours",
        "`margin: 0.2`",
        "1,500 steps, 10 minutes on 2 cores of A processor, seed 3",
        "Teacher (the teacher): Apache-2.0",
        "A note.",
    ):
        assert line in text, line
    check_model(folder)


@pytest.mark.parametrize("name", ["student", """it's "a" \\ {{name}} `x`"""])
def test_the_examples_run_as_written(tmp_path, feature_extractor, name):
    """A reader copies the code and has two recordings. The name of the folder is text, whatever letters it has."""
    page = write_card(save_verifier(tmp_path / name, feature_extractor)).read_text()
    for file, waveform in zip(("a.flac", "b.flac"), example_recordings(), strict=True):
        soundfile.write(tmp_path / file, waveform, 16000)
    verify, embed, without_the_package = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    printed = run(verify, tmp_path)
    assert re.fullmatch(r"None -?\d\.\d+", printed), "without thresholds there is no decision"
    assert f"Two synthetic recordings of one voice gave `{printed}`" in page
    assert run(embed, tmp_path) == "(12,)"
    assert run(without_the_package, tmp_path) == "12"


def run(code, folder):
    """The output of a program that a reader starts in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = run_python("-c", code, environment=environment, folder=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("task", ["audio-classification", "feature-extraction"])
def test_the_card_promises_no_pipeline_that_fails(folder, task):
    """The Hub shows `pipeline(TAG, model=...)` for these tags, and a verifier is not what they want."""
    assert ModelCard(write_card(folder).read_text()).data.pipeline_tag == "other"
    with pytest.raises((ValueError, OSError, TypeError, AttributeError)):
        pipeline(task, model=str(folder))(example_recordings()[0])


def test_the_card_names_everything_that_was_not_measured(folder):
    text = write_card(folder).read_text()
    for line in (
        "were not measured on a test list",
        "Not measured: the model gives a score and does not decide.",
        "Training data and recipe are not stated.",
        "By gender: not measured",
        "This model: not stated",
        "Size and time of the teacher were not measured.",
    ):
        assert line in text, line
    assert "model-index" not in text and "nan" not in text.lower().split() and "None |" not in text


def test_measurements_of_other_weights_are_left_out(folder):
    (folder / "results.json").write_text(json.dumps(RESULTS | {"fingerprint": "0" * 64}))
    measure_thresholds((0.1 * torch.randn(4000)).numpy(), [0, 1] * 2000, 40, "others", "0" * 64).save(folder)
    text = write_card(folder).read_text()
    assert "5.12" not in text and "were not measured on a test list" in text
    assert "Not measured: the model gives a score and does not decide." in text


def test_statements_are_kept_with_the_page(folder):
    statements = Statements("mit", notes="Not --> the end -- of it.")
    text = write_card(folder, "org/name", statements).read_text()
    assert read_statements(folder) == ("org/name", statements)
    assert text.rstrip().endswith("-->") and "--" not in text.rstrip().rsplit("<!--", 1)[1][:-3]
    (folder / "README.md").write_text("by hand")
    assert read_statements(folder) is None and not is_card_of_others(folder, "0" * 64)


def test_a_page_written_by_hand_is_not_lost(folder):
    (folder / "README.md").write_text("my own words")
    with pytest.raises(ValueError, match="was written by hand: take it away, or ask for --overwrite"):
        write_card(folder)
    assert (folder / "README.md").read_text() == "my own words"
    assert "# " in write_card(folder, overwrite=True).read_text()


def test_a_stored_record_makes_the_same_page(folder, capsys):
    statements = Statements("mit", notes="Mine.")
    stored = json.loads(json.dumps(record(folder, "org/name", statements)))
    page = write_card(folder, "org/name", statements).read_text()
    assert render_record(stored) == page == render(collect_facts(folder), "org/name", statements)
    assert main(["card", str(folder), "--name", "org/name", "--license", "mit", "--notes", "Mine.", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == stored


def test_a_name_cannot_smuggle_markup_into_the_front_matter(folder):
    facts = collect_facts(folder) | {"data": None}
    facts["teacher"] = {"name": "x\nlicense: mit\ny: /etc", "layers": [0]}
    card = ModelCard(render(facts, "org/name"))
    assert card.data.license is None and card.data.base_model is None
