"""The division of speakers, what is judged, and which decision follows from it."""

import numpy as np
import pytest
import soundfile

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials
from modeling_oskdft.renewal import renewing
from modeling_oskdft.renewal.renewing import divide, renew
from modeling_oskdft.training.validation import TrialDataset

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'modeling-oskdft[calibration]'")


@pytest.fixture
def verifier(saved_verifier):
    return SpeakerVerifier.from_pretrained(saved_verifier)


@pytest.fixture
def old(people_of_before):
    manifest = load_manifest(people_of_before)
    return TrialDataset(manifest, make_trials(manifest.by_speaker()))


def test_who_judges_neither_trains_nor_calibrates(now):
    parts = divide(now, seed=1)
    sets = [set(part.speakers) for part in (parts.training, parts.calibrating, parts.judging)]
    assert min(map(len, sets)) >= 2 and sum(map(len, sets)) == 24 == len(set.union(*sets))
    assert set(parts.unchanged.speakers) == sets[0] | sets[1]
    assert divide(now, seed=1).judging.speakers == parts.judging.speakers != divide(now, seed=2).judging.speakers


def test_nobody_changes_the_part_when_more_people_come(now):
    few = divide(now.where("speaker_id", now.speakers[:21]))
    many = divide(now)
    for name in ("training", "calibrating", "judging"):
        assert set(getattr(few, name).speakers) <= set(getattr(many, name).speakers)


def test_old_trials_without_their_recordings(verifier, now, old):
    names = old.manifest.column("utterance_id")[:3]
    fewer = TrialDataset(old.manifest.where("utterance_id", names), old.trials)
    with pytest.raises(ValueError, match="recordings that the old data do not have"):
        renew(verifier, now, fewer)


def test_speakers_with_one_recording_do_not_count(now):
    one = [names[0] for names in list(now.by_speaker().values())[:5]]
    others = [name for names in list(now.by_speaker().values())[5:] for name in names]
    with pytest.raises(ValueError, match="19 speakers with two recordings or more: a renewal needs 20"):
        divide(now.where("utterance_id", one + others))


def test_without_old_trials_the_weights_stay(verifier, now):
    renewal = renew(verifier, now)
    assert renewal.decision == "recalibrated" and "give old trials" in renewal.reasons[0]
    assert renewal.candidate.calibration.fingerprint == verifier.fingerprint()
    parts = divide(now)
    assert renewal.candidate.calibration.speakers == len(parts.unchanged.speakers)
    assert set(renewal.facts["before"]) == {"new"} and renewal.facts["before"]["new"]["cllr"] is None
    assert renewal.facts["recalibrated"]["new"]["speakers"] == len(parts.judging.speakers)


def test_what_was_judged_is_what_is_returned(verifier, now):
    renewal = renew(verifier, now)
    judging = divide(now).judging
    trials = make_trials(judging.by_speaker(), 0, renewing.MOST_TRIALS)
    path_of = {name: judging.audio(row) for row, name in enumerate(judging.column("utterance_id"))}
    verifier.calibration = renewal.candidate.calibration
    pairs = zip(trials.enrolments, trials.tests, strict=True)
    llrs = np.asarray([verifier.verify(path_of[a], path_of[b]).llr for a, b in pairs])
    of_kinds = [np.log2(1 + np.exp(sign * llrs[trials.labels == label])).mean() for label, sign in ((1, -1), (0, 1))]
    assert np.mean(of_kinds) == pytest.approx(renewal.facts["recalibrated"]["new"]["cllr"], abs=1e-5)


def test_a_second_renewal_on_the_same_people_is_not_better(verifier, now):
    verifier.calibration = renew(verifier, now).candidate.calibration
    again = renew(verifier, now)
    assert again.decision == "kept" and again.candidate is None
    assert "On the new trials the Cllr does not fall" in again.reasons[-1]


@pytest.mark.parametrize("trained", ["lora", "speaker_adapter"])
def test_the_decision_follows_from_what_was_measured(verifier, now, old, trained):
    pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")
    before = verifier.fingerprint()
    renewal = renew(verifier, now, old, trained, epochs=2)
    facts = renewal.facts
    assert facts["before"]["old"]["eer"] < 0.1 < facts["before"]["new"]["eer"]
    assert facts["adapted"]["trained"] == trained and len(facts["adapted"]["development_eer"]) == 3
    better = facts["adapted"]["new"]["eer"] < facts["before"]["new"]["eer"]
    allowed = facts["adapted"]["old"]["eer"] <= facts["before"]["old"]["eer_high"]
    assert (renewal.decision == "adapted") is (better and allowed)
    assert verifier.fingerprint() == before, "the verifier in use was trained"


def test_a_calibration_is_enough_where_both_are_told_apart(verifier, old, people_of_now):
    """The same people as new and easy as old: their rates are equal, and nothing is trained."""
    easy = load_manifest(people_of_now)
    both = TrialDataset(easy, make_trials(easy.by_speaker()))
    rates = {"new": _rates(0.2), "old": _rates(0.1, 0.25)}
    assert renewing._is_training_needed(rates, "lora")[0] is False
    assert renewing._is_training_needed({**rates, "new": _rates(0.26)}, "lora")[0] is True
    assert renewing._is_training_needed({**rates, "new": _rates(0.26)}, "nothing")[0] is False
    with pytest.raises(ValueError, match="speakers are in both"):
        renew(verifier, easy, both)


def _rates(eer, high=1.0):
    from tests.renewal.test_judging import rates

    return rates(eer, high)


def test_refused_weights_leave_the_calibration(verifier, now, old, monkeypatch):
    pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")
    monkeypatch.setattr(renewing, "objections", lambda before, after: ["No."])
    renewal = renew(verifier, now, old, epochs=1)
    assert renewal.decision == "recalibrated" and "No." in renewal.reasons
    assert any("oskdft train RECIPE.yaml --start_from MODEL" in reason for reason in renewal.reasons)
    assert renewal.candidate.model.fingerprint() == verifier.fingerprint()


def test_the_command_offers_what_can_be_trained():
    from modeling_oskdft.commands.renew import TRAINED

    assert TRAINED == renewing.TRAINED


def test_bad_input(verifier, now, exported):
    with pytest.raises(ValueError, match="trained is 'all'"):
        renew(verifier, now, trained="all")
    with pytest.raises(ValueError, match="An export has no weights to adapt"):
        renew(SpeakerVerifier.from_pretrained(exported), now)
    with pytest.raises(ValueError, match="a renewal needs 20"):
        renew(verifier, now.where("speaker_id", now.speakers[:10]))


@pytest.mark.parametrize(("samples", "words"), [(32000, "odd.flac"), (5, "one frame needs")])
@pytest.mark.parametrize("part", ["calibrating", "judging"])
def test_a_recording_that_cannot_be_used_is_left_out(verifier, now, old, tmp_path, samples, words, part):
    """Silence, and one of a few samples; also where weights are trained."""
    pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")
    rows = now.table.to_pylist()
    speaker = getattr(divide(now), part).speakers[0]
    odd = next(row for row in rows if row["speaker_id"] == speaker)
    generator = np.random.default_rng(0)
    values = np.zeros(samples) if samples > 5 else generator.uniform(-0.5, 0.5, samples)
    soundfile.write(tmp_path / "odd.flac", values, 16000)
    odd["path"] = str(tmp_path / "odd.flac")
    manifest = type(now)(now.table.from_pylist(rows, schema=now.table.schema), now.root)
    with pytest.warns(UserWarning, match=f"1 recordings were left out, the first one because: .*{words}"):
        renewal = renew(verifier, manifest, old, epochs=1)
    assert "adapted" in renewal.facts
