"""Renew a verifier on recordings of now, and keep the one in use where the renewed one is not better.

The new speakers are divided in three by their names: about half of them train, a quarter chooses the epoch and
calibrates, and a quarter judges. Who judges does so in later renewals with the same seed as well. First the
calibration alone is fitted anew, on three quarters. Where the new people are told apart as well as the old ones, that
is enough. Else the weights are adapted, and `judging.objections` decides whether they may replace those in use. What
was judged is what is written: nothing is fitted again afterwards.
"""

import copy
import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import torch
from transformers import SequenceFeatureExtractor

from ..audio.forms import AudioSource
from ..data.manifest import Manifest
from ..data.splits import refuse_common_speakers
from ..data.trials import make_trials
from ..embedding.recordings import Recording, read_for_embedding
from ..embedding.runtimes import TorchEmbedder
from ..errors import check_choice
from ..evaluation.report import speakers_of
from ..model.modeling_oskdft import OSKDFTForXVector, shortest_input
from ..provenance import machine, versions
from ..scoring.calibration import Calibration
from ..scoring.calibration_fitting import fit_calibration
from ..scoring.normalization import Cohort
from ..scoring.thresholds import Thresholds, measure_thresholds
from ..training.validation import TrialDataset
from ..verification.hearing import Heard, hear
from ..verification.verifier import SpeakerVerifier
from .adaptation import ADAPTERS, EPOCHS, LORA, adapt, check_peft, with_adapters_free, with_lora
from .judging import NEW, OLD, Judged, change_of_eer, judge, objections

LEAST_SPEAKERS, LEAST_OF_PART = 20, 2
MOST_TRIALS = 5000  # of each kind
KEPT, RECALIBRATED, ADAPTED = "kept", "recalibrated", "adapted"
NOTHING = "nothing"
TRAINED = (LORA, ADAPTERS, NOTHING)


class Parts(NamedTuple):
    """Hold the new speakers, divided.

    Attributes:
        training: about half of them.
        calibrating: about a quarter, who choose the epoch too.
        judging: about a quarter, whom nothing is fitted to.
        unchanged: all but those who judge, for weights that stay as they are.
    """

    training: Manifest
    calibrating: Manifest
    judging: Manifest
    unchanged: Manifest


@dataclass(frozen=True)
class Candidate:
    """Hold a verifier that may replace the one in use.

    Attributes:
        model: the verifier.
        thresholds: measured on the new speakers who calibrate.
        calibration: fitted on them.
        cohort: speakers to normalise scores with; None: cosines.
        judged: `Judged` by list.
    """

    model: OSKDFTForXVector
    thresholds: Thresholds
    calibration: Calibration
    cohort: Cohort | None
    judged: dict[str, Judged]


@dataclass(frozen=True)
class Renewal:
    """Hold what a renewal decided.

    Attributes:
        decision: "kept", "recalibrated" or "adapted".
        reasons: sentences.
        facts: everything that was measured, as JSON stores it.
        candidate: the verifier to write; None where the one in use is kept.
        feature_extractor: of the verifier.
    """

    decision: str
    reasons: tuple[str, ...]
    facts: dict[str, Any] = field(repr=False)
    candidate: Candidate | None = field(repr=False)
    feature_extractor: SequenceFeatureExtractor = field(repr=False)


def renew(
    verifier: SpeakerVerifier,
    new: Manifest,
    old: TrialDataset | None = None,
    trained: str = LORA,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> Renewal:
    """Renew a verifier on recordings of now.

    Args:
        verifier: the verifier in use, run by PyTorch; it stays as it is.
        new: utterances of the people of now, 20 or more.
        old: trials that it must go on to decide as well; None: the weights stay, because nobody could see what they
            lose.
        trained: "lora", "speaker_adapter" or "nothing": what is trained where a calibration is not enough.
        epochs: of that training.
        seed: of the division, the trials, and the training.

    Returns:
        The decision, and the renewed verifier.

    Raises:
        ValueError: for too few speakers, for speakers of the new data among the old trials, for recordings that give
            no trials, and for an exported verifier.
        ImportError: without scikit-learn, and without PEFT for a LoRA.
    """
    check_choice("trained", trained, TRAINED)
    embedder = verifier.embedder
    if not isinstance(embedder, TorchEmbedder):
        raise ValueError("An export has no weights to adapt: renew the saved model, and export that again.")
    parts = divide(new, seed)
    lists = {NEW: _trials_of(parts.judging, seed)}
    if old is not None:
        _check_old(new, old)
        lists[OLD] = old
    if trained == LORA and old is not None:
        check_peft()
    heard = _heard_lists(embedder, lists)
    lists = {name: _among(dataset, heard[name]) for name, dataset in lists.items()}
    before = _judged(lists, heard, verifier.calibration, verifier.cohort)
    recalibrated = _candidate(embedder, parts.unchanged, lists, heard, verifier.cohort, seed)
    facts: dict[str, Any] = {
        "date": date.today().isoformat(),
        "seed": seed,
        "speakers": {name: len(part.speakers) for name, part in parts._asdict().items() if name != "unchanged"},
        "before": _as_dicts(before),
        RECALIBRATED: _as_dicts(recalibrated.judged),
        "machine": machine(),
        "versions": versions(),
    }
    must_train, reason = _is_training_needed(before, trained)
    reasons = [reason]
    if must_train:
        adapted, facts[ADAPTED] = _adapted_candidate(embedder, parts, lists, before, trained, epochs, seed)
        against = objections(before, adapted.judged)
        if not against:
            low, high = (100 * end for end in facts[ADAPTED]["change_of_eer"])
            change = 100 * (adapted.judged[NEW].eer - before[NEW].eer)
            reasons.append(
                f"On the new trials the EER changes by {change:.1f} points (95 %: {low:.1f} to {high:.1f})."
            )
            return Renewal(ADAPTED, tuple(reasons), facts, adapted, embedder.feature_extractor)
        reasons += [*against, "So the weights stay; to train anew: oskdft train RECIPE.yaml --start_from MODEL."]
    costs = before[NEW].cllr, recalibrated.judged[NEW].cllr
    assert costs[1] is not None
    if costs[0] is not None and costs[0] <= costs[1]:
        reasons.append(f"On the new trials the Cllr does not fall: {costs[0]:.3f} before and {costs[1]:.3f} after.")
        return Renewal(KEPT, tuple(reasons), facts, None, embedder.feature_extractor)
    return Renewal(RECALIBRATED, tuple(reasons), facts, recalibrated, embedder.feature_extractor)


def divide(new: Manifest, seed: int = 0) -> Parts:
    """Divide new speakers into those who train, calibrate and judge.

    Args:
        new: utterances of the people of now.
        seed: of the draw.

    Raises:
        ValueError: for fewer than 20 speakers with two utterances.
    """
    several = [speaker for speaker, utterances in new.by_speaker().items() if len(utterances) > 1]
    if len(several) < LEAST_SPEAKERS:
        raise ValueError(
            f"The new data have {len(several)} speakers with two recordings or more: a renewal needs "
            f"{LEAST_SPEAKERS}, because a part of them judges; record more people, or calibrate on pairs."
        )
    names: dict[str, list[str]] = {"training": [], "calibrating": [], "judging": []}
    for speaker in several:
        names[_part_of(speaker, seed)].append(speaker)
    few = [name for name, speakers in names.items() if len(speakers) < LEAST_OF_PART]
    if few:
        raise ValueError(
            f"{len(names[few[0]])} of {len(several)} speakers fell to the part '{few[0]}', and {LEAST_OF_PART} are "
            "needed: give another seed, or record more people."
        )
    parts = {name: new.where("speaker_id", speakers) for name, speakers in names.items()}
    return Parts(**parts, unchanged=new.where("speaker_id", names["training"] + names["calibrating"]))


def _part_of(speaker: str, seed: int) -> str:
    """Choose the part of a speaker by name, so that nobody who trained judges a later renewal on more people."""
    number = int.from_bytes(hashlib.sha256(f"{seed} {speaker}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
    quarter = 4 * number >> 64
    return ("judging", "calibrating", "training", "training")[quarter]


def _trials_of(manifest: Manifest, seed: int) -> TrialDataset:
    return TrialDataset(manifest, make_trials(manifest.by_speaker(), seed, MOST_TRIALS))


def _check_old(new: Manifest, old: TrialDataset) -> None:
    """Refuse old trials of new speakers, and trials whose recordings the old data do not have."""
    refuse_common_speakers(new, old.recordings)
    known = set(old.manifest.column("utterance_id"))
    missing = [name for name in old.trials.utterances() if name not in known]
    if missing:
        raise ValueError(
            f"The old trials name {len(missing)} recordings that the old data do not have, '{missing[0]}' first: give "
            "the data that belong to the list."
        )


def _is_training_needed(before: Mapping[str, Judged], trained: str) -> tuple[bool, str]:
    """Decide whether a calibration alone is enough, and say why."""
    rate = f"{100 * before[NEW].eer:.1f} %"
    if OLD not in before:
        return False, (
            f"The EER of the new trials is {rate}. The weights stay as they are: give old trials, on which it can be "
            "seen what other weights lose."
        )
    limit = f"{100 * before[OLD].eer_high:.1f} %, the upper end of the interval of the old ones"
    if before[NEW].eer <= before[OLD].eer_high:
        return False, f"The EER of the new trials, {rate}, is not above {limit}: a calibration is enough."
    return trained != NOTHING, f"The EER of the new trials, {rate}, is above {limit}."


def _adapted(
    embedder: TorchEmbedder, parts: Parts, trained: str, epochs: int, seed: int
) -> tuple[TorchEmbedder, list[float]]:
    """Train a copy of the model; return it, and the EER of the development speakers by epoch."""
    student = copy.deepcopy(embedder.model)
    torch.manual_seed(seed)  # a LoRA is drawn
    model: Any = with_lora(student) if trained == LORA else with_adapters_free(student)
    # A recording that no trial may use was named in a warning; an epoch is chosen without it.
    development = _usable(parts.calibrating, shortest_input(student.config))
    eers = adapt(model, embedder.feature_extractor, parts.training, epochs, development, seed=seed)
    merged = model.merge_and_unload() if trained == LORA else student
    return TorchEmbedder(merged, embedder.feature_extractor), eers


def _adapted_candidate(
    embedder: TorchEmbedder,
    parts: Parts,
    lists: Mapping[str, TrialDataset],
    before: Mapping[str, Judged],
    trained: str,
    epochs: int,
    seed: int,
) -> tuple[Candidate, dict[str, Any]]:
    """Train, calibrate and judge; return the candidate, and what was measured."""
    renewed, eers = _adapted(embedder, parts, trained, epochs, seed)
    candidate = _candidate(renewed, parts.calibrating, lists, _heard_lists(renewed, lists), None, seed)
    change = change_of_eer(before[NEW], candidate.judged[NEW], lists[NEW].trials, speakers_of(parts.judging))
    return candidate, _as_dicts(candidate.judged) | {
        "trained": trained,
        "epoch": eers.index(min(eers)),
        "development_eer": eers,
        "change_of_eer": list(change),
    }


def _candidate(
    embedder: TorchEmbedder,
    speech: Manifest,
    lists: Mapping[str, TrialDataset],
    heard_lists: Mapping[str, Heard],
    cohort: Cohort | None,
    seed: int,
) -> Candidate:
    """Measure thresholds and fit a calibration on some speech, and judge them on the lists."""
    dataset = _trials_of(speech, seed)
    heard = _heard(embedder, dataset)
    trials = _among(dataset, heard).trials
    pairs = trials.speakers(speakers_of(speech))
    number = len({speaker for pair in pairs for speaker in pair})
    basis = f"{number} speakers of the renewal"
    cosines, fingerprint = heard.cosines(trials), embedder.fingerprint()
    scores = cosines if cohort is None else cohort.normalise(cosines, trials, heard.embeddings)
    calibration = fit_calibration(
        scores,
        trials.labels,
        pairs,
        fingerprint,
        basis,
        heard.shorter_speech(trials),
        heard.network,
        cohort=None if cohort is None else cohort.digest,
    )
    thresholds = measure_thresholds(cosines, trials.labels, number, basis, fingerprint, pairs)
    judged = _judged(lists, heard_lists, calibration, cohort)
    return Candidate(embedder.model, thresholds, calibration, cohort, judged)


def _judged(
    lists: Mapping[str, TrialDataset],
    heard: Mapping[str, Heard],
    calibration: Calibration | None,
    cohort: Cohort | None,
) -> dict[str, Judged]:
    return {
        name: judge(dataset.trials, speakers_of(dataset.manifest), heard[name], calibration, cohort)
        for name, dataset in lists.items()
    }


def _among(dataset: TrialDataset, heard: Heard) -> TrialDataset:
    """Return the trials whose recordings were heard."""
    return TrialDataset(dataset.manifest, dataset.trials.among(heard.embeddings))


def _heard_lists(embedder: TorchEmbedder, lists: Mapping[str, TrialDataset]) -> dict[str, Heard]:
    return {name: _heard(embedder, dataset) for name, dataset in lists.items()}


def _heard(embedder: TorchEmbedder, dataset: TrialDataset) -> Heard:
    """Embed the recordings of trials; those that cannot be used are left out, with a warning."""
    left_out: list[str] = []
    shortest = shortest_input(embedder.model.config)

    def read() -> Iterator[tuple[str, Recording]]:
        needed = dataset.recordings
        for row, name in enumerate(needed.column("utterance_id")):
            try:
                yield name, _read(needed.audio(row), name, shortest)
            except (ValueError, OSError) as error:
                left_out.append(str(error))

    heard = hear(embedder, read())
    if left_out:
        warnings.warn(f"{len(left_out)} recordings were left out, the first one because: {left_out[0]}", stacklevel=2)
    return heard


def _read(source: AudioSource, name: str, shortest: int) -> Recording:
    recording = read_for_embedding(source)
    if len(recording.track) < shortest:
        raise ValueError(f"'{name}' has {len(recording.track)} samples: one frame needs {shortest}.")
    return recording


def _usable(manifest: Manifest, shortest: int) -> Manifest:
    """Return the recordings that can be read and are long enough."""
    names = []
    for row, name in enumerate(manifest.column("utterance_id")):
        try:
            _read(manifest.audio(row), name, shortest)
        except (ValueError, OSError):
            continue
        names.append(name)
    return manifest.where("utterance_id", names)


def _as_dicts(judged: Mapping[str, Judged]) -> dict[str, Any]:
    return {name: rates.as_dict() for name, rates in judged.items()}
