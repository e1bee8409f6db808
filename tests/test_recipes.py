"""Every VoxCeleb recipe as it is, for a few steps, on a tree of VoxCeleb's layout and a teacher of the real class."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from transformers import AutoModel

from modeling_oskdft.data.prepare_voxceleb import prepare_voxceleb
from modeling_oskdft.training.recipe import read_recipe
from tests.tiny import tiny_teacher
from tests.training.test_speech_encoders import save as save_teacher
from train_oskdft import main

RECIPES = Path(__file__).resolve().parents[1] / "examples" / "recipes"
# The published shapes: family, pre-norm, norm of the convolutions, depth.
TEACHERS = {
    "wav2vec2_xlsr_ecapa_voxceleb2": ("wav2vec2", True, "layer", 24),
    "hubert_base_voxceleb1": ("hubert", False, "group", 12),
    "wavlm_base_plus_voxceleb1": ("wavlm", False, "group", 12),
    "hubert_base_ecapa_voxceleb2": ("hubert", False, "group", 12),
    "hubert_base_thin_voxceleb2": ("hubert", False, "group", 12),
}
# A thin shape in proportion to that teacher. Its layers keep their width: in bfloat16, oneDNN's grouped convolution is
# wrong at the 8 channels a group that half of it would leave.
SHAPES = {"hubert_base_thin_voxceleb2": ["--front_end_width", "8", "--hidden_size", "32"]}
FEW = ["--max_steps", "2", "--num_train_epochs", "1", "--per_device_train_batch_size", "4", "--use_cpu", "true"]
FEW += ["--validation_fraction", "0.34", "--dataloader_num_workers", "0", "--logging_steps", "1"]


@pytest.fixture
def place(tmp_path, voxceleb, feature_extractor, monkeypatch):
    """A working folder with everything at the places that the recipes name."""
    prepare_voxceleb(voxceleb / "1", voxceleb / "2", tmp_path / "data" / "voxceleb", workers=1)
    trials = tmp_path / "data/voxceleb/voxceleb1_o_cleaned.txt"
    trials.with_name("voxceleb1_o.txt").write_bytes(trials.read_bytes())
    generator = np.random.default_rng(0)
    for folder in ("musan/noise/a", "musan/speech/a", "musan/music/a", "simulated_rirs/smallroom/Room001"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        noise = generator.normal(scale=0.1, size=8000)
        soundfile.write(tmp_path / "data" / folder / "1.wav", noise, 16000)
    feature_extractor.save_pretrained(tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TEACHERS)
def test_a_recipe_runs_from_the_tree_to_the_table(place, name):
    *shape, depth = TEACHERS[name]
    tiny_teacher(*shape, layers=depth).save_pretrained(place / "teacher")
    assert main([str(RECIPES / f"{name}.yaml"), "--teacher", str(place / "teacher"), *FEW, *SHAPES.get(name, [])]) == 0
    results = json.loads((place / "runs" / name / "results.json").read_text())
    assert results["steps"] == 2 and results["test"]["trials"] == 28 and results["test"]["speakers"] == 2
    assert results["history"][0]["kd_loss"] > 0
    student = AutoModel.from_pretrained(place / "runs" / name)
    assert ("front_end_kd_loss" in results["history"][0]) == ("thin" in name)
    assert student.config.encoder_config.num_hidden_layers == (4 if "xlsr" in name else 2)
    assert list((place / "runs" / name).rglob("events.out.tfevents.*"))


def test_large_margin_fine_tuning_goes_on_where_the_first_run_ended(place):
    tiny_teacher("hubert", False, "group", layers=12).save_pretrained(place / "teacher")
    words = ["--teacher", str(place / "teacher"), *FEW]
    assert main([str(RECIPES / "hubert_base_ecapa_voxceleb2.yaml"), *words]) == 0
    assert main([str(RECIPES / "hubert_base_ecapa_voxceleb2_large_margin.yaml"), *words]) == 0
    results = json.loads((place / "runs/hubert_base_ecapa_voxceleb2_large_margin/results.json").read_text())
    assert "kd_loss" not in results["history"][0] and results["test"]["trials"] == 28


def test_a_student_of_one_family_learns_from_a_teacher_of_another(place):
    save_teacher(place / "w2v-bert", "w2v-BERT 2.0", num_hidden_layers=24)
    tiny_teacher("hubert", False, "group", layers=12).save_pretrained(place / "teacher")
    words = ["--teacher", str(place / "w2v-bert"), "--student_from", str(place / "teacher"), *FEW]
    assert main([str(RECIPES / "w2v_bert_to_hubert_base_voxceleb2.yaml"), *words]) == 0
    results = json.loads((place / "runs/w2v_bert_to_hubert_base_voxceleb2/results.json").read_text())
    assert results["history"][0]["kd_loss"] > 0 and results["test"]["trials"] == 28
    assert results["teachers"] == {"student_from": "teacher", "hidden_states": "w2v-bert"}


def test_a_teacher_is_fine_tuned_and_distilled_from(place):
    tiny_teacher("wavlm", True, "layer", layers=24).save_pretrained(place / "teacher")
    words = ["--teacher", str(place / "teacher"), *FEW]
    assert main([str(RECIPES / "wavlm_large_finetuned_voxceleb2.yaml"), *words]) == 0
    tiny_teacher("wavlm", False, "group", layers=12).save_pretrained(place / "teacher")
    assert main([str(RECIPES / "wavlm_large_to_wavlm_base_plus_voxceleb2.yaml"), *words]) == 0
    results = json.loads((place / "runs/wavlm_large_to_wavlm_base_plus_voxceleb2/results.json").read_text())
    assert results["history"][0]["embedding_kd_loss"] > 0 and "kd_loss" not in results["history"][0]
    assert results["teachers"] == {"student_from": "teacher", "embeddings": ["wavlm_large_finetuned_voxceleb2"]}


def test_the_recipes_say_what_the_authors_settings_are():
    """Against the authors' arguments.py (scripts/prev and both newer scripts at 7ba757d)."""
    paper = read_recipe([str(RECIPES / "wav2vec2_xlsr_ecapa_voxceleb2.yaml"), "--bf16", "false"])
    assert (paper.student.layers, paper.student.ecapa_channels, paper.student.embedding_size) == (
        [0, 1, 2, 3],
        512,
        192,
    )
    assert (paper.objectives.margin, paper.objectives.scale, paper.objectives.mse_scale) == (0.2, 30, 100)
    assert (paper.training.learning_rate, paper.training.min_learning_rate) == (1e-4, 1e-6)
    assert 8 * paper.training.per_device_train_batch_size == 128 and paper.training.num_train_epochs == 100
    assert (paper.data.crop_seconds, paper.data.augment_probability) == (2, 0.6)
    for name, activation in (("hubert_base", "relu"), ("wavlm_base_plus", "elu")):
        repository = read_recipe([str(RECIPES / f"{name}_voxceleb1.yaml")])
        assert repository.student.adapter_activation == activation and repository.student.adapter_noise == [0.1, 0.5]
        assert (repository.training.learning_rate, repository.training.weight_decay) == (5e-5, 1e-4)
        assert (repository.training.per_device_train_batch_size, repository.data.crop_seconds) == (50, 3)
        assert repository.objectives.kd_target_layers == [4, 8, 12] and repository.data.noise_root is None
