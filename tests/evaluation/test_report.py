import json

import pytest

from modeling_oskdft.data.trials import Trials, make_trials
from modeling_oskdft.evaluation.report import report_trials
from modeling_oskdft.scoring.metrics import eer_in_percent
from tests.tiny import tiny_verifier


def test_a_report_says_what_was_measured_on_what(manifest, feature_extractor):
    trials = make_trials(manifest.by_speaker())
    report = report_trials(tiny_verifier(), feature_extractor, manifest, trials)
    assert report.trials == len(trials.labels) == 120 and report.speakers == 10
    assert 0 <= report.eer_low <= report.eer <= report.eer_high <= 1
    assert 0 <= report.min_dcf <= 1
    assert json.loads(json.dumps(report.as_dict()))["eer"] == report.eer


def test_a_trial_that_names_a_missing_utterance_is_named(manifest, feature_extractor):
    trials = make_trials(manifest.by_speaker())
    strange = Trials(trials.labels, trials.enrolments, [*trials.tests[:-1], "voice099/session0/00"])
    with pytest.raises(ValueError, match="do not have, 'voice099/session0/00' first"):
        report_trials(tiny_verifier(), feature_extractor, manifest, strange)


def test_an_eer_for_a_table():
    report = {"eer": 0.04297, "eer_low": 0.0256, "eer_high": 0.0664}
    assert (eer_in_percent(report), eer_in_percent(report, 2)) == ("4.3 (2.6–6.6)", "4.30 (2.56–6.64)")
