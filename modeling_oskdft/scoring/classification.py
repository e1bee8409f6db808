"""Measure a classifier, with NumPy alone: accuracy, macro F1, and unweighted average recall."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def confusion_matrix(
    predicted: ArrayLike, labels: ArrayLike, classes: int, weights: ArrayLike | None = None
) -> Floats:
    """Count the recordings of each class by the class that was predicted.

    Args:
        predicted: (recordings,) classes from 0.
        labels: (recordings,) true classes from 0.
        classes: number of classes.
        weights: (recordings,) weight of each; None for 1.

    Returns:
        (classes, classes): row for the true class, column for the predicted one.

    Raises:
        ValueError: for lengths that differ, no recordings, and a class outside the range.
    """
    found, true = np.asarray(predicted), np.asarray(labels)
    if found.shape != true.shape or found.ndim != 1 or not len(found):
        raise ValueError(f"{len(found)} predictions were given for {len(true)} labels: give one for each, at least 1.")
    if min(found.min(), true.min()) < 0 or max(found.max(), true.max()) >= classes:
        raise ValueError(f"A class lies outside 0 to {classes - 1}: give classes of the model.")
    flat = np.bincount(true * classes + found, None if weights is None else np.asarray(weights), classes * classes)
    return flat.reshape(classes, classes).astype(np.float64)


def class_rates(confusion: Floats) -> dict[str, float]:
    """Compute accuracy, macro F1 and UAR, fractions.

    UAR, the unweighted average recall (Schuller et al., INTERSPEECH 2009 Emotion Challenge), and macro F1 are means
    over the classes that have recordings, so that a frequent class counts no more than a rare one.

    Args:
        confusion: as `confusion_matrix` returns it.
    """
    right, of_class, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    seen = of_class > 0
    recall = right[seen] / of_class[seen]
    f1 = 2 * right[seen] / (of_class + found)[seen]
    return {
        "accuracy": float(right.sum() / confusion.sum()),
        "macro_f1": float(f1.mean()),
        "uar": float(recall.mean()),
    }


def class_intervals(
    predicted: ArrayLike,
    labels: ArrayLike,
    speakers: Sequence[str],
    classes: int,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Compute 95 % intervals of `class_rates` by bootstrap over speakers.

    Args:
        predicted: (recordings,).
        labels: (recordings,).
        speakers: (recordings,) speaker of each recording.
        classes: number of classes.
        draws: number of draws of as many speakers as there are, with replacement.
        seed: seed of the draws.
    """
    names = sorted(set(speakers))
    number = {name: index for index, name in enumerate(names)}
    of_recording = np.asarray([number[name] for name in speakers])
    generator = np.random.default_rng(seed)
    rates: dict[str, list[float]] = {}
    for _ in range(draws):
        counts = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        drawn = class_rates(confusion_matrix(predicted, labels, classes, counts[of_recording]))
        for name, value in drawn.items():
            rates.setdefault(name, []).append(value)
    return {name: tuple(np.quantile(values, (0.025, 0.975)).tolist()) for name, values in rates.items()}


def class_report(
    predicted: ArrayLike, labels: ArrayLike, speakers: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Measure a classifier: rates with 95 % intervals over speakers, and the confusions, as JSON.

    Args:
        predicted: (recordings,) classes from 0.
        labels: (recordings,) true classes.
        speakers: (recordings,) speaker of each recording.
        classes: names of the classes.
    """
    confusion = confusion_matrix(predicted, labels, len(classes))
    intervals = class_intervals(predicted, labels, speakers, len(classes))
    return {
        **class_rates(confusion),
        **{f"{name}_interval": interval for name, interval in intervals.items()},
        "classes": list(classes),
        "confusion": confusion.astype(int).tolist(),
        "recordings": int(confusion.sum()),
        "speakers": len(set(speakers)),
    }
