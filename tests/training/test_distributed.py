"""Two real processes on the CPU (gloo), launched as a user launches them."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModel

from modeling_oskdft.data.trials import make_trials, write_trials
from tests.tiny import tiny_teacher, tiny_verifier, waves

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def launcher(processes):
    """The words before a script: python alone, or `accelerate launch` with so many processes on the CPU.

    `--cpu --num_processes 2` would start one process and say nothing.
    """
    if processes == 1:
        return [sys.executable]
    words = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    words += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*words, "--main_process_port", str(free_port())]


def run(processes, *words):
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launcher(processes), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def launch(processes, recipe, *words):
    return run(processes, ROOT / "train_oskdft.py", recipe, *words)


def write_recipe(tmp_path, voices, feature_extractor):
    quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    tiny_teacher("hubert", True, "group", **quiet).save_pretrained(tmp_path / "teacher")
    feature_extractor.save_pretrained(tmp_path / "teacher")
    fields = {
        "teacher": tmp_path / "teacher",
        "train_data": voices,
        "validation_fraction": 0.3,
        "head_type": "statistics_pooling",
        "kd_objective": "layerwise_heads",
        "max_steps": 5,
        "crop_seconds": 0.5,
        "learning_rate": "1e-3",
        "use_cpu": "true",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 1,
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return recipe


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path, voices, feature_extractor):
    recipe = write_recipe(tmp_path, voices, feature_extractor)
    logs, models = [], []
    for processes, batch in ((1, 8), (2, 4)):
        folder = tmp_path / f"run{processes}"
        launch(processes, recipe, "--output_dir", str(folder), "--per_device_train_batch_size", str(batch))
        results = json.loads((folder / "results.json").read_text())
        assert results["processes"] == processes and results["steps"] == 5
        logs.append([entry for entry in results["history"] if "kd_loss" in entry])
        models.append(AutoModel.from_pretrained(folder).eval())
    waveforms, mask = waves(8000, 6000, 4000)
    one, two = (model(waveforms, mask).embeddings for model in models)
    assert bool((torch.nn.functional.cosine_similarity(one, two) > 0.9999).all())
    for whole, halves in zip(*logs, strict=True):
        for name in ("loss", "kd_loss", "ft_loss"):
            assert abs(whole[name] - halves[name]) < 2e-3 * abs(whole[name]), name


def test_two_processes_save_select_and_resume(tmp_path, voices, feature_extractor):
    recipe = write_recipe(tmp_path, voices, feature_extractor)
    words = ["--per_device_train_batch_size", "4", "--eval_strategy", "steps", "--save_strategy", "steps"]
    words += ["--eval_steps", "2", "--save_steps", "2"]
    whole, cut = ["--output_dir", str(tmp_path / "whole")], ["--output_dir", str(tmp_path / "cut")]
    launch(2, recipe, *words, *whole, "--max_steps", "4", "--num_train_epochs", "1")
    launch(2, recipe, *words, *cut, "--max_steps", "4", "--num_train_epochs", "1")
    for folder in ("whole", "cut"):
        assert not (tmp_path / folder / ".incomplete").exists()
        assert {file.name for file in (tmp_path / folder).glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    shutil.rmtree(tmp_path / "cut" / "checkpoint-4")
    launch(2, recipe, *words, *cut, "--max_steps", "4", "--resume_from_checkpoint", "last")
    first, second = (torch.load(tmp_path / folder / "checkpoint-4" / "optimizer.pt") for folder in ("whole", "cut"))
    for index, state in first["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second["state"][index][name]), (index, name)


def test_two_processes_evaluate_as_one(tmp_path, voices, manifest, feature_extractor):
    tiny_verifier().save_pretrained(tmp_path / "student")
    feature_extractor.save_pretrained(tmp_path / "student")
    write_trials(make_trials(manifest.by_speaker()), tmp_path / "trials.txt")
    words = ["evaluate", tmp_path / "student", "--data", voices, "--trials", tmp_path / "trials.txt", "--json"]
    words += ["--scoring", "combined", "--batch_seconds", "8"]
    reports = []
    for processes in (1, 2):
        module = ["-m"] if processes == 1 else ["--module"]
        done = run(processes, *module, "modeling_oskdft.commands", *words)
        (line,) = [one for one in done.stdout.splitlines() if one.startswith("{")]
        reports.append(json.loads(line))
    assert reports[0] == reports[1] and reports[0]["trials"] == 120


def test_a_bad_recording_ends_both_processes_with_its_name(tmp_path, voices, feature_extractor):
    code = """
import sys, torch
from accelerate import Accelerator
from transformers import Wav2Vec2FeatureExtractor
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.embedding.corpus import extract_embeddings
from modeling_oskdft.training.processes import end_process_group
from tests.tiny import tiny_verifier
state = Accelerator()
ones = torch.tensor([state.process_index + 1.0])
torch.distributed.all_reduce(ones)
assert state.num_processes == 2 and torch.distributed.get_backend() == "gloo" and float(ones) == 3
manifest = load_manifest(sys.argv[1])
if state.is_main_process:
    open(manifest.audio(0), "wb").write(b"nothing")
state.wait_for_everyone()
extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
try:
    extract_embeddings(tiny_verifier(), extractor, manifest, batch_seconds=8)
except ValueError as error:
    sys.stdout.write(f"rank {state.process_index}: {error}\\n")
found = extract_embeddings(tiny_verifier(), extractor, manifest, batch_seconds=8, max_damaged=1)
sys.stdout.write(f"rank {state.process_index} has {len(found)}\\n")
end_process_group()
"""
    (tmp_path / "both.py").write_text(code.replace("\\\\n", "\\n"))
    shutil.copytree(voices, tmp_path / "voices")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    printed = run(2, tmp_path / "both.py", tmp_path / "voices").stdout
    for rank in (0, 1):
        assert f"rank {rank}: '{tmp_path}/voices/voice000/session0/00.flac' cannot be read" in printed
        assert f"rank {rank} has 39" in printed


def test_what_is_wrong_ends_what_the_launcher_prints(tmp_path):
    program = "import sys\nfrom modeling_oskdft.errors import one_sentence_errors\n"
    program += "def fail(words):\n    raise ValueError('The recipe names no data: add train_data.')\n"
    (tmp_path / "fail.py").write_text(program + "sys.exit(one_sentence_errors(fail)([]))\n")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    command = [*launcher(2), str(tmp_path / "fail.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode != 0
    assert "The recipe names no data: add train_data." in done.stderr.rstrip().splitlines()[-2]
