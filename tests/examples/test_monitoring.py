import json
from pathlib import Path

from examples.monitoring import BESIDE, TRIALS, page

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def test_the_page_is_rendered_from_its_result_and_says_what_holds():
    results = json.loads((RESULTS / "monitoring.json").read_text())
    assert page(results) == (RESULTS / "monitoring.md").read_text()
    false = {
        beside: [1 - row["holds"] for row in results["rows"] if (row["change"], row["beside"]) == ("nothing", beside)]
        for beside in BESIDE
    }
    assert max(false[BESIDE[1]]) < 0.01 < min(false[TRIALS]), "why first decisions are the default"
