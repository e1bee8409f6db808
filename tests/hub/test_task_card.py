import pytest
from huggingface_hub import ModelCard

from modeling_oskdft.files import write_json
from modeling_oskdft.hub.model_card import Statements
from modeling_oskdft.hub.task_card import write_task_card

ENCODER = {"encoder_parameters": 1234567, "encoder_milliseconds": 7.25}
TEST = {
    **{"uar": 0.75, "uar_interval": [0.5, 1.0], "macro_f1": 0.7, "macro_f1_interval": [0.4, 0.9]},
    **{"accuracy": 0.8, "accuracy_interval": [0.6, 0.9], "classes": ["a", "b"], "confusion": [[3, 1], [0, 1]]},
    **{"recordings": 5, "speakers": 2},
}


@pytest.fixture
def results():
    return {
        "fingerprint": "f" * 64,
        "encoders": {"teacher": ENCODER, "student": ENCODER},
        "machine": {"cpu": "a processor"},
        "versions": {"torch": "2", "transformers": "5"},
        "seed": 0,
        "data": {"name": "calls", "utterances": 1000, "speakers": 20, "hours": 1.5},
        "recipe": {"label_column": "mood", "text_column": None},
        "teachers": {"student_from": "org/hubert", "hidden_states": "org/hubert", "embeddings": ["org/verifier"]},
        "classes": ["a", "b"],
        "selection_uar": 0.9,
        "test": TEST,
    }


def card_of(folder, results, **statements):
    write_json(results, folder / "results.json")
    write_task_card(folder, ("A classifier of recordings", "audio-classification"), Statements(**statements))
    return ModelCard.load(folder / "README.md")


def test_results_and_licences_stand_in_both_halves(tmp_path, results):
    card = card_of(tmp_path, results, license="mit", data_license="CC0")
    assert card.data.license == "mit" and card.data.base_model == "org/hubert"
    assert "| UAR | 75.0 | 50.0 to 100.0 |" in card.text and "| a | 3 | 1 |" in card.text
    assert "distilled from org/hubert, org/verifier and fine-tuned in the same run" in card.text
    assert "CC0 (data), not stated (teacher), mit (this model)" in card.text
    assert {result.metric_type for result in card.data.eval_results} == {"uar", "macro_f1", "accuracy"}


def test_what_was_not_measured_is_said(tmp_path, results):
    del results["test"]
    results["teachers"] = {"student_from": "teacher"}
    card = card_of(tmp_path, results)
    assert "Not measured on a test." in card.text and "UAR 90.0 %" in card.text
    assert "cut from teacher and fine-tuned." in card.text and card.data.eval_results is None


def test_names_from_the_data_are_no_markup(tmp_path, results):
    names = ["a|b", "<b>c</b>\nd"]
    results["classes"] = results["test"]["classes"] = names
    text = card_of(tmp_path, results).text
    assert "a\\|b" in text and "&lt;b>c" in text and "<b>" not in text and "\nd" not in text.split("## Use")[0]


def test_a_page_written_by_hand_stays(tmp_path, results):
    (tmp_path / "README.md").write_text("mine")
    write_json(results, tmp_path / "results.json")
    write_task_card(tmp_path, ("A classifier of recordings", "audio-classification"))
    assert (tmp_path / "README.md").read_text() == "mine"
