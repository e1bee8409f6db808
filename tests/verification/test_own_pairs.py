import numpy as np
import pytest

from modeling_oskdft.data.trials import Trials
from modeling_oskdft.scoring.calibration import Calibration
from modeling_oskdft.scoring.normalization import Cohort
from modeling_oskdft.verification.hearing import Heard
from modeling_oskdft.verification.own_pairs import calibrate_on_pairs, read_own_pairs, trials_of_pairs


def people(speakers=30, recordings=4, size=8, seed=0, spread=0.25):
    """Embeddings of recordings by name, and all pairs of them."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(speakers, size))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    embeddings = {}
    for speaker in range(speakers):
        for number in range(recordings):
            row = centres[speaker] + spread * generator.normal(size=size)
            embeddings[f"s{speaker}/{number}.wav"] = (row / np.linalg.norm(row)).astype(np.float32)
    names = list(embeddings)
    pairs = [(int(a.split("/")[0] == b.split("/")[0]), a, b) for i, a in enumerate(names) for b in names[:i]]
    speech = {name: float(generator.uniform(1, 6)) for name in names}
    return Heard(embeddings, speech, "silero", ()), pairs


def some(pairs, same, different, seed=0):
    generator = np.random.default_rng(seed)
    by_kind = [[pair for pair in pairs if pair[0] == label] for label in (1, 0)]
    chosen = [
        [kind[row] for row in generator.choice(len(kind), count, replace=False)]
        for kind, count in zip(by_kind, (same, different), strict=True)
    ]
    return chosen[0] + chosen[1]


def test_what_has_changed_is_said_with_intervals():
    heard, pairs = people()
    trials = trials_of_pairs(some(pairs, 150, 1500))
    before = [(2.0, True)] * len(trials.labels)
    change = calibrate_on_pairs(trials, heard, "a" * 64, "far_1_percent", before)
    assert change.before == (1.0, 0.0) and change.cllr_before > 1 > change.calibration.cllr
    text = str(change)
    assert "Before: of 100 different speakers 100 were accepted, of 100 same speakers 0 rejected." in text
    assert "Now, at far_1_percent: of 100 different speakers 0 to 2 would be accepted" in text
    assert change.missing == {"far_0.1_percent": 8500}
    assert "far_0.1_percent cannot be set: 8,500 different-speaker pairs more are needed." in text
    assert change.as_dict()["operating_points"]["far_0.1_percent"] is None
    unknown = calibrate_on_pairs(trials, heard, "a" * 64, "eer", [(None, None)] * len(trials.labels))
    assert unknown.before is None and unknown.cllr_before is None and "Before" not in str(unknown)


def test_an_operating_point_without_pairs_is_refused():
    heard, pairs = people()
    trials = trials_of_pairs(some(pairs, 20, 100))
    with pytest.raises(ValueError, match="needs 1,000 different-speaker pairs and there are 100: give 900"):
        calibrate_on_pairs(trials, heard, "a" * 64, "far_1_percent", [(None, None)] * 120)


def test_a_cohort_normalises_the_scores_first():
    heard, pairs = people()
    cohort = Cohort(np.stack(list(people(40, 1, seed=9)[0].embeddings.values())), "a" * 64, 10)
    trials = trials_of_pairs(some(pairs, 100, 300))
    change = calibrate_on_pairs(trials, heard, "a" * 64, "eer", [(None, None)] * 400, cohort)
    assert change.calibration.cohort == cohort.digest and isinstance(change.calibration, Calibration)


def test_pairs_that_cannot_be_right():
    _, pairs = people(3)
    good = pairs[:25]
    for wrong, said in (
        (good[:10], "10 pairs were given: 20 to 20,000 are needed, of both kinds"),
        ([*good, ("perhaps", "a", "b")], "The label of pair 26 is 'perhaps': 1 or same, and 0 or different"),
        ([*good, (1, "a.wav", "a.wav")], "Pair 26 compares 'a.wav' with itself: give two recordings"),
    ):
        with pytest.raises(ValueError, match=said):
            trials_of_pairs(wrong)
    heard, pairs = people()
    same = [pair for pair in pairs if pair[0] == 1][:60]
    trials = trials_of_pairs([*same, (0, same[0][1], same[0][2])])
    with pytest.raises(ValueError, match="are different speakers by one pair and the same by others: correct"):
        calibrate_on_pairs(trials, heard, "a" * 64, "eer", [(None, None)] * 61)
    with pytest.raises(ValueError, match="All 60 trials are of one class"):
        calibrate_on_pairs(trials_of_pairs(same), heard, "a" * 64, "eer", [(None, None)] * 60)


def test_words_are_labels():
    words = [("same", "a", "b"), ("Target", "b", "c"), (True, "a", "c"), ("different", "a", "d"), ("0", "b", "d")] * 4
    assert isinstance(trials_of_pairs(words), Trials)
    assert trials_of_pairs(words).labels.tolist() == [1, 1, 1, 0, 0] * 4


def test_a_csv_of_pairs(tmp_path):
    (tmp_path / "x.wav").touch()
    file = tmp_path / "pairs.csv"
    for text in ("label,enrol,test\n1,x.wav,y.wav\n", "\ufeff1;x.wav;y.wav\n\n", 'same\t"x.wav"\ty.wav'):
        file.write_text(text, encoding="utf-8")
        ((label, first, second),) = read_own_pairs(file)
        assert label in ("1", "same") and first == str(tmp_path / "x.wav") and second == str(tmp_path / "y.wav")
    for text, said in (("1,x.wav\n", "Line 1 of .* is '1,x.wav': label, enrol and test"), ("", "has no pairs")):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_own_pairs(file)
    with pytest.raises(FileNotFoundError, match="There is no list of pairs at"):
        read_own_pairs(tmp_path / "no.csv")
