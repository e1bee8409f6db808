import json
import sys
import time

import pytest

from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.tuning import trial
from modeling_oskdft.tuning.trial import finished, read_curve, run_trial, write_recipe

# Stands for a training: an evaluation every 0.2 s, a checkpoint at SIGTERM, the results at the end.
PROGRAM = """
import json, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1]).parent
rates = [0.5, 0.4, 0.3]
def stop(*_):
    (folder / "saved").touch()
    sys.exit(128 + signal.SIGTERM)
signal.signal(signal.SIGTERM, stop)
for step, rate in enumerate(rates, 1):
    time.sleep(0.2)
    place = folder / f"checkpoint-{step}"
    place.mkdir(exist_ok=True)
    history = [{"step": n + 1, "eval_eer": rates[n]} for n in range(step)]
    (place / "trainer_state.json").write_text(json.dumps({"log_history": history, "max_steps": 4}))
if "slow" in sys.argv[1]:
    time.sleep(60)
(folder / "results.json").write_text(json.dumps({"selection_eer": rates[-1]}))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_oskdft.tuning.trial.POLL", 0.02)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(trial, "TRAIN", (sys.executable, str(tmp_path / "program.py")))


def recipe_of(tmp_path, name="trial"):
    (tmp_path / "base.yaml").write_text("teacher: t\noutput_dir: x\ntest_trials: list.txt\nuse_cpu: true\n")
    (tmp_path / name).mkdir()
    return write_recipe(tmp_path / name, tmp_path / "base.yaml", {"kd_weight": "3", "test_trials": None})


def test_the_recipe_of_a_trial_inherits_and_takes_back(tmp_path):
    recipe = read_recipe([str(recipe_of(tmp_path))])
    assert recipe.student.teacher == "t" and recipe.objectives.kd_weight == 3 and recipe.data.test_trials is None
    assert recipe.training.output_dir == str(tmp_path / "trial")


def test_a_trial_is_followed_to_its_end(tmp_path, program):
    outcome = run_trial(recipe_of(tmp_path), lambda curve: True)
    assert outcome.state == "finished" and outcome.results == {"selection_eer": 0.3}
    assert outcome.curve == [(0.25, 0.5), (0.5, 0.4), (0.75, 0.3)] == read_curve(tmp_path / "trial")
    assert finished(tmp_path / "trial") and finished(tmp_path) is None


def test_a_curve_that_is_not_good_enough_ends_the_process(tmp_path, program):
    outcome = run_trial(recipe_of(tmp_path, "slow"), lambda curve: curve[-1][1] > 0.4)
    assert outcome.state == "stopped" and outcome.results is None and (tmp_path / "slow/saved").is_file()


def test_the_end_of_the_time_interrupts(tmp_path, program):
    start = time.monotonic()
    outcome = run_trial(recipe_of(tmp_path, "slow"), lambda curve: True, time.monotonic() + 1)
    assert outcome.state == "interrupted" and (tmp_path / "slow/saved").is_file() and time.monotonic() - start < 20


def test_an_interrupt_ends_the_process_before_it_is_raised(tmp_path, program):
    def interrupt(curve):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(recipe_of(tmp_path, "slow"), interrupt)
    assert (tmp_path / "slow/saved").is_file()


def test_a_failure_has_a_reason(tmp_path, monkeypatch):
    command = (sys.executable, "-c", "import sys; sys.exit('oskdft: There is no teacher.')")
    monkeypatch.setattr(trial, "TRAIN", command)
    outcome = run_trial(recipe_of(tmp_path), lambda curve: True)
    assert (outcome.state, outcome.reason) == ("failed", "There is no teacher.")


def test_a_trial_that_the_system_kills_has_failed(tmp_path, monkeypatch):
    program = "import os, signal; print('step 3', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(trial, "TRAIN", (sys.executable, "-c", program))
    outcome = run_trial(recipe_of(tmp_path), lambda curve: True)
    assert outcome.state == "failed" and "signal 9 ended it" in outcome.reason and "step 3" in outcome.reason


def test_a_recipe_below_a_link_finds_its_base(tmp_path):
    (tmp_path / "scratch/deep").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "scratch/deep")
    (tmp_path / "base.yaml").write_text("teacher: t\noutput_dir: x\n")
    (tmp_path / "runs/trial").mkdir()
    written = write_recipe(tmp_path / "runs/trial", tmp_path / "base.yaml", {})
    assert read_recipe([str(written), "--use_cpu", "true"]).student.teacher == "t"


def test_a_checkpoint_that_is_being_removed_is_passed_over(tmp_path):
    for step, text in ((1, json.dumps({"log_history": [{"step": 1, "eval_eer": 0.2}], "max_steps": 4})), (2, "{")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text(text)
    assert read_curve(tmp_path) == [(0.25, 0.2)]
