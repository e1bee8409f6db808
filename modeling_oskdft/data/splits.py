"""Split manifests by speakers, and refuse splits that share any."""

import math
import random
import warnings
from pathlib import Path

from .manifest import Manifest
from .trials import Trials, make_trials, write_trials

LISTED = 100


def split_by_speaker(manifest: Manifest, fraction: float, seed: int) -> tuple[Manifest, Manifest]:
    """(the rest, `fraction` of the speakers), without a speaker in common.

    Raises `ValueError` when either side would be left without two speakers.
    """
    speakers = manifest.speakers
    count = round(fraction * len(speakers))
    if not 2 <= count <= len(speakers) - 2:
        raise ValueError(
            f"{fraction:g} of {len(speakers)} speakers is {count}: both sides of a split need at least 2; give more "
            "speakers or another fraction."
        )
    chosen = set(random.Random(seed).sample(speakers, count))
    return (
        manifest.where("speaker_id", [speaker for speaker in speakers if speaker not in chosen]),
        manifest.where("speaker_id", sorted(chosen)),
    )


def refuse_common_speakers(train: Manifest, evaluation: Manifest) -> None:
    """Raise `ValueError` with the list of the speakers that are in both: an error rate on them would not be one."""
    common = sorted(set(train.speakers) & set(evaluation.speakers))
    if common:
        more = f" and {len(common) - LISTED} more" if len(common) > LISTED else ""
        raise ValueError(
            f"{len(common)} speakers are in both the training and the evaluation data "
            f"({', '.join(common[:LISTED])}{more}): take them out of the training data."
        )


def warn_about_single_utterances(manifest: Manifest) -> None:
    """Say once which speakers have one utterance only: they train, but no target trial can be made of them."""
    single = [speaker for speaker, utterances in manifest.by_speaker().items() if len(utterances) == 1]
    if single:
        warnings.warn(
            f"{len(single)} speakers have one utterance only ('{single[0]}' first): they are trained on, but give no "
            "same-speaker trial; record more of them or leave them out.",
            stacklevel=2,
        )


def write_split(
    manifest: Manifest, test: float, seed: int, out: str | Path, most: int = 20000
) -> tuple[Manifest, Manifest, Trials]:
    """Hold out speakers: write train.parquet, test.parquet and trials.txt, of those held out, to the folder `out`.

    test: how many speakers, or below 1 their share. Raises `ValueError` when a side would be left without two
    speakers, or when no trials can be made.
    """
    if not 0 < test < math.inf:
        raise ValueError(f"test is {test}: a number of speakers is needed, or below 1 their share.")
    fraction = test if test < 1 else test / max(len(manifest.speakers), 1)
    train, held_out = split_by_speaker(manifest, fraction, seed)
    trials = make_trials(held_out.by_speaker(), seed, most)
    train.save(Path(out, "train.parquet"))
    held_out.save(Path(out, "test.parquet"))
    write_trials(trials, Path(out, "trials.txt"))
    return train, held_out, trials
