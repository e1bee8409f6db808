import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from tests.training.making import make_trainer
from tests.training.test_distributed import launcher, write_recipe

ROOT = Path(__file__).resolve().parents[3]

QUIET = {"validate": False, "max_steps": 6}


def start(processes, recipe, folder, *words):
    """A run in a session of its own, so that a signal reaches launcher and processes, as a scheduler sends it."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launcher(processes), str(ROOT / "train_oskdft.py"), str(recipe), "--output_dir", str(folder), *words]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, **pipes, env=environment, cwd=ROOT, start_new_session=True)


def end(process):
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGKILL, 2)])
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path, voices, feature_extractor, number, processes):
    """With workers, augmentation, masks, an average and one or two processes; killed wherever it stands, and again."""
    noise = tmp_path / "musan" / "noise" / "x"
    noise.mkdir(parents=True)
    soundfile.write(noise / "n.wav", np.random.default_rng(0).normal(size=32000) * 0.1, 16000)
    recipe = write_recipe(tmp_path, voices, feature_extractor)
    words = ["--max_steps", "30", "--per_device_train_batch_size", "4", "--dataloader_num_workers", "2"]
    words += ["--noise_root", str(tmp_path / "musan"), "--clipping_probability", "0.3", "--codec_probability", "0.3"]
    words += ["--spec_mask_probability", "0.6", "--speed_perturbation", "0.9", "1.1", "--ema_decay", "0.9"]
    words += ["--save_strategy", "steps", "--save_steps", "4", "--resume_from_checkpoint", "auto"]
    whole = start(processes, recipe, tmp_path / "whole", *words)
    for _ in range(2):
        cut = start(processes, recipe, tmp_path / "cut", *words)
        for line in cut.stderr:
            if line.startswith("epoch"):
                break  # at least one step of this process is done
        time.sleep(random.Random().uniform(0, 0.5))
        os.killpg(cut.pid, number)
        err = cut.communicate(timeout=120)[1]
        all_steps_done = (tmp_path / "cut" / "checkpoint-30").exists()  # then there is nothing left to save
        if number == signal.SIGTERM and cut.returncode and not all_steps_done:
            assert "a checkpoint was saved; go on with --resume_from_checkpoint last" in err
            assert processes == 2 or cut.returncode == 143
    end(start(processes, recipe, tmp_path / "cut", *words))
    end(whole)
    for name in ("model.safetensors", "objectives.safetensors", "ema.safetensors"):
        ours, theirs = (load_file(tmp_path / folder / "checkpoint-30" / name) for folder in ("cut", "whole"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not list((tmp_path / "cut").glob(".partial*"))


def test_sigterm_within_an_epoch_saves_once_and_validates_nothing(tmp_path, manifest, feature_extractor):
    from transformers import TrainerCallback

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer(tmp_path, manifest, feature_extractor, callbacks=[Kill()], load_best_model_at_end=False)
    trainer.train()
    assert trainer.stopper.received and trainer.state.global_step == 3
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert not [entry for entry in trainer.state.log_history if "eval_eer" in entry]
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = make_trainer(tmp_path, manifest, feature_extractor)
    resumed.train(resume_from_checkpoint=True)
    assert len([entry for entry in resumed.state.log_history if "eval_eer" in entry]) == 2
