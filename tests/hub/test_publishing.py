"""The training script pushes its student to a hub."""

import json

from tests.hub.test_upload import PUBLISHED
from tests.tiny import tiny_teacher

TRAIN = [
    "train_oskdft.py",
    *("--validation_fraction", "0.3", "--max_steps", "2", "--num_train_epochs", "1", "--report_to", "none"),
    *("--per_device_train_batch_size", "4", "--crop_seconds", "0.5", "--use_cpu", "true"),
    *("--head_type", "statistics_pooling", "--hub_license", "cc-by-4.0", "--hub_strategy", "every_save"),
    *("--push_to_hub", "true", "--hub_model_id", "org/trained", "--hub_private_repo", "true"),
]


def test_the_trainer_pushes_and_the_card_has_the_measurements(tmp_path, hub, at_hub, voices, feature_extractor):
    tiny_teacher("hubert", True, "group").save_pretrained(tmp_path / "teacher")
    feature_extractor.save_pretrained(tmp_path / "teacher")
    command = [*TRAIN, "--teacher", tmp_path / "teacher", "--train_data", voices, "--output_dir", tmp_path / "run"]
    refused = at_hub(*command, token=None, home="stranger")
    assert refused.returncode == 2 and "log in with `hf auth login`" in refused.stderr
    done = at_hub(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    repository = hub.repositories["model", "org/trained"]
    assert repository.private
    assert len(repository.commits) == 3, "made, while training, at the end"
    for _, files in repository.commits[1:]:
        assert set(files) - {"thresholds.json", "calibration.json"} == PUBLISHED | {".gitattributes"}
    files = hub.files("org/trained")
    thresholds, card = json.loads(files["thresholds.json"]), files["README.md"].decode()
    assert thresholds["fingerprint"] in card and 'from_pretrained("org/trained")' in card
    assert "license: cc-by-4.0" in card and "2 steps" in card and str(tmp_path) not in card
    assert f"Data: {voices.name}, " in card
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]


def test_a_hub_that_is_away_costs_neither_run_nor_checkpoint(tmp_path, hub, at_hub, voices, feature_extractor):
    tiny_teacher("hubert", True, "group").save_pretrained(tmp_path / "teacher")
    feature_extractor.save_pretrained(tmp_path / "teacher")
    hub.refuse_uploads_after = 0
    command = [*TRAIN, "--teacher", tmp_path / "teacher", "--train_data", voices, "--output_dir", tmp_path / "run"]
    done = at_hub(*command)
    assert done.returncode == 2 and "run the same command again" in done.stderr, "the last push is the run's business"
    assert "Step 2 did not reach the Hub" in done.stderr
    assert (tmp_path / "run/checkpoint-2/model.safetensors").is_file() and (tmp_path / "run/README.md").is_file()
