import json
import re

import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials, write_trials
from tests.tiny import save_verifier


@pytest.fixture(scope="module")
def written(tmp_path_factory, voices, feature_extractor):
    """The report of a tiny model on made-up voices, as the command writes it."""
    place = tmp_path_factory.mktemp("report")
    save_verifier(place / "<b>model", feature_extractor)
    trials = make_trials(load_manifest(voices).by_speaker(), most=40)
    write_trials(trials, place / "trials.txt")
    command = ["evaluate", str(place / "<b>model"), "--data", str(voices), "--trials", str(place / "trials.txt")]
    command += ["--teacher", str(place / "<b>model"), "--report", str(place / "out"), "--attempts_a_day", "200"]
    assert main(command) == 0
    return place / "out"


def test_the_page_needs_no_other_file_and_makes_no_request(written):
    assert sorted(file.name for file in written.iterdir()) == ["report.html", "report.json"]
    page = (written / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page) and "://" not in page and "<script" not in page
    assert "default-src 'none'" in page


def test_names_are_texts_and_no_markup(written):
    page = (written / "report.html").read_text()
    assert "<b>model" not in page and "&lt;b&gt;model" in page


def test_the_page_answers_in_counts(written):
    page = (written / "report.html").read_text()
    assert re.search(r"Of 100 attempts of the right speaker [\d.]+ \([\d.]+–[\d.]+\) are rejected", page)
    assert "A day has 200 attempts" in page and "a million recordings cost" in page
    assert page.count("<audio") > 4 and page.count("<svg") == 1 and "no anti" not in page
    assert "does not detect them; put a detector" in page and "oskdft calibrate MODEL PAIRS.csv" in page


def test_the_numbers_are_there_for_machines(written):
    values = json.loads((written / "report.json").read_text())
    assert values["attempts"]["a_day"] == 200 and set(values["time"]["models"]) == {"student", "teacher"}
    assert values["rates"]["trials"] == 80 and values["machine"]["cores"]
    assert values["time"]["models"]["student"]["parameters"] > 1000
    assert values["time"]["models"]["student"]["memory"] > 50e6
