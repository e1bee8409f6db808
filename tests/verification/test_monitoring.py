import math

import numpy as np
import pytest

from modeling_oskdft.scoring.thresholds import measure_thresholds
from modeling_oskdft.verification.monitoring import HOLDS, LOOK_AT_IT, RECALIBRATE, TRAIN_ANEW, Scored, judge

SPREAD = 0.1


def thresholds():
    """Those of two normal distributions around 0.1 and 0.7; they cross at 0.4."""
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(0.7, SPREAD, 20_000), random.normal(0.1, SPREAD, 20_000)]).clip(-1, 1)
    return measure_thresholds(scores, [1] * 20_000 + [0] * 20_000, 40, "made up", "0" * 64)


def decisions(number, share=0.5, target=0.7, other=0.1, spread=SPREAD, warned=0.0, seed=1):
    random = np.random.default_rng(seed)
    means = np.where(random.random(number) < share, target, other)
    return [
        Scored(float(score), 0.4, bool(flag))
        for score, flag in zip(random.normal(means, spread), random.random(number) < warned, strict=True)
    ]


@pytest.mark.parametrize("reference", ["trials", "first"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_what_has_not_changed_holds(reference, share):
    before = thresholds() if reference == "trials" else decisions(1000, share, seed=2)
    verdict = judge(decisions(1000, share), before)
    assert verdict.verdict == HOLDS and verdict.reasons == () and verdict.command == ""
    assert verdict.decisions == 1000 == verdict.accepted.decisions + verdict.rejected.decisions
    if reference == "trials":
        assert verdict.share_of_targets == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("reference", ["trials", "first"])
def test_another_share_of_targets_is_no_change(reference):
    before = thresholds() if reference == "trials" else decisions(1000, 0.5, seed=2)
    verdict = judge(decisions(1000, 0.1), before)
    assert verdict.accepted.is_beyond(0.1) is verdict.rejected.is_beyond(0.1) is False
    assert not verdict.reasons or reference == "first" and "are accepted, where 50% were before" in verdict.reasons[0]
    assert (verdict.verdict == HOLDS) is (reference == "trials")


@pytest.mark.parametrize("reference", ["trials", "first"])
def test_each_change_has_its_verdict(reference):
    before = thresholds() if reference == "trials" else decisions(1000, seed=2)
    if reference == "trials":
        for change in ({"target": 0.8, "other": 0.2}, {"target": 0.47, "other": 0.33}):
            assert judge(decisions(1000, **change), before).verdict == LOOK_AT_IT, "other speakers: no more is known"
        return
    moved = judge(decisions(1000, target=0.8, other=0.2), before)
    assert moved.verdict == RECALIBRATE and moved.command == "oskdft renew MODEL --data DIR --out DIR"
    assert "accepted decisions have moved (PSI" in moved.reasons[0]
    mixed = judge(decisions(1000, target=0.47, other=0.33), before)
    assert mixed.verdict == TRAIN_ANEW and mixed.near > mixed.near_expected + 0.1
    assert "near the threshold" in mixed.reasons[-1]


def test_more_warnings_are_looked_at():
    verdict = judge(decisions(500, warned=0.3), decisions(1000, warned=0.05, seed=2))
    assert verdict.verdict == LOOK_AT_IT and "% had one before" in verdict.reasons[0]


def test_the_numbers_of_a_side_by_hand():
    """All 60 accepted scores lie in the upper half of the earlier ones: ten bins, of which five are empty."""
    first = [Scored(0.5 + 0.001 * number, 0.4, False) for number in range(100)]
    last = [Scored(0.55 + 0.0008 * number, 0.4, False) for number in range(60)] + first[:40:1]
    side = judge(last[:60] + [Scored(0.3, 0.4, False)] * 40, first).accepted
    full, empty = (12 + 0.5) / 65, 0.5 / 65
    assert side.decisions == 60
    assert side.psi == pytest.approx(
        5 * ((full - 0.1) * math.log(full / 0.1) + (empty - 0.1) * math.log(empty / 0.1)), rel=0.05
    )
    assert side.distance == pytest.approx(0.5 * math.sqrt(60 * 100 / 160), rel=0.05)


def test_few_decisions_say_nothing():
    few = judge(decisions(99), thresholds())
    assert few.verdict == "too few" and few.accepted.psi is None and "100 are needed" in few.reasons[0]
    with pytest.raises(ValueError, match="There are 99 first decisions"):
        judge(decisions(200), decisions(99))
    one_side = judge([Scored(0.1, 0.4, False)] * 200, decisions(200, share=0.0))
    assert one_side.accepted.psi is None and one_side.accepted.decisions == 0 and one_side.verdict == RECALIBRATE


@pytest.mark.parametrize(("before", "score"), [(0.03, 0.95), (0.97, -0.5)])
def test_a_service_that_accepts_or_rejects_everybody_does_not_hold(before, score):
    verdict = judge([Scored(score, 0.4, False)] * 1000, decisions(1000, share=before, seed=2))
    assert verdict.verdict == LOOK_AT_IT and "of the decisions are accepted, where" in verdict.reasons[0]


def test_thresholds_without_quantiles_are_refused():
    bare = thresholds()
    bare.quantiles.clear()
    with pytest.raises(ValueError, match="no quantiles of their trials"):
        judge(decisions(200), bare)
