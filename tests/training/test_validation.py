import numpy as np
import pytest

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.audio.speech import speech_seconds
from modeling_oskdft.embedding.corpus import extract_cut_embeddings
from modeling_oskdft.training import validation
from modeling_oskdft.training.validation import CUT_SECONDS
from tests.training.making import make_trainer


def test_recordings_are_cut_so_that_speech_varies(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    model, recordings = trainer.published, trainer.eval_dataset.recordings
    whole = trainer.scorer.embed(model, recordings, 0)
    embeddings, speech = extract_cut_embeddings(model, feature_extractor, recordings, CUT_SECONDS)
    assert set(embeddings) == set(whole) == set(speech)
    for row, name in enumerate(recordings.column("utterance_id")):
        waveform = load_audio(recordings.audio(row))
        np.testing.assert_allclose(embeddings[name][0], whole[name], atol=1e-4)
        assert speech[name][0] == speech_seconds(waveform) >= speech[name][1] > 0
    assert len({round(cut) for _, cut in speech.values()}) > 1


def test_the_calibration_is_of_the_trials_and_their_cuts(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    thresholds, calibration, cohort = trainer.scorer.measurements(trainer.published)
    assert calibration is not None and cohort is None
    assert calibration.trials == 4 * thresholds.trials and calibration.fingerprint == thresholds.fingerprint
    assert calibration.bounds[1] == pytest.approx(np.log(thresholds.trials - thresholds.target_trials + 1))
    assert (calibration.network, calibration.adapter, calibration.data) == ("silero", "default", thresholds.data)


def test_a_cohort_of_training_speakers_normalises_the_calibration(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(tmp_path, manifest, feature_extractor)
    trainer.scorer.make_cohort(trainer.published, trainer.train_dataset.manifest, utterances=2)
    _, calibration, cohort = trainer.scorer.measurements(trainer.published)
    assert len(cohort.embeddings) == len(trainer.train_dataset.manifest.speakers)
    assert calibration is not None and calibration.cohort == cohort.digest


def test_trials_that_support_no_calibration_cost_no_run(tmp_path, manifest, feature_extractor, monkeypatch):
    trainer = make_trainer(tmp_path, manifest, feature_extractor)

    def refuse(*_, **__):
        raise ValueError("too few.")

    monkeypatch.setattr(validation, "fit_calibration", refuse)
    with pytest.warns(UserWarning, match="The student has no calibration: too few"):
        assert trainer.scorer.calibration(trainer.published) is None
