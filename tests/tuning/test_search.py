import json
import sys
from pathlib import Path

import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.tuning import search as module
from modeling_oskdft.tuning.search import HAND_CHOSEN, Measured, Search, keeps_up
from modeling_oskdft.tuning.space import Choices, Interval
from modeling_oskdft.tuning.trial import Outcome
from tests.tiny import tiny_teacher

SPACE = {"learning_rate": Interval(1e-4, 1e-2, log=True), "layers": Choices((["0"], ["0", "1"]))}


class Runner:
    """Stands for a process: the EER falls with the rate, one layer costs half of two."""

    def __init__(self, **states):
        self.seen, self.states = [], states

    def __call__(self, recipe, goes_on, deadline):
        import yaml

        values = yaml.safe_load(recipe.read_text())
        self.seen.append(recipe.parent.name)
        assert values["test_trials"] is None and Path(values["train_data"]).is_file()
        state = self.states.get(recipe.parent.name.replace("-", "_"), "finished")
        eer = 0.1 - float(values.get("learning_rate", 0)) + 0.001 * int(values.get("seed", 0))
        curve = [(0.5, 2 * eer), (1.0, eer)]
        if state != "finished":
            return Outcome(state, curve, reason="it is broken" if state == "failed" else "")
        milliseconds = 10.0 * len(values.get("layers", [0, 1]))
        encoders = {
            "student": {"encoder_milliseconds": milliseconds},
            "teacher": {"encoder_milliseconds": 100.0},
        }
        results = {"selection_eer": eer, "encoders": encoders}
        (recipe.parent / "results.json").write_text(json.dumps(results))
        return Outcome("finished", curve, results)


def test_a_search_runs_the_recipe_first_and_then_what_optuna_chooses(tmp_path, recipe):
    runner = Runner()
    search = Search(recipe, SPACE, tmp_path / "out", runner)
    search.run(5)
    trials = search.trials("COMPLETE")
    assert [trial.number for trial in trials] == list(range(5)) and trials[0].user_attrs["values"] == {}
    assert all(set(trial.user_attrs["values"]) == set(SPACE) for trial in trials[1:])
    assert trials[0].values == [0.1, 0.2] and runner.seen[0] == "trial-0000"
    assert search.outcome(trials[0])["curve"] == [[0.5, 0.2], [1.0, 0.1]]


def test_a_search_goes_on_where_it_was_interrupted(tmp_path, recipe):
    first = Runner(trial_0002="interrupted")
    search = Search(recipe, SPACE, tmp_path / "out", first)
    search.runner = lambda *words: (outcome := first(*words)) and _stop_after(outcome)
    with pytest.raises(KeyboardInterrupt):
        search.run(4)
    chosen = search.trials("RUNNING")[0].user_attrs["values"]
    again = Runner()
    second = Search(recipe, SPACE, tmp_path / "out", again)
    second.run(4)
    assert again.seen[0] == "trial-0002" and len(second.trials("COMPLETE")) == 4
    assert second.study.get_trials()[2].user_attrs["values"] == chosen
    second.run(4)
    assert len(again.seen) == 2, "a search that has its trials runs none"


def _stop_after(outcome):
    if outcome.state == "interrupted":
        raise KeyboardInterrupt
    return outcome


def test_the_same_search_chooses_the_same_and_goes_on_as_if_never_stopped(tmp_path, recipe):
    def values(folder, *targets):
        for trials in targets:
            search = Search(recipe, SPACE, tmp_path / folder, Runner())
            search.run(trials)
        return [trial.user_attrs["values"] for trial in search.trials("COMPLETE")]

    assert values("a", 4) == values("b", 2, 4)


@pytest.mark.parametrize("part", ["", module.CLAIM])
def test_a_trial_on_which_a_search_or_a_training_works_is_left_alone(tmp_path, recipe, part):
    search = Search(recipe, SPACE, tmp_path / "out", Runner())
    number, values = search._ask()
    with module.locked_folder(tmp_path / "out" / f"trial-{number:04d}" / part), search._claimed() as (other, _):
        assert other != number
    with search._claimed() as claimed:
        assert claimed == (number, values)


def test_two_searches_on_one_folder_share_the_trials(tmp_path, recipe):
    """The second begins while the first works on a trial."""
    others, second = Runner(), None

    class First(Runner):
        def __call__(self, *words):
            nonlocal second
            if second is None:
                second = Search(recipe, SPACE, tmp_path / "out", others)
                second.run(2)
            return super().__call__(*words)

    first = First()
    Search(recipe, SPACE, tmp_path / "out", first).run(4)
    assert not {*first.seen} & {*others.seen} and len(first.seen) + len(others.seen) == 4
    assert len(second.trials("COMPLETE")) == 4 and not second.trials("FAIL", "RUNNING")


def test_failures_in_a_row_end_the_search_with_the_reason(tmp_path, recipe):
    states = {f"trial_000{number}": "failed" for number in (1, 2, 3)}
    search = Search(recipe, SPACE, tmp_path / "out", Runner(**states))
    with pytest.raises(ValueError, match="3 trials failed one after the other, the last with: it is broken"):
        search.run(9)
    assert len(search.trials("FAIL")) == 3 and len(search.trials("COMPLETE")) == 1


def test_another_objective_leaves_the_recipe_s_target_layers(tmp_path, recipe):
    recipe.write_text(recipe.read_text() + "kd_objective: layerwise_heads\nkd_target_layers: [1, 2]\n")
    space = {"kd_objective": Choices(("layerwise_projection",))}
    search = Search(recipe, space, tmp_path / "out", Runner())
    search.run(2)
    chosen = search.trials("COMPLETE")[1].user_attrs["values"]
    assert chosen == {"kd_objective": "layerwise_projection", "kd_target_layers": None}


def test_the_finals_have_other_seeds_and_are_not_repeated(tmp_path, recipe):
    runner = Runner()
    search = Search(recipe, SPACE, tmp_path / "out", runner)
    search.run(4)
    rows = search.finals([1, 2], most=2)
    assert len(rows) == 3 and {row["name"] for row in rows} > {HAND_CHOSEN}
    means = [sum(row["eers"].values()) for row in rows]
    assert means == sorted(means) and all(set(row["eers"]) == {"1", "2"} for row in rows)
    best = min(search.trials("COMPLETE"), key=lambda trial: trial.values)
    assert rows[0]["name"] == f"trial {best.number}"
    before = len(runner.seen)
    assert search.finals([1, 2], most=2) == rows and len(runner.seen) == before
    with module.locked_folder(tmp_path / "out/finals"):
        assert search.finals([1, 2]) == [], "another process runs them"


def test_the_median_rule():
    others = [[(0.25, 0.4), (0.5, rate)] for rate in (0.10, 0.12, 0.14, 0.16)]
    assert keeps_up([(0.5, 0.13)], others) and not keeps_up([(0.5, 0.131)], others)
    assert keeps_up([(0.25, 0.13), (0.5, 0.5)], others), "the best so far counts"
    assert keeps_up([(0.2, 0.9)], [[(0.1, 0.1)]] * 4), "too early"
    assert keeps_up([(1.0, 0.9)], others), "the run has ended: nothing is saved"
    assert keeps_up([(0.5, 0.9)], others[:3]), "too few"
    assert keeps_up([(0.25, 0.9)], [[(0.5, 0.1)]] * 4), "the others were not evaluated yet"


def test_what_beats_what():
    assert Measured(0.1, 0.2).beats(Measured(0.1, 0.3)) and not Measured(0.1, 0.2).beats(Measured(0.1, 0.2))
    assert not Measured(0.1, 0.3).beats(Measured(0.2, 0.2))


def test_a_folder_of_another_search_is_refused(tmp_path, recipe):
    Search(recipe, SPACE, tmp_path / "out", Runner())
    Search(recipe, SPACE, tmp_path / "out", Runner())
    with pytest.raises(ValueError, match="holds the search of another recipe or space"):
        Search(recipe, {"margin": Interval(0.1, 0.3)}, tmp_path / "out", Runner())
    before = recipe.read_text()
    for change in ("margin: 0.3", "layers: [0]", "seed: 4", "teacher: elsewhere"):
        recipe.write_text(f"{before}{change}\n" if "teacher" not in change else before.replace("nowhere", "elsewhere"))
        with pytest.raises(ValueError, match="holds the search of another recipe or space"):
            Search(recipe, SPACE, tmp_path / "out", Runner())
    recipe.write_text(before.replace("output_dir: x", "output_dir: y"))
    Search(recipe, SPACE, tmp_path / "out", Runner())


def test_a_trial_that_was_never_evaluated_has_failed(tmp_path, recipe, capsys):
    class Unevaluated(Runner):
        def __call__(self, *words):
            outcome = super().__call__(*words)
            outcome.results["selection_eer"] = None
            return outcome

    with pytest.raises(ValueError, match="3 trials failed"):
        Search(recipe, SPACE, tmp_path / "out", Unevaluated()).run(4)
    assert "failed: it was never evaluated; lower eval_steps" in capsys.readouterr().err


def test_values_that_the_recipe_refuses_are_named_before_any_trial(tmp_path, recipe):
    with pytest.raises(ValueError, match="The search space has -1 for kd_weight, which is refused: kd_weight is -1"):
        Search(recipe, {"kd_weight": Interval(-1, 1)}, tmp_path / "out", Runner())
    recipe.write_text(recipe.read_text() + "eval_strategy: 'no'\nsave_strategy: 'no'\nload_best_model_at_end: false\n")
    with pytest.raises(ValueError, match="no validation curve"):
        Search(recipe, SPACE, tmp_path / "out", Runner())


def test_without_optuna_a_sentence_says_how_to_get_it(tmp_path, recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'modeling-oskdft\[tune\]'"):
        Search(recipe, SPACE, tmp_path / "out", Runner())


def test_the_command_searches_with_real_processes(tmp_path, voices, feature_extractor, capsys, monkeypatch):
    tiny_teacher("hubert", True, "group").save_pretrained(tmp_path / "teacher")
    feature_extractor.save_pretrained(tmp_path / "teacher")
    fields = {
        **{"teacher": tmp_path / "teacher", "output_dir": "x", "train_data": voices, "use_cpu": "true"},
        **{"kd_objective": "layerwise_heads", "head_type": "statistics_pooling", "adapter_size": 8},
        **{"num_train_epochs": 1, "per_device_train_batch_size": 4, "crop_seconds": 0.5, "validation_fraction": 0.34},
        **{"logging_steps": 1, "dataloader_num_workers": 0, "max_steps": 2},
    }
    (tmp_path / "recipe.yaml").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    (tmp_path / "space.yaml").write_text("kd_weight: {low: 1, high: 2}\n")
    monkeypatch.chdir(tmp_path)
    words = ["tune", "recipe.yaml", "--trials", "2", "--space", "space.yaml", "--finalists", "0", "--json"]
    assert main(words) == 0
    results = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in results["trials"]] == ["finished", "finished"]
    assert 1 <= float(results["trials"][1]["values"]["kd_weight"]) <= 2
    assert (tmp_path / "runs/tuning/recipe/front_dark.png").is_file()
    assert main([*words[:3], "0"]) == 2 and "--trials and --seeds are at least 1" in capsys.readouterr().err
