import math
from dataclasses import replace

import pytest

from modeling_oskdft.scoring.likelihood_ratios import bayes_threshold
from modeling_oskdft.scoring.thresholds import Thresholds
from modeling_oskdft.verification.decision import Costs, Evidence, VerificationResult, decide, probability_of
from tests.scoring.test_calibration import calibration

THRESHOLDS = Thresholds({"eer": 0.4, "far_1_percent": 0.7, "far_0.1_percent": None}, 100, 50, 40, "made up", "a" * 64)


def test_without_measurements_there_is_no_decision():
    answer = decide(Evidence(0.5), None, None)
    assert (answer.same_speaker, answer.threshold, answer.llr, answer.probability) == (None, None, None, None)
    assert "no threshold at eer: the score is all that can be said" in answer.warnings[0]


def test_thresholds_decide_where_there_is_no_calibration():
    assert decide(Evidence(0.5), THRESHOLDS, None).same_speaker is True
    assert decide(Evidence(0.5), THRESHOLDS, None, "far_1_percent").same_speaker is False
    assert decide(Evidence(0.5), THRESHOLDS, None, "far_0.1_percent").same_speaker is None
    bayes = decide(Evidence(0.5), THRESHOLDS, None, "bayes")
    assert bayes.same_speaker is None and "no calibration, which a prior and costs need" in bayes.warnings[0]


def test_the_calibration_decides_at_its_own_points():
    stored = calibration()  # 0.5 at the EER
    answer = decide(Evidence(0.56), THRESHOLDS, stored)
    assert answer.llr == pytest.approx(0.6) and answer.same_speaker is True and answer.threshold == pytest.approx(0.55)
    assert decide(Evidence(0.54), THRESHOLDS, stored).same_speaker is False
    assert answer.probability == pytest.approx(1 / (1 + math.exp(-0.6)))
    by_threshold = decide(Evidence(0.56), THRESHOLDS, stored, "far_1_percent")
    assert by_threshold.threshold == 0.7 and by_threshold.llr == pytest.approx(0.6)


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.999])
@pytest.mark.parametrize("costs", [(1, 1), (1, 10), (5, 1)])
def test_bayes_decisions_have_the_least_expected_cost(prior, costs):
    c_miss, c_fa = costs
    for score in (0.3, 0.5, 0.6, 0.9):
        answer = decide(Evidence(score), None, calibration(), "bayes", Costs(prior, c_miss, c_fa))
        if not -4 < bayes_threshold(prior, c_miss, c_fa) <= 6:  # beyond what the trials support
            assert answer.same_speaker is answer.threshold is None and answer.probability is not None
            assert "50 different-speaker trials and 50 same-speaker ones, which support no deci" in answer.warnings[0]
            continue
        accept, reject = (1 - answer.probability) * c_fa, answer.probability * c_miss
        assert (
            answer.same_speaker
            is (accept <= reject)
            is (answer.llr >= 0 + math.log(c_fa / c_miss * (1 - prior) / prior))
        )
        assert (score >= answer.threshold) is answer.same_speaker


def test_little_speech_moves_the_threshold_and_is_told_of():
    stored = calibration()
    short, long = (decide(Evidence(0.6, speech, "silero"), None, stored) for speech in (1.0, 8.0))
    assert short.threshold != long.threshold and short.llr != long.llr and not short.warnings
    shorter = decide(Evidence(0.6, 0.4, "silero"), None, stored)
    assert (
        shorter.llr == short.llr
        and "There is 0.4 s of speech, and the calibration has seen 1.0 s" in shorter.warnings[0]
    )
    by_level = decide(Evidence(0.6, 1.0, None), None, stored)
    assert by_level.llr == decide(Evidence(0.6), None, stored).llr and "as silero finds it" in by_level.warnings[0]


def test_a_score_is_normalised_before_it_is_calibrated():
    stored = calibration(cohort="0f", duration=None)
    answer = decide(Evidence(0.7, normalisation=(0.5, -0.2)), None, stored)  # 0.5 * 0.7 + 0.2 = 0.55
    assert answer.llr == pytest.approx(0.5) and answer.threshold == pytest.approx(0.7) and answer.score == 0.7


def test_few_speakers_are_told_of():
    answer = decide(Evidence(0.6), None, replace(calibration(duration=None), speakers=7))
    assert answer.warnings == (
        "The calibration stands on 7 speakers: below 20 it may not hold for others; calibrate on more.",
    )


def test_probabilities_are_at_the_prior():
    assert probability_of(0.0, 0.3) == pytest.approx(0.3) and probability_of(math.log(9), 0.1) == pytest.approx(0.5)
    assert probability_of(-1e4, 0.5) == 0 and probability_of(1e4, 0.5) == 1
    with pytest.raises(ValueError, match="The prior is 0: a probability between 0 and 1"):
        decide(Evidence(0.5), None, None, "eer", Costs(0))


def test_the_text_of_an_answer():
    answer = VerificationResult(0.5, True, 0.4, (), 1.234, 0.7745)
    assert repr(answer) == (
        "VerificationResult(score=0.5000, llr=1.23, probability=0.7745, same_speaker=True, threshold=0.4000)"
    )
    assert answer.as_dict()["llr"] == 1.234
