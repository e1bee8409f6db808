import json

from examples import renewal


def test_the_page_is_that_of_the_stored_numbers():
    results = json.loads((renewal.DOCS / "renewal.json").read_text())
    assert renewal.page(results) == (renewal.DOCS / "renewal.md").read_text()
    assert (
        results["decision"] == "adapted" and results["adapted"]["old"]["eer"] <= results["before"]["old"]["eer_high"]
    )


def test_without_the_speech_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(renewal, "SPEECH", tmp_path / "none")
    assert renewal.main([]) == 2 and "nothing was run" in capsys.readouterr().err
