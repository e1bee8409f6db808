import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_oskdft.scoring.calibration import Calibration, OperatingPoint, Rates, restore_calibration
from tests.light import LIGHT

CURVE = {"llr": [-3.0, 0.0, 3.0]} | {name: [1.0, 0.5, 0.0] for name in Rates._fields[:3]}
CURVE |= {name: [0.0, 0.25, 1.0] for name in Rates._fields[3:]}


def calibration(**fields):
    given = {
        "fingerprint": "a" * 64,
        "score": (10.0, -5.0),
        "bounds": (-4.0, 6.0),
        "trials": 100,
        "target_trials": 50,
        "speakers": 30,
        "data": "made up",
        "date": "2026-11-26",
        "cllr": 0.3,
        "min_cllr": 0.2,
        "operating_points": {"eer": OperatingPoint(0.5, 0.2, 0.9), "far_0.1_percent": None},
        "curve": CURVE,
        "duration": (8.0, -4.0, -1.0, 2.0),
        "speech": (1.0, 8.0),
        "network": "silero",
    }
    return Calibration(**given | fields)


def test_hand_worked_ratios():
    stored = calibration()
    assert stored.llr(0.6) == pytest.approx(1.0)
    # 8 * 0.6 - 4 - log 2 + 2 * 0.6 * log 2
    assert stored.llr(0.6, 2.0, "silero") == pytest.approx(0.8 + 0.2 * np.log(2))
    assert stored.llr(0.6, 2.0, None) == pytest.approx(1.0), "speech that another network found"
    assert stored.llr(0.6, 100.0, "silero") == stored.llr(0.6, 8.0, "silero"), "no more speech than in the trials"
    assert stored.llr(1.0) == pytest.approx(5.0) and stored.llr(1.2) == 6.0 and stored.llr(-1.0) == -4.0


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.05, 20))
def test_a_higher_score_is_never_worth_less(first, second, speech):
    low, high = sorted((first, second))
    stored = calibration()
    assert stored.llr(low, speech, "silero") <= stored.llr(high, speech, "silero")
    assert stored.llr(low) <= stored.llr(high)


def test_the_score_at_a_ratio_is_its_inverse():
    stored = calibration()
    for speech in (None, 0.5, 3.0):
        assert stored.llr(stored.score_at(1.5, speech, "silero"), speech, "silero") == pytest.approx(1.5)


def test_rates_are_read_from_the_curve():
    rates = calibration().rates_at(1.5)
    assert rates.false_accepts == pytest.approx(0.25) and rates.false_rejects == pytest.approx(0.625)
    assert calibration().target_quantile(0.25) == pytest.approx(0.0)


def test_a_round_trip(tmp_path):
    for stored in (calibration(), calibration(duration=None, network=None, adapter="room 3", cohort="0f")):
        stored.save(tmp_path)
        assert Calibration.load(tmp_path / "calibration.json") == stored


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("fingerprint", "b", "fingerprint is b: 64 hexadecimal digits"),
        ("score", [-1.0, 0.0], "score is .*: a positive slope"),
        ("score", [1.0], "score is"),
        ("score", ["x", 1], "score is"),
        ("duration", [1.0, 0.0, 0.0, -1.0], "duration is .*: a slope above 0"),
        ("bounds", [1.0, 2.0], "bounds is"),
        ("trials", -1, "trials is -1: a whole number"),
        ("prior", 1.5, "prior is 1.5: a probability"),
        ("cllr", None, "cllr is None"),
        ("operating_points", {"eer": {"llr": None, "low": 0, "high": 1}}, "operating_points.eer"),
        ("operating_points", {"eer": 3}, "does not hold a calibration"),
        ("curve", {"llr": [0.0]}, "curve is"),
        ("curve", CURVE | {"llr": [0.0, -1.0, 1.0]}, "curve.llr"),
        ("curve", CURVE | {"false_accepts": [1.0, 0.5, -5.0]}, "curve.false_accepts"),
        ("cllr", 10**400, "does not hold a calibration|is no JSON"),
        ("schema", 2, "schema is 2: 1 is needed"),
    ],
)
def test_a_value_outside_of_its_range_is_refused(tmp_path, field, value, said):
    calibration().save(tmp_path)
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=f"does not hold a calibration.*{said}|{said}"):
        Calibration.load(file)


def test_a_file_of_something_else(tmp_path):
    for content in ("", "[]", "{}", '{"score": NaN}'):
        (tmp_path / "calibration.json").write_text(content)
        with pytest.raises(ValueError, match="does not hold a calibration|is no JSON object of finite numbers"):
            Calibration.load(tmp_path / "calibration.json")


def test_the_one_before_is_kept_and_can_be_put_back(tmp_path):
    first, second = calibration(), calibration(data="newer")
    with pytest.raises(FileNotFoundError, match="keeps no earlier calibration: there is nothing to put back"):
        restore_calibration(tmp_path)
    first.save(tmp_path)
    second.save(tmp_path)
    assert restore_calibration(tmp_path) == first == Calibration.load(tmp_path / "calibration.json")
    assert restore_calibration(tmp_path) == second, "a second call undoes the first"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["calibration.json", "calibration.previous.json"]


def test_an_exchange_that_was_killed_is_ended_by_the_next_one(tmp_path):
    first, second = calibration(), calibration(data="newer")
    first.save(tmp_path)
    second.save(tmp_path)
    restore_calibration(tmp_path)  # first in use, second kept
    # As after a kill before the last step: the one that was in use lies aside, and the other one twice.
    (tmp_path / "calibration.previous.json").rename(tmp_path / "calibration.restoring.json")
    (tmp_path / "calibration.previous.json").write_bytes((tmp_path / "calibration.json").read_bytes())
    assert restore_calibration(tmp_path) == second, "nothing is lost"
    assert Calibration.load(tmp_path / "calibration.previous.json") == first


def test_what_is_damaged_or_of_other_weights_does_not_come_back(tmp_path):
    calibration().save(tmp_path)
    calibration(data="newer").save(tmp_path)
    (tmp_path / "calibration.json").write_text("{")
    calibration(data="newest").save(tmp_path)
    assert Calibration.load(tmp_path / "calibration.previous.json") == calibration(), "the damaged one is not kept"
    calibration(fingerprint="b" * 64).save(tmp_path)
    with pytest.raises(ValueError, match="is of other weights: it cannot be put back"):
        restore_calibration(tmp_path)


PROGRAM = """
import os, random, signal, sys, time
from dataclasses import replace
from modeling_oskdft.scoring.calibration import Calibration
folder = sys.argv[1]
stored = Calibration.load(folder + "/calibration.json")
for number in range(100):
    child = os.fork()
    while not child:
        for data in ("old", "new"):
            replace(stored, data=data).save(folder)
    time.sleep(random.Random(number).uniform(0.001, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for name in ("/calibration.json", "/calibration.previous.json"):
        assert replace(Calibration.load(folder + name), data="") == replace(stored, data="")
print("whole")
"""


def test_a_hundred_killed_writers_leave_the_old_or_the_new(tmp_path):
    calibration(data="old").save(tmp_path)
    calibration(data="new").save(tmp_path)
    done = subprocess.run([sys.executable, "-c", LIGHT + PROGRAM, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "whole\n", done.stderr[-2000:]
