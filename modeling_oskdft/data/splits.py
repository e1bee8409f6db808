"""Split manifests by speakers, and refuse splits with common speakers."""

import math
import random
import warnings
from pathlib import Path

from .manifest import Manifest
from .trials import Trials, make_trials, write_trials

MOST_LISTED = 100  # speakers that an error names


def split_by_speaker(manifest: Manifest, fraction: float, seed: int) -> tuple[Manifest, Manifest]:
    """Split a manifest by a random share of its speakers.

    Args:
        manifest: any manifest.
        fraction: share of the speakers to draw, in (0, 1).
        seed: seed of the random draw.

    Returns:
        The manifest of the other speakers, and the manifest of the drawn ones.

    Raises:
        ValueError: when either side would have fewer than two speakers.
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
    """Refuse an evaluation on speakers of the training: its error rate would be too low.

    Args:
        train: the training data.
        evaluation: the evaluation data.

    Raises:
        ValueError: with the names of the common speakers.
    """
    common = sorted(set(train.speakers) & set(evaluation.speakers))
    if common:
        more = f" and {len(common) - MOST_LISTED} more" if len(common) > MOST_LISTED else ""
        raise ValueError(
            f"{len(common)} speakers are in both the training and the evaluation data "
            f"({', '.join(common[:MOST_LISTED])}{more}): take them out of the training data."
        )


def warn_about_single_utterances(manifest: Manifest) -> None:
    """Warn about speakers with one utterance only: they are trained on, but give no target trial.

    Args:
        manifest: the training data.
    """
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
    """Hold out speakers: write train.parquet, test.parquet and trials.txt to a folder.

    Args:
        manifest: any manifest of files.
        test: number of speakers to hold out, or, below 1, their share.
        seed: seed of the drawn speakers and trials.
        out: folder to write to.
        most: trials of each kind, at most.

    Returns:
        The manifest of the training speakers, the manifest of the held-out speakers, and trials of the latter.

    Raises:
        ValueError: for a `test` that is not positive and finite, when either side would have fewer than two speakers,
            or when no trials can be made.
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
