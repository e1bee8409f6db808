import json
from concurrent.futures import ThreadPoolExecutor

from modeling_oskdft.service.score_log import Decision, ScoreLog, read_decisions


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    line = json.dumps(
        {"time": "t", "fingerprint": "f", "score": 0.5, "llr": None, "same_speaker": None, "threshold": None}
        | {"speech": 2.0, "warnings": 0}
    )
    log = tmp_path / "scores.jsonl"
    log.write_text(f"{line}\n{line[:20]}\n{line}\n{line[:-3]}")
    assert len(list(read_decisions(log))) == 2
    ScoreLog(log)  # a service that starts anew ends the line, so that its first decision is read
    with log.open("a") as file:
        file.write(f"{line}\n")
    assert len(list(read_decisions(log))) == 3
    for wrong in (
        "nothing",
        "{}",
        "7",
        line.replace("0.5", "null"),
        line.replace("0.5", "NaN"),
        line.replace("0.5", '"a"'),
    ):
        log.write_text(wrong + "\n")
        assert list(read_decisions(log)) == []


def test_two_logs_of_one_file_do_not_mix_their_lines(tmp_path):
    logs = [ScoreLog(tmp_path / "scores.jsonl") for _ in range(2)]
    decisions = [Decision("t", "f" * 64, number / 1000, None, None, None, 1.0, 0) for number in range(400)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: logs[number % 2].add(decisions[number]), range(400)))
    assert sorted(read_decisions(tmp_path / "scores.jsonl")) == decisions
    ScoreLog(None).add(decisions[0])
    full = ScoreLog("/dev/full")
    full.add(decisions[0])  # a full disk costs the line and not the answer
