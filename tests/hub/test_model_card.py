import json
import re

import pytest
import torch
from huggingface_hub import ModelCard

from modeling_oskdft.commands.main import main
from modeling_oskdft.hub.model_card import Statements, gather, record, render, render_record, stated, write_card
from modeling_oskdft.hub.upload import check_model
from modeling_oskdft.scoring.thresholds import measure_thresholds
from tests.tiny import tiny_verifier

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
    verifier = tiny_verifier()
    verifier.save_pretrained(tmp_path)
    feature_extractor.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("start", "kd_weight", "said"),
    [
        ("importance", 1.0, "cut from"),
        ("random_weights", 1.0, "distilled from"),
        ("random_weights", 0.0, "of the layers of"),
    ],
)
def test_a_card_says_where_the_student_comes_from(folder, start, kd_weight, said):
    stored = record(folder)
    stored["facts"]["teacher"]["name"] = "org/teacher"
    stored["facts"]["recipe"] = RESULTS["recipe"] | {"student_start": start, "kd_weight": kd_weight}
    assert f"layers {said} org/teacher." in render_record(stored)


def test_a_measured_model(folder):
    own = {"fingerprint": tiny_verifier().fingerprint()}
    (folder / "results.json").write_text(json.dumps(RESULTS | own))
    scores, labels = (0.1 * torch.randn(4000)).numpy(), [0, 1] * 2000
    measure_thresholds(scores, labels, 40, "40 speakers set aside", tiny_verifier().fingerprint()).save(folder)
    said = Statements("cc-by-4.0", "Apache-2.0", "its own", "A note.")
    text = write_card(folder, "org/name", said).read_text()
    card = ModelCard(text)
    (eer, dcf) = card.data.eval_results
    assert (eer.metric_value, eer.metric_args["confidence_interval_95"]) == (5.12, [4.0, 7.0])
    assert (dcf.metric_type, dcf.metric_value) == ("min_dcf", 0.5)
    assert card.data.license == "cc-by-4.0" and card.data.model_name == "name"
    for said in (
        "| encoder time for 3 s, ms | 20.0 | 5.0 | -75% |",
        "5.12 (4.00–7.00)",
        "| f | 9.00 (4.00–7.00) |",
        "By language: not measured",
        "too few trials to say",  # 0.1 % of 2,000
        "200 speakers, 3,000 utterances, 2.5 hours",
        "`margin: 0.2`",
        "1,500 steps, 10 minutes on 2 cores of A processor, seed 3",
        "Teacher (the teacher): Apache-2.0",
        "A note.",
    ):
        assert said in text, said
    check_model(folder)


def test_the_example_was_executed(folder):
    code = re.findall(r"```python\n(.*?)```", write_card(folder).read_text(), flags=re.DOTALL)
    assert len(code) == 2
    printed = gather(folder)["example"]
    assert re.fullmatch(r"None -?\d\.\d+", printed)  # no thresholds: it does not decide
    assert f"printed `{printed}`" in (folder / "README.md").read_text()


def test_what_was_not_measured_is_said_not_to_be(folder):
    text = write_card(folder).read_text()
    for said in (
        "were not measured on a test list",
        "Not measured: the model gives a score and does not decide.",
        "Training data and recipe are not stated.",
        "By gender: not measured",
        "This model: not stated",
        "Size and time of the teacher were not measured.",
    ):
        assert said in text, said
    assert "model-index" not in text and "nan" not in text.lower().split() and "None |" not in text


def test_what_was_measured_of_other_weights_was_not_measured_of_these(folder):
    (folder / "results.json").write_text(json.dumps(RESULTS | {"fingerprint": "0" * 64}))
    measure_thresholds((0.1 * torch.randn(4000)).numpy(), [0, 1] * 2000, 40, "others", "0" * 64).save(folder)
    text = write_card(folder).read_text()
    assert "5.12" not in text and "were not measured on a test list" in text
    assert "Not measured: the model gives a score and does not decide." in text


def test_what_was_stated_is_kept_with_the_page(folder):
    said = Statements("mit", notes="Not --> the end -- of it.")
    text = write_card(folder, "org/name", said).read_text()
    assert stated(folder) == ("org/name", said)
    assert text.rstrip().endswith("-->") and "--" not in text.rstrip().rsplit("<!--", 1)[1][:-3]
    (folder / "README.md").write_text("by hand")
    assert stated(folder) is None


def test_a_page_written_by_hand_is_not_lost(folder):
    (folder / "README.md").write_text("my own words")
    with pytest.raises(ValueError, match="was written by hand: take it away, or ask for --overwrite"):
        write_card(folder)
    assert (folder / "README.md").read_text() == "my own words"
    assert "# " in write_card(folder, overwrite=True).read_text()


def test_a_stored_record_makes_the_same_page(folder, capsys):
    said = Statements("mit", notes="Mine.")
    stored = json.loads(json.dumps(record(folder, "org/name", said)))
    page = write_card(folder, "org/name", said).read_text()
    assert render_record(stored) == page == render(gather(folder), "org/name", said)
    assert main(["card", str(folder), "--name", "org/name", "--license", "mit", "--notes", "Mine.", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == stored


def test_a_name_cannot_smuggle_markup_into_the_front_matter(folder):
    facts = gather(folder) | {"data": None}
    facts["teacher"] = {"name": "x\nlicense: mit\ny: /etc", "layers": [0]}
    card = ModelCard(render(facts, "org/name"))
    assert card.data.license is None and card.data.base_model is None


def test_bad_results_are_named(folder):
    (folder / "results.json").write_text("{")
    with pytest.raises(ValueError, match="results.json' is damaged"):
        gather(folder)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "There is no saved model"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json' is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "a saved OSKDFTForXVector"),
        (lambda folder: (folder / "heads_oskdft.py").unlink(), "lacks heads_oskdft.py"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "lacks preprocessor_config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 64), "cannot be opened"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be opened"),
        (lambda folder: other_thresholds(folder), "is of other weights: measure"),
        (lambda folder: other_card(folder), "is the card of other weights"),
    ],
)
def test_what_others_could_not_use_is_not_sent(folder, spoil, sentence):
    check_model(folder)
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        check_model(folder)


def other_thresholds(folder):
    measure_thresholds([0, 0.1, 0.2, 0.3], [0, 0, 1, 1], 2, "made up", "0" * 64).save(folder)


def other_card(folder):
    page = write_card(folder)
    page.write_text(re.sub(r"weights [0-9a-f]{8}", "weights 00000000", page.read_text()))
