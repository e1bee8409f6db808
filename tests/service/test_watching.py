import json

import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.scoring.thresholds import Thresholds
from modeling_oskdft.service.score_log import ScoreLog, decision_of
from modeling_oskdft.service.watching import Watcher
from modeling_oskdft.verification.decision import VerificationResult
from tests.service.conftest import files
from tests.verification.test_monitoring import decisions, thresholds


def written(log, scored, fingerprint="0" * 64):
    kept = ScoreLog(log)
    for one in scored:
        result = VerificationResult(one.score, one.score >= one.threshold, one.threshold, ("a",) * one.is_warned)
        kept.add(decision_of(result, fingerprint, 2.0))
    return log


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    thresholds().save(folder)
    return folder


def test_the_command_compares_with_the_trials_and_then_with_the_first_decisions(tmp_path, model, capsys):
    log = tmp_path / "scores.jsonl"
    options = ["monitor", "--scores", str(log), "--model", str(model), "--first", "500"]
    written(log, decisions(50))
    assert main(options) == 3 and capsys.readouterr().out.startswith("too few (50 decisions beside the trials of 40")
    written(log, decisions(500, seed=3))
    assert main(options) == 0 and "beside the trials of 40 speakers" in capsys.readouterr().out
    written(log, decisions(500, seed=4))
    assert main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "holds"
    written(log, decisions(1000, target=0.85, other=0.25))
    assert main(options) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("recalibrate (1,000 decisions beside the first 500 decisions)")
    assert "  next: oskdft renew MODEL --data DIR --out DIR" in printed


def test_bad_logs_get_one_sentence(tmp_path, model, capsys):
    log = written(tmp_path / "other.jsonl", decisions(200), fingerprint="1" * 64)
    for options, code, words in (
        (["--scores", str(tmp_path / "none"), "--model", str(model)], 2, "There is no log"),
        (["--scores", str(log), "--model", str(model), "--last", "50"], 2, "100 or more decisions are needed"),
        (["--scores", str(log), "--model", str(model), "--first", "50"], 2, "100 or more decisions are needed"),
        (["--scores", str(log), "--model", str(tmp_path)], 2, "has no thresholds.json"),
        (["--scores", str(log), "--model", str(model)], 3, "There are 0 decisions, and 100 are needed"),
    ):
        assert main(["monitor", *options]) == code
        printed = capsys.readouterr()
        assert words in printed.err + printed.out


def test_a_service_goes_on_with_the_log_that_it_finds(client_of, saved_verifier, tmp_path, recordings):
    fingerprint = Thresholds.load(saved_verifier / "thresholds.json").fingerprint
    log = written(tmp_path / "scores.jsonl", decisions(1200), fingerprint)
    client = client_of(log=ScoreLog(log))
    judged = client.get("/v1/monitor").json()
    assert (judged["verdict"], judged["beside"]) == ("holds", "the first 1,000 decisions")
    assert judged["decisions"] == 200 and judged["accepted"]["psi"] < 0.25
    client.post("/v1/voice/verify", files=files(audio1=recordings[0], audio2=recordings[1]))
    assert client.get("/v1/monitor").json()["decisions"] == 201
    assert client_of().get("/v1/monitor").json()["verdict"] == "nothing"


def test_decisions_of_other_weights_or_without_a_threshold_are_left_out():
    watcher = Watcher(thresholds(), "0" * 64)
    for fingerprint, threshold in (("1" * 64, 0.5), ("0" * 64, None), ("0" * 64, 0.5)):
        watcher.add(decision_of(VerificationResult(0.5, None, threshold), fingerprint, 1.0))
    watcher.add(decision_of(VerificationResult(0.5, True, 0.5), "0" * 64, 1.0, "far_1_percent"))
    watcher.add(decision_of(VerificationResult(0.5, True, 0.5), "0" * 64, 1.0, "eer", "another"))
    verdict, _ = watcher.verdict()
    assert verdict.decisions == 1
