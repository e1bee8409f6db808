import json
from functools import partial

import numpy as np
import pytest

from modeling_oskdft.data.trials import Trials, make_trials
from modeling_oskdft.embedding.batches import embed_batch
from modeling_oskdft.evaluation.report import TrialReport, embedder_scores, report_trials, trial_scores
from modeling_oskdft.scoring.cosine import SCORINGS
from modeling_oskdft.scoring.metrics import eer_in_percent
from tests.tiny import tiny_verifier


def test_a_report_has_its_trials_and_speakers(manifest, feature_extractor):
    trials = make_trials(manifest.by_speaker())
    report = report_trials(tiny_verifier(), feature_extractor, manifest, trials)
    assert report.trials == len(trials.labels) == 120 and report.speakers == 10
    assert 0 <= report.eer_low <= report.eer <= report.eer_high <= 1
    assert 0 <= report.min_dcf <= 1
    assert json.loads(json.dumps(report.as_dict()))["eer"] == report.eer


def test_a_trial_that_names_a_missing_utterance_is_named(manifest, feature_extractor):
    trials = make_trials(manifest.by_speaker())
    with_another = Trials(trials.labels, trials.enrolments, [*trials.tests[:-1], "voice099/session0/00"])
    with pytest.raises(ValueError, match="do not have, 'voice099/session0/00' first"):
        report_trials(tiny_verifier(), feature_extractor, manifest, with_another)


def test_every_scoring_embeds_its_own_pieces(manifest, feature_extractor):
    verifier = tiny_verifier()
    trials = make_trials(manifest.where("speaker_id", ["voice000", "voice001"]).by_speaker())

    def embed(waveforms):
        return embed_batch(verifier, feature_extractor, waveforms).numpy()

    scores = {}
    for scoring in SCORINGS:
        scores[scoring] = trial_scores(verifier, feature_extractor, manifest, trials, scoring, batch_seconds=20)
        one_by_one = embedder_scores(embed, manifest, trials, scoring)
        np.testing.assert_allclose(scores[scoring], one_by_one, atol=1e-4)
    np.testing.assert_allclose(scores["combined"], (scores["full"] + scores["segments"]) / 2, atol=1e-5)
    assert not np.allclose(scores["full"], scores["segments"], atol=1e-3)
    for refuse in (partial(trial_scores, verifier, feature_extractor), partial(embedder_scores, embed)):
        with pytest.raises(ValueError, match="scoring is 'half': use one of full, segments, combined"):
            refuse(manifest, trials, "half")


def test_the_text_of_a_report_is_short():
    report = TrialReport(0.0429, 0.0256, 0.0664, 0.3512, 0.2, 0.5, 0.41234, 120, 10)
    assert repr(report) == (
        "TrialReport(EER 4.29 % (2.56–6.64), minDCF 0.351 (0.200–0.500), threshold=0.4123, trials=120, speakers=10)"
    )


def test_an_eer_for_a_table():
    report = {"eer": 0.04297, "eer_low": 0.0256, "eer_high": 0.0664}
    assert (eer_in_percent(report), eer_in_percent(report, 2)) == ("4.3 (2.6–6.6)", "4.30 (2.56–6.64)")
