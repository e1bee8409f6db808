"""A table of voices with a column of moods and a column of texts, and the options of tiny runs on it."""

import csv

import pytest

from modeling_oskdft.data.sources import load_manifest
from tests.tiny import tiny_teacher
from tests.training.making import TASK_WORDS


@pytest.fixture(scope="module")
def table(tmp_path_factory, voices):
    """Each seventh recording has no mood and no text, and the speaker of the test says letters of his own."""
    place = tmp_path_factory.mktemp("table")
    manifest = load_manifest(voices)
    columns = (manifest.column(name) for name in ("path", "speaker_id", "session_id"))
    with (place / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "speaker", "session", "mood", "said", "split"])
        for number, (path, speaker, session) in enumerate(zip(*columns, strict=True)):
            is_test = speaker == "voice000"
            mood = "" if number % 7 == 5 else ("calm", "angry")[number % 2]
            said = "ça va" if is_test else "" if number % 7 == 5 else ("oh la", "la la")[number % 2]
            rows.writerow([voices / path, speaker, session, mood, said, "test" if is_test else "train"])
    return place / "table.csv"


@pytest.fixture(scope="module")
def words(tmp_path_factory, table, feature_extractor):
    place = tmp_path_factory.mktemp("teacher")
    tiny_teacher("hubert", True, "group").save_pretrained(place)
    feature_extractor.save_pretrained(place)
    return ["--teacher", str(place), "--train_data", str(table), "--train_split", "train", *TASK_WORDS]
