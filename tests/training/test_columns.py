import pytest

from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.training.class_validation import ClassScorer, LabelledDataset
from modeling_oskdft.training.training_arguments import OSKDFTTrainingArguments
from modeling_oskdft.training.transcription import TextScorer, TranscribedDataset
from train_oskdft import main

CLASSES = (LabelledDataset, ClassScorer, "mood", ("angry", "calm"))
TEXTS = (TranscribedDataset, TextScorer, "said", ("<pad>", "<unk>", "|", *"ahlo"))


@pytest.mark.parametrize(("kind", "scorer", "column", "values"), [CLASSES, TEXTS])
def test_recordings_without_a_value_are_left_out(table, kind, scorer, column, values):
    manifest = load_manifest(table, "train")
    dataset = kind(manifest, column, values)
    pairs = zip(manifest.column("utterance_id"), manifest.column(column), strict=True)
    filled = [name for name, value in pairs if value]
    assert 0 < len(dataset) == len(filled) < len(manifest)
    assert list(dataset.labels()) == filled == dataset.recordings.column("utterance_id")
    with pytest.raises(ValueError, match=f"No recording here has .* in '{column}'"):
        kind(manifest.where("utterance_id", []), column, values)


@pytest.mark.parametrize(("kind", "scorer", "column", "values"), [CLASSES, TEXTS])
def test_a_scorer_takes_its_own_kind_and_has_no_thresholds(table, tmp_path, kind, scorer, column, values):
    made = scorer(None, OSKDFTTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"), 0)
    with pytest.raises(TypeError, match=f"evaluate was given a Manifest: a {kind.__name__} is needed"):
        made.error_rates(None, load_manifest(table))
    with pytest.raises(ValueError, match="without validation data"):
        made.error_rates(None)
    assert made.measurements(None) == ()
    with pytest.raises(ValueError, match="has no thresholds"):
        made.thresholds(None)


@pytest.mark.parametrize("column", [("--label_column", "mood"), ("--text_column", "said", "--crop_seconds", "5")])
def test_a_run_without_evaluation_ends_with_a_card(words, tmp_path, column):
    more = [
        "--eval_strategy",
        "no",
        "--save_strategy",
        "no",
        "--max_steps",
        "1",
        "--output_dir",
        str(tmp_path / "run"),
    ]
    assert main([*words, *column, *more]) == 0
    card = (tmp_path / "run/README.md").read_text()
    assert "Not measured on a test." in card and "chose the checkpoint" not in card
