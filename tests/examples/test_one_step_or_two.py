"""The study on made-up voices and a tiny teacher: a few training steps of real systems, then their page."""

import fcntl
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from transformers import HubertConfig

from examples.one_step_or_two.all_pairs import all_pairs
from examples.one_step_or_two.page import (
    LONGER,
    REFERENCE,
    RIVALS,
    direction,
    findings,
    frontier,
    machines,
    read,
    summarise,
)
from examples.one_step_or_two.plots import CURVES, columns_of, unbeaten
from examples.one_step_or_two.study import HERE, Study, main
from examples.one_step_or_two.systems import as_fields
from examples.one_step_or_two.unpacking import unpacked
from modeling_oskdft import OSKDFTConfig
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.training.inputs import student_config
from modeling_oskdft.training.recipe import read_recipe
from tests.tiny import encoder_config, tiny_config
from tests.training.making import write_teacher_and_trials


def study(tmp_path, **common):
    trials = tmp_path / "trials.txt"
    trials.write_text("1 a b\n")
    return Study(HERE, tmp_path, tmp_path, "data", "data", None, trials, 2.0, common)


def test_every_system_is_a_few_lines_over_the_base(tmp_path):
    made = study(tmp_path)
    names = made.systems()
    assert {REFERENCE, *RIVALS, *CURVES} <= set(names)
    for name in names:
        first, second, *rest = (HERE / name / "recipe.yaml").read_text().splitlines()
        assert first.startswith("# ") and second == "base: ../base.yaml" and len(rest) <= 7
        assert made.recipe_of(name).get("start_from") in (None, *names)
        assert {teacher for teacher, _ in made.teachers_of(name, 0)} <= set(names)


def test_all_pairs_are_those_of_one_speaker_and_of_a_group():
    rows = [("a1", "a", "x", "f"), ("a2", "a", "x", "f"), ("b1", "b", "x", "f"), ("c1", "c", "x", "m")]
    columns = zip(*rows, strict=True)
    names = ("utterance_id", "speaker_id", "corpus", "gender")
    table = pa.table({**dict(zip(names, map(list, columns), strict=True)), "age_group": ["adult"] * 4})
    trials = all_pairs(Manifest(table, Path()))
    assert dict(zip(zip(trials.enrolments, trials.tests, strict=True), trials.labels.tolist(), strict=True)) == {
        ("a1", "a2"): 1,
        ("a1", "b1"): 0,
        ("a2", "b1"): 0,
    }


def test_a_verifier_whose_embeddings_are_learnt_is_a_system_of_the_same_seed(tmp_path):
    made = study(tmp_path)
    assert made.teachers_of("30_embedding", 2) == [("02_teacher_finetuned", 2)] and not made.teachers_of(
        "11_oskdft", 2
    )
    copy = tmp_path / "systems"
    shutil.copytree(HERE, copy)
    (copy / "30_embedding/recipe.yaml").write_text("# Two\nembedding_teachers: [02_teacher_finetuned, 01_x+1]\n")
    other = replace(made, folder=copy)
    assert other.teachers_of("30_embedding", 2) == [("02_teacher_finetuned", 2), ("01_x", 3)]
    teacher = copy / "02_teacher_finetuned/recipe.yaml"
    before = [other.digest(name) for name in ("32_states_and_embedding", "11_oskdft")]
    teacher.write_text(teacher.read_text() + "margin: 0.1\n")
    after = [other.digest(name) for name in ("32_states_and_embedding", "11_oskdft")]
    assert before[0] != after[0] and before[1] == after[1] == made.digest("11_oskdft")


def test_equal_steps_for_every_student(tmp_path):
    made = study(tmp_path)
    totals = {name: sum(made.epochs_of(step) for step in made.chain(name)) for name in made.with_a_row(None)}
    longer = {"09_distilled_finetuned_twice": 4.0, "38_large_margin": 3.0}
    longer |= {name: 8.0 for name in totals if name.endswith("_longer")}
    longer |= {name: 20.0 for name in totals if name.endswith("_ten_times")}
    assert {name: total for name, total in totals.items() if total != 2.0} == longer


@pytest.mark.parametrize("teacher", [HubertConfig(), encoder_config(layers=4, num_conv_pos_embedding_groups=4)])
def test_every_system_can_be_built_for_teachers_of_any_size(tmp_path, teacher):
    made = study(tmp_path)
    for name in made.systems():
        recipe = read_recipe([str(HERE / name / "recipe.yaml"), "--output_dir", "unused"])
        assert recipe.data.test_trials is None, "trials are read by the study alone, once"
        config = student_config(recipe, teacher)
        assert (config.adapter_size == 0) == ("adapter_size" in made.recipe_of(name) and name != "14_adapter_16")


def test_a_system_s_own_recipe_replaces_common_fields(tmp_path):
    made = study(tmp_path, adapter_size="8", margin="0.3")
    assert made.options_of("11_oskdft") == ["--adapter_size", "8", "--margin", "0.3"]
    assert made.options_of("10_single_path") == ["--margin", "0.3"], "it has no adapters, whatever the others have"
    assert made.digest("10_single_path") == study(tmp_path, margin="0.3").digest("10_single_path")
    assert made.digest("11_oskdft") != study(tmp_path, margin="0.3").digest("11_oskdft")
    with pytest.raises(ValueError, match="num_train_epochs was given for all systems: the study decides"):
        study(tmp_path, num_train_epochs="4")
    with pytest.raises(ValueError, match="no system '11_oskdf' with a row: did you mean '11_oskdft'"):
        made.with_a_row(["11_oskdf"])
    assert as_fields(["--layers", "0", "1", "--margin=0.3"]) == {"layers": ["0", "1"], "margin": ["0.3"]}
    with pytest.raises(ValueError, match="'stray' belongs to no option"):
        as_fields(["stray", "--margin", "1"])


@pytest.fixture(scope="module")
def setting(tmp_path_factory, voices, feature_extractor):
    folder = tmp_path_factory.mktemp("study")
    write_teacher_and_trials(folder, feature_extractor, speakers=4)
    return folder


def command_line(setting, voices, *more):
    fields = {"data": voices, "test_data": setting / "others", "trials": setting / "trials.txt"}
    fields |= {"results": setting / "results", "runs": setting / "runs", "teacher": setting / "teacher"}
    fields |= {"noise_root": voices.parent / "noise", "rir_root": voices}  # strange rooms, but rooms
    fields |= {"validation_fraction": 0.3, "per_device_train_batch_size": 4, "crop_seconds": 0.5}
    shutil.copytree(voices, voices.parent / "noise" / "noise", dirs_exist_ok=True)
    return [*(str(argument) for name, value in fields.items() for argument in (f"--{name}", value)), *more]


def test_systems_without_a_result_are_run_and_rendered(setting, voices, capsys):
    systems = ["07_distilled_finetuned", "11_oskdft"]
    arguments = command_line(
        setting, voices, "--epochs", "2", "--seeds", "0", "--systems", *systems, "--adapter_size", "4"
    )
    assert main(arguments) == 0
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
    # A system with a result is not run again, and its page is rendered alike.
    shutil.rmtree(setting / "runs")
    assert main(arguments) == 0 and (setting / "results.md").read_text() == page
    assert main(["--results", str(setting / "results"), "--seeds"]) == 0, "rendering needs no data"
    capsys.readouterr()
    # Results of other settings are not mixed with these.
    assert main([*arguments, "--margin", "0.3"]) == 2
    assert "was made with another recipe, other options, data or trials" in capsys.readouterr().err
    # A run that fails is named with its log file, and the other results are rendered.
    (setting / "results.md").unlink()
    broken = [
        *arguments[: arguments.index("--seeds")],
        "--seeds",
        "1",
        "--systems",
        "11_oskdft",
        "--crop_seconds",
        "0.001",
    ]
    assert main(broken) == 2
    error = capsys.readouterr().err
    assert "ended with: oskdft: " in error and "crop_seconds" in error
    assert (setting / "results.md").is_file()


def test_speakers_of_the_trials_are_not_trained_on(setting, voices, capsys):
    assert main(command_line(setting, setting / "others", "--results", str(setting / "third"))) == 2
    assert "speakers are in both the training and the evaluation data" in capsys.readouterr().err
    assert not (setting / "runs" / "third").exists()


def test_a_student_that_cannot_be_built_is_named_before_any_run(setting, voices, capsys):
    arguments = command_line(
        setting, voices, "--hidden_size", "0.4", "--systems", "11_oskdft", "--results", str(setting / "fourth")
    )
    assert main(arguments) == 2
    assert "The system 11_oskdft cannot be built: hidden_size is 13" in capsys.readouterr().err


def test_a_run_belongs_to_one_process(tmp_path, setting, voices, capsys):
    run = tmp_path / "runs" / "seed-0" / "11_oskdft"
    run.mkdir(parents=True)
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        arguments = command_line(
            setting, voices, "--systems", "11_oskdft", "--seeds", "0", "--results", str(tmp_path / "results")
        )
        assert main([*arguments, "--runs", str(tmp_path / "runs")]) == 2
    assert "Another process is training in" in capsys.readouterr().err


def test_missing_data_teachers_and_results_are_named(setting, voices, capsys):
    assert main(["--data", str(voices)]) == 2
    assert "give the trial list" in capsys.readouterr().err
    for teacher, sentence in (
        ([], "names no teacher: set teacher"),
        (["--teacher", "no/where"], "There is no teacher at"),
    ):
        assert main(["--data", str(voices), "--trials", str(setting / "trials.txt"), *teacher]) == 2
        assert sentence in capsys.readouterr().err
    nothing = [*command_line(setting, voices, "--seeds"), "--results", str(setting / "empty")]
    assert main(nothing) == 2
    assert "There is no result in" in capsys.readouterr().err


def made_up(separations, seeds=(0, 1)):
    """Stored results; each system's separation is the distance of target from non-target scores."""
    speakers = [(f"s{a}", f"s{b}") for a in range(12) for b in range(a, 12) for _ in range(4 if a == b else 1)]
    labels = [int(a == b) for a, b in speakers]
    stored = {}
    for system, separation in separations.items():
        for seed in seeds:
            noise = np.random.default_rng(seed).normal(size=len(labels))
            stored.setdefault(system, {})[seed] = {
                "label": system,
                "scores": (separation * np.asarray(labels) + noise).tolist(),
                "steps": 1,
                "seconds": None if seed else 60.0,
                "seed": seed,
                "system": system,
                "digest": "a",
                "parameters": 1,
                "encoder_parameters": 1,
                "selection_eer": 0.1,
                "train": {},
                "machine": {"cpu": "a processor", "cores": 2},
                "versions": {"torch": "2", "transformers": "5"},
                "config": OSKDFTConfig.to_dict(tiny_config()),
            }
    return stored, labels, speakers


def test_a_clear_difference_is_named_and_no_difference_is_undecided():
    stored, labels, speakers = made_up({RIVALS[0]: 0.5, RIVALS[2]: 2.0, REFERENCE: 2.0, RIVALS[3]: 4.0})
    del stored[RIVALS[0]][1]  # differences are over the seeds that both have
    systems = summarise(stored, labels, speakers)["systems"]
    same = systems[RIVALS[2]]["eer_difference"]
    assert same == {"mean": 0.0, "low": 0.0, "high": 0.0, "each": [0.0, 0.0]}
    worse = systems[RIVALS[0]]["eer_difference"]
    assert worse["each"] == [systems[RIVALS[0]]["eer"]["mean"] - systems[REFERENCE]["eer"]["each"][0]]
    assert worse["low"] < worse["mean"] < worse["high"] and systems[RIVALS[0]]["min_dcf_difference"]["mean"] > 0
    assert "eer_difference" not in systems[REFERENCE] and systems[REFERENCE]["minutes"] == 1.0
    beside = summarise(stored, labels, speakers, {RIVALS[3]: RIVALS[0], REFERENCE: "none"})["systems"]
    gap = beside[RIVALS[3]]["rival_difference"]
    assert gap["each"] == [systems[RIVALS[3]]["eer"]["each"][0] - systems[RIVALS[0]]["eer"]["mean"]]
    assert "rival_difference" not in beside[REFERENCE]
    text = findings(systems)
    assert text.startswith("Of 3 rivals OS-KDFT is better than 1 and worse than 1")
    assert text.count("undecided") == 2 and "nothing can be said" in findings({})
    gap = {"mean": 0.01, "low": 0.001, "high": 0.02, "each": [0.03, -0.01]}
    assert direction(gap) == 0, "the seeds do not agree"


def test_students_of_more_steps_stand_beside_oskdft_of_as_many():
    (reference, (rival, *_)), *_ = LONGER.items()
    stored, labels, speakers = made_up({REFERENCE: 2.0, RIVALS[0]: 2.0, reference: 4.0, rival: 2.0})
    for result in stored[reference].values():
        result["machine"] = {"gpu": "a card", "cpu": "another", "cores": 16}
    systems = summarise(stored, labels, speakers, {rival: reference})["systems"]
    text = findings(systems)
    assert f"Beside OS-KDFT of 1 steps, with as many steps:\n\n- {rival}: +" in text
    assert text.endswith("worse than OS-KDFT")
    numbers = [name.split("_")[0] for name in (REFERENCE, RIVALS[0], rival)]
    assert f"Rows {', '.join(numbers)}: a processor, 2 cores, torch 2, transformers 5." in machines(systems)
    assert f"Rows {reference.split('_')[0]}: a card, 16 cores" in machines(systems)
    del systems[reference]
    assert machines(systems) == "a processor, 2 cores, torch 2, transformers 5." and "Beside" not in findings(systems)


def test_the_first_system_of_the_fastest_shape_is_taken_though_another_is_better():
    def facts(label, milliseconds, eer, **more):
        rates = {"mean": eer, "low": eer - 0.02, "high": eer + 0.02, "each": [eer]}
        return {"label": label, "encoder_milliseconds": milliseconds, "encoder_parameters": 1e6, "eer": rates} | more

    difference = {"mean": 0.03, "low": 0.01, "high": 0.05, "each": [0.03]}
    slow, thin, lucky = facts("Slow", 20.0, 0.17), facts("Thin", 5.0, 0.20), facts("Lucky", 5.0, 0.18)
    thin["eer_difference"] = lucky["eer_difference"] = difference
    text = frontier({REFERENCE: slow, "24": thin, "25": lucky})
    assert "takes 0.25 of the slowest" in text and "(Thin) is 20.0 %, outside the interval" in text
    assert frontier({REFERENCE: slow}) == ""


def test_the_frontier_joins_unbeaten_points_and_close_points_share_a_column():
    points = {
        "fast": (5.0, 18.0),
        "beaten": (9.0, 18.5),
        "good": (10.0, 16.0),
        "near": (10.3, 17.0),
        "last": (22.0, 16.0),
    }
    assert unbeaten(points.values()) == [points["fast"], points["good"]]
    assert columns_of(points, 0.5) == [["fast"], ["beaten"], ["good", "near"], ["last"]]


def test_results_of_other_settings_are_not_mixed(tmp_path):
    stored, _, _ = made_up({REFERENCE: 1.0})
    for seed, result in stored[REFERENCE].items():
        (tmp_path / f"{REFERENCE}-{seed}.json").write_text(json.dumps(result | {"digest": str(seed)}))
    with pytest.raises(ValueError, match="made with other settings than the seeds before it"):
        read(tmp_path)


def test_unpacked_audio_is_the_same_audio(tmp_path, shared):
    source = tmp_path / "source"
    recording = sorted((shared / "data" / "speech").glob("*/*/*/*.ogg"))[0]
    (source / "a").mkdir(parents=True)
    shutil.copyfile(recording, source / "a" / "b.ogg")
    (source / "manifest.csv").write_text("path,speaker,session\na/b.ogg,a,s\n")
    target = unpacked(source, tmp_path / "target")
    assert "a/b.wav,a,s" in (target / "manifest.csv").read_text()
    copy, original = load_audio(target / "a" / "b.wav"), load_audio(source / "a" / "b.ogg")
    assert np.abs(copy - original).max() <= 1 / 32768
    before = (target / "a" / "b.wav").stat().st_mtime_ns
    unpacked(source, target)
    assert (target / "a" / "b.wav").stat().st_mtime_ns == before
