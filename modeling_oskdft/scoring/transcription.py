"""Measure what was written down: rates of wrong letters (CER) and of wrong words (WER)."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Edits = dict[str, tuple[int, int]]  # "cer" and "wer": edits, and letters or words of the text


def edit_distance(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> int:
    """Count the insertions, deletions and substitutions that turn one sequence into another (Levenshtein, 1966)."""
    number = {item: index for index, item in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    found = np.asarray([number[item] for item in hypothesis], dtype=np.int64)
    places = np.arange(len(hypothesis) + 1)
    row = places
    for wanted in reference:
        changed = np.concatenate([row[:1] + 1, np.minimum(row[1:] + 1, row[:-1] + (found != number[wanted]))])
        row = np.minimum.accumulate(changed - places) + places  # an insertion costs 1 from the left
    return int(row[-1])


def count_edits(reference: str, hypothesis: str) -> Edits:
    """Count the wrong letters and the wrong words of a text.

    Args:
        reference: what was said.
        hypothesis: what was written.

    Returns:
        Of "cer" and "wer": number of edits, and number of letters (with spaces) or words of the reference.
    """
    words, written = reference.split(), hypothesis.split()
    return {
        "cer": (edit_distance(reference, hypothesis), len(reference)),
        "wer": (edit_distance(words, written), len(words)),
    }


def text_rates(edits: Sequence[Edits]) -> dict[str, float]:
    """Divide all edits of several texts by all their letters and words; above 1 where much was inserted.

    Raises:
        ValueError: for texts without a letter.
    """
    rates = {}
    for name in ("cer", "wer"):
        wrong, total = (sum(each[name][part] for each in edits) for part in (0, 1))
        if not total:
            raise ValueError("The texts have no letter: give recordings with texts.")
        rates[name] = wrong / total
    return rates


def text_report(
    references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[str], draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Measure CER and WER with 95 % intervals by bootstrap over speakers, as JSON.

    Args:
        references: what was said.
        hypotheses: what was written, in the same order.
        speakers: speaker of each text.
        draws: number of draws of as many speakers as there are, with replacement.
        seed: seed of the draws.
    """
    edits = [count_edits(*pair) for pair in zip(references, hypotheses, strict=True)]
    names = sorted(set(speakers))
    generator = np.random.default_rng(seed)
    report: dict[str, Any] = text_rates(edits)
    for name in ("cer", "wer"):
        of_speaker = np.zeros((len(names), 2))
        for each, speaker in zip(edits, speakers, strict=True):
            of_speaker[names.index(speaker)] += each[name]
        drawn = of_speaker[generator.integers(len(names), size=(draws, len(names)))].sum(1)
        report[f"{name}_interval"] = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975)).tolist()
    return report | {"recordings": len(edits), "words": sum(each["wer"][1] for each in edits), "speakers": len(names)}
