"""The training script on made-up voices and a random teacher of a real class: from a recipe to results.json."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModel

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials, write_trials
from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.training.run import run
from tests.tiny import SHAPES, tiny_teacher
from tests.training.making import write_teacher_and_trials
from train_oskdft import main


@pytest.fixture
def setting(tmp_path, voices, manifest, feature_extractor):
    """A teacher, a test set of other speakers, and the words of a short run."""
    others = write_teacher_and_trials(tmp_path, feature_extractor, speakers=3)
    recipe = {
        "output_dir": tmp_path / "run",
        "teacher": tmp_path / "teacher",
        "train_data": voices,
        "test_data": others,
        "test_trials": tmp_path / "trials.txt",
        "validation_fraction": 0.3,
        "head_type": "statistics_pooling",
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "crop_seconds": 0.5,
        "use_cpu": "true",
        "report_to": "none",
    }
    (tmp_path / "recipe.yaml").write_text("".join(f"{name}: {value}\n" for name, value in recipe.items()))
    return tmp_path


def test_from_a_recipe_to_results(setting, capsys):
    assert main([str(setting / "recipe.yaml"), "--adapter_size", "4"]) == 0
    results = json.loads((setting / "run" / "results.json").read_text())
    assert results["steps"] == 14 and results["selected_step"] in (7, 14)
    assert results["test"]["speakers"] == 3 and results["test"]["trials"] == 36
    assert {"seed", "versions", "machine", "history"} <= set(results)
    student = AutoModel.from_pretrained(setting / "run")
    assert student.config.adapter_size == 4 and student.config.teacher_layers == [0, 1]
    assert (setting / "run" / "preprocessor_config.json").is_file()
    thresholds = SpeakerVerifier.from_pretrained(setting / "run").thresholds
    assert thresholds.values["eer"] is not None and thresholds.speakers == 3
    calibration = SpeakerVerifier.from_pretrained(setting / "run").calibration
    assert calibration.fingerprint == thresholds.fingerprint and calibration.trials == 4 * thresholds.trials
    assert "The student is in" in capsys.readouterr().out


def test_a_folder_with_a_run_is_not_overwritten_but_gone_on_with(setting, capsys):
    recipe = str(setting / "recipe.yaml")
    assert main([recipe, "--max_steps", "7"]) == 0
    assert main([recipe]) == 2
    assert "already holds 'checkpoint-7': go on with --resume_from_checkpoint last" in capsys.readouterr().err
    assert main([recipe, "--resume_from_checkpoint", "last"]) == 0
    assert json.loads((setting / "run" / "results.json").read_text())["steps"] == 14
    assert main([recipe, "--resume_from_checkpoint", str(setting / "nowhere")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err


def test_the_plain_teacher_with_a_head(setting):
    words = ["--evenly_spaced_layers", "4", "--adapter_size", "0", "--kd_weight", "0", "--freeze", "encoder"]
    assert main([str(setting / "recipe.yaml"), "--max_steps", "2", *words]) == 0
    student = AutoModel.from_pretrained(setting / "run")
    assert student.config.encoder_config.num_hidden_layers == 4
    teacher = AutoModel.from_pretrained(setting / "teacher")
    ours = student.oskdft.encoder.layers[3].attention.q_proj.weight
    assert bool((ours == teacher.encoder.layers[3].attention.q_proj.weight).all())


@pytest.mark.parametrize("start", ["importance", "random_weights"])
def test_a_thin_student_publishes_no_projection(setting, start):
    words = ["--front_end_width", "8", "--hidden_size", "16", "--time_reduction", "2", "--student_start", start]
    words += ["--kd_objective", "layerwise_heads", "--front_end_kd_lambda", "1", "--logging_steps", "1"]
    assert main([str(setting / "recipe.yaml"), "--max_steps", "3", *words]) == 0
    results = json.loads((setting / "run" / "results.json").read_text())
    first = results["history"][0]
    assert results["recipe"]["student_start"] == start and results["recipe"]["front_end_kd_lambda"] == 1
    assert 0 < first["front_end_kd_loss"] < first["kd_loss"]
    student = AutoModel.from_pretrained(setting / "run")
    assert (student.config.encoder_config.conv_dim, student.config.encoder_config.hidden_size) == ([8] * 7, 16)
    published = load_file(setting / "run" / "model.safetensors")
    assert set(published) == set(student.state_dict())
    kept = load_file(setting / "run" / "checkpoint-3" / "objectives.safetensors")
    assert kept["front_end.projection.weight"].shape == (16, 8) and "kd.upsampling.convolution.weight" in kept
    assert not any(name.startswith(("front_end", "kd.")) for name in published)
    assert not list((setting / "run").glob("objectives*"))


def test_a_shape_that_cannot_be_is_one_sentence(setting, capsys):
    assert main([str(setting / "recipe.yaml"), "--hidden_size", "20"]) == 2
    assert "hidden_size is 20: it must be a multiple of 8" in capsys.readouterr().err
    assert main([str(setting / "recipe.yaml"), "--hidden_size", "16"]) == 2
    assert "use layerwise_heads or layerwise_projection" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4], SHAPES[5]])
def test_every_family(setting, feature_extractor, shape):
    tiny_teacher(*shape).save_pretrained(setting / "other_teacher")
    feature_extractor.save_pretrained(setting / "other_teacher")
    words = ["--teacher", str(setting / "other_teacher"), "--max_steps", "2", "--kd_objective", "layerwise_heads"]
    assert main([str(setting / "recipe.yaml"), *words]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "nobody/nothing"], "no teacher at 'nobody/nothing'"),
        (["--teacher", ""], "names no teacher"),
        (["--layers", "0", "4"], "layer 4 does not exist"),
        (["--layers", "0", "--evenly_spaced_layers", "2"], "give one of them"),
        (["--crop_seconds", "0.01"], "one frame needs 400 samples"),
        (["--per_device_train_batch_size", "1"], "at least 2 crops"),
        (["--margin", "wide"], "invalid float value"),
        (["--kd_target_layers", "2"], "kd_target_layers is [2] with last_layer_mse"),
        (["--evenly_spaced_layers", "5"], "5 layers were asked of a teacher of 4"),
        (["--train_data", "nowhere"], "neither a folder"),
        (["--noise_root", "nowhere"], "none of the folders"),
        (["--validation_fraction", "0.01"], "both sides of a split"),
        (["--test_trials", "nowhere.txt"], "no trial list"),
        (["--kd_schedule", "never"], "kd_schedule is 'never'"),
    ],
)
def test_bad_recipes_end_in_one_sentence(setting, capsys, words, message):
    assert main([str(setting / "recipe.yaml"), *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and error.startswith("oskdft: ")
    assert not (setting / "run" / "model.safetensors").exists()


def test_an_error_of_a_worker_is_one_sentence_too(setting, voices, capsys):
    import shutil

    shutil.copytree(voices, setting / "damaged")
    load_manifest(setting / "damaged").save(setting / "damaged.parquet")
    for file in sorted((setting / "damaged").rglob("*.flac")):
        file.write_bytes(file.read_bytes()[:4000])
    words = [
        "--train_data",
        str(setting / "damaged.parquet"),
        "--max_damaged_files",
        "3",
        "--dataloader_num_workers",
        "1",
    ]
    assert main([str(setting / "recipe.yaml"), *words, "--eval_strategy", "no"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert errors[-1].startswith("oskdft: More than 3 files of the training set are damaged")
    assert not any("Traceback" in line for line in errors)


def test_a_test_recording_that_is_not_there_is_named_before_training(setting, capsys):
    next((setting / "others").rglob("*.flac")).unlink()
    assert main([str(setting / "recipe.yaml")]) == 2
    assert "names 1 recordings that" in capsys.readouterr().err
    assert not (setting / "run").exists() or not list((setting / "run").glob("checkpoint-*"))


def test_training_on_test_speakers_is_refused(setting, voices, manifest, capsys):
    write_trials(make_trials(manifest.by_speaker()), setting / "own.txt")
    words = ["--test_data", str(voices), "--test_trials", str(setting / "own.txt")]
    assert main([str(setting / "recipe.yaml"), *words]) == 2
    assert "10 speakers are in both the training and the evaluation data" in capsys.readouterr().err


def test_a_teacher_of_another_family_is_refused(setting, capsys):
    from transformers import BertConfig

    BertConfig().save_pretrained(setting / "bert")
    assert main([str(setting / "recipe.yaml"), "--teacher", str(setting / "bert")]) == 2
    assert "family 'bert' is not supported" in capsys.readouterr().err


def test_a_program_gets_the_results_of_a_run(setting):
    results = run(read_recipe([str(setting / "recipe.yaml"), "--max_steps", "7"]))
    assert results.values["steps"] == 7 and results.selection_eer == results.values["selection_eer"]
    assert json.loads(Path(results.output_dir, "results.json").read_text()) == results.values
    assert results.thresholds.fingerprint == results.values["fingerprint"]
    assert "history" not in repr(results)
