"""The rule by which adapted weights may replace those in use, on rates made by hand."""

import numpy as np
import pytest

from modeling_oskdft.data.trials import Trials
from modeling_oskdft.renewal.judging import Judged, change_of_eer, judge, objections
from modeling_oskdft.scoring.calibration_fitting import fit_calibration
from modeling_oskdft.scoring.likelihood_ratios import cllr
from modeling_oskdft.verification.hearing import Heard

NOTHING = np.zeros(0)


def rates(eer, high=1.0):
    return Judged(eer, 0.0, high, None, 100, 20, NOTHING)


@pytest.mark.parametrize(
    ("new", "old", "words"),
    [
        (0.10, 0.06, []),
        (0.10, 0.08, []),  # worse on the old, but within its interval
        (
            0.10,
            0.081,
            ["On the old trials the EER rises to 8.1 %, above the upper end of its interval before, 8.0 %."],
        ),
        (0.12, 0.05, ["On the new trials the EER does not fall: 12.0 % before and 12.0 % after."]),
        (0.20, 0.30, ["On the new trials", "On the old trials"]),
    ],
)
def test_not_worse_on_the_old_by_more_than_its_interval(new, old, words):
    found = objections({"new": rates(0.12), "old": rates(0.05, 0.08)}, {"new": rates(new), "old": rates(old)})
    assert len(found) == len(words) and all(word in sentence for word, sentence in zip(words, found, strict=True))


def people(speakers=20, size=8, spread=0.8):
    """Two recordings of each speaker, around a direction of the speaker's own."""
    generator = np.random.default_rng(0)
    embeddings, speaker_of = {}, {}
    for speaker in range(speakers):
        centre = generator.standard_normal(size)
        for number in range(2):
            vector = centre + spread * generator.standard_normal(size)
            embeddings[f"{speaker}/{number}"] = (vector / np.linalg.norm(vector)).astype(np.float32)
            speaker_of[f"{speaker}/{number}"] = str(speaker)
    names = list(embeddings)
    pairs = [(a, b) for row, a in enumerate(names) for b in names[row + 1 :]]
    labels = np.asarray([int(speaker_of[a] == speaker_of[b]) for a, b in pairs])
    heard = Heard(embeddings, {name: 3.0 for name in names}, None, ())
    return Trials(labels, [a for a, _ in pairs], [b for _, b in pairs]), speaker_of, heard


def test_judged_as_the_verifier_decides():
    trials, speaker_of, heard = people()
    calibration = fit_calibration(heard.cosines(trials), trials.labels, trials.speakers(speaker_of), "a" * 64, "here")
    judged = judge(trials, speaker_of, heard, calibration, None)
    llrs = [calibration.llr(score, 3.0) for score in judged.scores]
    assert judged.cllr == pytest.approx(cllr(llrs, trials.labels))
    assert judge(trials, speaker_of, heard, None, None).cllr is None
    assert "scores" not in judged.as_dict() and judged.speakers == 20


def test_a_paired_change_is_narrower_than_the_rates():
    trials, speaker_of, heard = people()
    before = judge(trials, speaker_of, heard, None, None)
    same = change_of_eer(before, before, trials, speaker_of)
    assert same == (0.0, 0.0)
    better = judge(*people(spread=0.5), None, None)
    low, high = change_of_eer(before, better, trials, speaker_of)
    assert low <= better.eer - before.eer <= high and high < 0
