import numpy as np
import pytest
from sklearn import metrics

from modeling_oskdft.scoring.classification import class_intervals, class_rates, confusion_matrix

LABELS = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 2, 2]


def test_hand_worked_rates():
    confusion = confusion_matrix(PREDICTED, LABELS, 3)
    assert confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    rates = class_rates(confusion)
    assert rates["accuracy"] == pytest.approx(4 / 6)
    assert rates["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert rates["macro_f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_the_rates_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, 300), generator.integers(0, 4, 300)
    rates = class_rates(confusion_matrix(predicted, labels, 4))
    assert rates["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert rates["uar"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert rates["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))


def test_a_class_without_recordings_does_not_count():
    assert class_rates(confusion_matrix([0, 1], [0, 1], 5)) == {"accuracy": 1, "macro_f1": 1, "uar": 1}


def test_intervals_hold_the_rate():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    predicted = np.where(generator.random(400) < 0.8, labels, 1 - labels)
    intervals = class_intervals(predicted, labels, [str(number % 100) for number in range(400)], 2, 200)
    rates = class_rates(confusion_matrix(predicted, labels, 2))
    assert intervals.keys() == rates.keys()
    for name, (low, high) in intervals.items():
        assert low < rates[name] < high
    same = class_intervals(predicted, labels, ["one"] * 400, 2, 20)
    assert same["uar"] == pytest.approx((rates["uar"], rates["uar"])), "one speaker is always drawn"


@pytest.mark.parametrize(("predicted", "labels"), [([], []), ([0], [0, 1]), ([3], [0]), ([0], [-1])])
def test_bad_input_is_named(predicted, labels):
    with pytest.raises(ValueError, match=r"give (one for each|classes of the model)"):
        confusion_matrix(predicted, labels, 3)
