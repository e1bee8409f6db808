"""The study on made-up voices and a tiny teacher: a few steps of real systems, then a page that says so."""

import json
import shutil

import numpy as np
import pytest
import yaml

from examples.one_step_or_two.page import REFERENCE, RIVALS, findings, read, summarise
from examples.one_step_or_two.plots import CURVES
from examples.one_step_or_two.study import HERE, main, systems_in
from examples.one_step_or_two.unpacking import unpacked
from modeling_oskdft import OSKDFTConfig
from modeling_oskdft.audio import load_audio
from modeling_oskdft.data.manifest import load_manifest
from modeling_oskdft.data.synthetic_voices import write_voices
from modeling_oskdft.evaluation.scoring import make_trials, write_trials
from modeling_oskdft.training.arguments import read_recipe
from tests.tiny import tiny_config, tiny_teacher


def test_every_system_is_a_few_lines_over_the_base():
    names = systems_in(HERE)
    assert {REFERENCE, *RIVALS, *CURVES} <= set(names)
    for name in names:
        file = HERE / name / "recipe.yaml"
        first, second, *rest = file.read_text().splitlines()
        assert first.startswith("# ") and second == "base: ../base.yaml" and len(rest) <= 7
        own = yaml.safe_load(file.read_text())
        assert own.get("start_from") in (None, *names)
        recipe = read_recipe([str(file), "--output_dir", "unused"])
        assert recipe.data.test_trials is None, "trials are read by the study alone, once"


@pytest.fixture(scope="module")
def setting(tmp_path_factory, voices, feature_extractor):
    folder = tmp_path_factory.mktemp("study")
    tiny_teacher("hubert", True, "group").save_pretrained(folder / "teacher")
    feature_extractor.save_pretrained(folder / "teacher")
    others = write_voices(folder / "others", 4, 2, 2, seed=8)
    for speaker in sorted(others.iterdir()):
        speaker.rename(speaker.with_name("other" + speaker.name))
    write_trials(make_trials(load_manifest(others).by_speaker()), folder / "trials.txt")
    return folder


def words(setting, voices, *more):
    fields = {"data": voices, "test_data": setting / "others", "trials": setting / "trials.txt"}
    fields |= {"results": setting / "results", "runs": setting / "runs", "teacher": setting / "teacher"}
    fields |= {"noise_root": voices.parent / "noise", "rir_root": voices}  # strange rooms, but rooms
    fields |= {"validation_fraction": 0.3, "per_device_train_batch_size": 4, "crop_seconds": 0.5}
    shutil.copytree(voices, voices.parent / "noise" / "noise", dirs_exist_ok=True)
    return [*(str(word) for name, value in fields.items() for word in (f"--{name}", value)), *more]


def test_it_runs_what_is_missing_and_renders(setting, voices, capsys):
    systems = ["07_distilled_finetuned", "11_oskdft"]
    asked = words(setting, voices, "--epochs", "2", "--seeds", "0", "--systems", *systems, "--adapter_size", "4")
    assert main(asked) == 0
    stored = read(setting / "results")
    assert list(stored) == systems
    two_steps, one_step = (stored[system][0] for system in systems)
    assert two_steps["steps"] == one_step["steps"] == 14, "the same total"
    assert one_step["config"]["adapter_size"] == 4
    assert (setting / "runs" / "seed-0" / "05_distilled" / "results.json").is_file()
    page = (setting / "results.md").read_text()
    assert "| 11 | OS-KDFT |" in page and "the same total of steps: " in page
    assert json.loads((setting / "results.json").read_text())["trials"] == len(one_step["scores"])
    for plot in ("rates", "curves", "frontier"):
        for theme in ("light", "dark"):
            assert (setting / "results" / f"{plot}_{theme}.png").stat().st_size > 5000
    # What has a result is not run again, and its page is rendered alike.
    shutil.rmtree(setting / "runs")
    assert main(asked) == 0 and (setting / "results.md").read_text() == page
    # A run that fails is named, with where to look.
    broken = [*asked[: asked.index("--seeds")], "--seeds", "1", "--systems", "11_oskdft", "--margin", "9"]
    assert main(broken) == 2
    assert "The run of 11_oskdft, seed 1, ended with: oskdft: margin is 9.0" in capsys.readouterr().err


def test_what_is_missing_is_said(setting, voices, capsys):
    assert main(["--data", str(voices)]) == 2
    assert "give the trial list" in capsys.readouterr().err
    nothing = [*words(setting, voices, "--seeds"), "--results", str(setting / "empty")]
    assert main(nothing) == 2
    assert "There is no result in" in capsys.readouterr().err


def made_up(separations, seeds=(0, 1)):
    """Stored results whose scores part the speakers by so much."""
    speakers = [(f"s{a}", f"s{b}") for a in range(12) for b in range(a, 12) for _ in range(4 if a == b else 1)]
    labels = [int(a == b) for a, b in speakers]
    stored = {}
    for system, separation in separations.items():
        for seed in seeds:
            noise = np.random.default_rng(seed).normal(size=len(labels))
            stored.setdefault(system, {})[seed] = {
                "label": system,
                "scores": (separation * np.asarray(labels) + noise).tolist(),
                "eer": 0.1,
                "steps": 1,
                "seconds": 60.0,
                "parameters": 1,
                "encoder_parameters": 1,
                "selection_eer": 0.1,
                "train": {},
                "machine": {},
                "versions": {},
                "config": OSKDFTConfig.to_dict(tiny_config()),
            }
    return stored, labels, speakers


def test_a_clear_difference_is_called_one_and_no_difference_undecided():
    stored, labels, speakers = made_up({RIVALS[0]: 0.5, RIVALS[2]: 2.0, REFERENCE: 2.0, RIVALS[3]: 4.0})
    systems = summarise(stored, labels, speakers)["systems"]
    assert systems[RIVALS[2]]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert "difference" not in systems[REFERENCE]
    said = findings(systems)
    assert said.startswith("Of 3 rivals OS-KDFT is better than 1 and worse than 1")
    assert said.count("undecided") == 2 and "nothing can be said" in findings({})


def test_unpacked_audio_is_the_same_audio(tmp_path, shared):
    source = tmp_path / "source"
    some = sorted((shared / "data" / "speech").glob("*/*/*/*.ogg"))[0]
    (source / "a").mkdir(parents=True)
    shutil.copyfile(some, source / "a" / "b.ogg")
    (source / "manifest.csv").write_text("path,speaker,session\na/b.ogg,a,s\n")
    target = unpacked(source, tmp_path / "target")
    assert "a/b.wav,a,s" in (target / "manifest.csv").read_text()
    ours, theirs = load_audio(target / "a" / "b.wav"), load_audio(source / "a" / "b.ogg")
    assert np.abs(ours - theirs).max() <= 1 / 32768
    before = (target / "a" / "b.wav").stat().st_mtime_ns
    unpacked(source, target)
    assert (target / "a" / "b.wav").stat().st_mtime_ns == before
