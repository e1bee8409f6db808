import json

import pytest

from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.tuning.results import front_of, write_results
from modeling_oskdft.tuning.search import Search
from tests.tuning.test_search import SPACE, Runner


def test_the_results_hold_everything_and_the_winner_is_a_recipe(tmp_path, recipe):
    search = Search(recipe, SPACE, tmp_path / "out", Runner(trial_0001="stopped", trial_0002="failed"))
    search.run(5)
    finals = search.finals([1, 2], most=1)
    results = write_results(search, finals)
    assert results == json.loads((tmp_path / "out/tuning.json").read_text())
    states = [row["state"] for row in results["trials"]]
    assert states == ["finished", "stopped", "failed", "finished", "finished", "finished"]
    page = (tmp_path / "out/tuning.md").read_text()
    assert "| it is broken |" in page and "| stopped |" in page and "| front |" in page and "## Finals" in page
    assert (tmp_path / "out/front_light.png").is_file() and (tmp_path / "out/front_dark.png").is_file()
    text = (tmp_path / "out/best.yaml").read_text()
    assert "# Found by `oskdft tune recipe.yaml`: " in text and "(seed 1)" in text
    winner = read_recipe([str(tmp_path / "out/best.yaml")])
    assert winner.training.learning_rate == pytest.approx(float(finals[0]["values"]["learning_rate"]))


def test_finals_are_kept_and_only_whole_ones_have_a_winner(tmp_path, recipe):
    failing = {"final_the_recipe_as_it_is_seed_2": "failed"}
    search = Search(recipe, SPACE, tmp_path / "out", Runner(**failing))
    search.run(3)
    finals = search.finals([1, 2], most=1)
    write_results(search, finals)
    assert {len(row["eers"]) for row in finals} == {1, 2} and not (tmp_path / "out/best.yaml").exists()
    assert write_results(search)["finals"] == finals


def test_a_search_without_a_finished_trial_has_a_page(tmp_path, recipe):
    search = Search(recipe, SPACE, tmp_path / "out", Runner())
    results = write_results(search)
    assert results["trials"] == [] and "<picture>" not in (tmp_path / "out/tuning.md").read_text()


def test_the_front_is_what_nothing_beats():
    rows = [
        {"number": number, "eer": eer, "encoder_share": share}
        for number, (eer, share) in enumerate([(0.1, 0.3), (0.2, 0.1), (0.2, 0.2), (None, None), (0.05, 0.5)])
    ]
    assert [row["number"] for row in front_of(rows)] == [4, 0, 1]
