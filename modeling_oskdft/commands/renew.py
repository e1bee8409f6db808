"""Renew a verifier on recordings of now: exit code 0 a new folder was written, 1 the one in use is kept."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from ..errors import DIFFERENT

TRAINED = ("lora", "speaker_adapter", "nothing")  # those of renewal.renewing; that file imports torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="folder or repository of the verifier in use; it stays as it is")
    parser.add_argument("--data", required=True, help="recordings of now: folder, manifest or dataset, 20 speakers")
    parser.add_argument("--split", help="rows of these data whose split is this one")
    parser.add_argument("--old", metavar="DATA", help="recordings that it must go on to decide as well")
    parser.add_argument("--old_split", help="rows of the old data whose split is this one")
    parser.add_argument("--old_trials", metavar="FILE", help="their trial list (default: one is made)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the renewed verifier")
    parser.add_argument(
        "--train",
        choices=TRAINED,
        default=TRAINED[0],
        help="what is trained where a calibration is not enough (default: lora)",
    )
    parser.add_argument("--epochs", type=int, default=20, help="of that training (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the division of the speakers (default: 0)")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data.sources import load_manifest
    from ..data.trials import check_labels, make_trials, read_trials
    from ..evaluation.report import speakers_of
    from ..files import check_writable
    from ..renewal.renewing import KEPT, MOST_TRIALS, renew
    from ..renewal.writing import check_free, write_renewal
    from ..training.validation import TrialDataset
    from ..verification.verifier import SpeakerVerifier

    if options.epochs < 1:
        raise ValueError(f"epochs is {options.epochs}: a whole number from 1 on is needed.")
    if options.old is None and (options.old_trials is not None or options.old_split is not None):
        raise ValueError("old_trials or old_split was given without old: name the recordings with --old DATA.")
    check_free(options.out)
    check_writable(f"{Path(options.out).resolve()}.json")  # beside it: a folder that is kept empty is not made
    new = load_manifest(options.data, options.split)
    old = None
    if options.old is not None:
        known = load_manifest(options.old, options.old_split)
        if options.old_trials is None:
            trials = make_trials(known.by_speaker(), options.seed, MOST_TRIALS)
        else:
            trials = read_trials(options.old_trials)
            check_labels(trials, speakers_of(known), options.old_trials)
        old = TrialDataset(known, trials)
    verifier = SpeakerVerifier.from_pretrained(options.model, options.revision, backend="torch")
    renewal = renew(verifier, new, old, options.train, options.epochs, options.seed)
    if renewal.decision != KEPT:
        write_renewal(renewal, options.model, options.out, options.revision)
    if options.json:
        facts = {"decision": renewal.decision, "reasons": list(renewal.reasons), **renewal.facts}
        print(json.dumps(facts | {"out": None if renewal.decision == KEPT else options.out}))
    else:
        _print(renewal.facts)
        for reason in renewal.reasons:
            print(reason)
        _print_next(renewal.decision, options)
    return DIFFERENT if renewal.decision == KEPT else 0


def _print(facts: dict[str, Any]) -> None:
    """Print the rates of the verifier in use, of the calibration, and of adapted weights, on each list."""
    from ..renewal.judging import NEW, OLD
    from ..renewal.renewing import ADAPTED, RECALIBRATED
    from ..scoring.metrics import eer_in_percent

    print(f"{'trials':8}{'verifier':14}{'EER, %':20}Cllr")
    for name in (NEW, OLD):
        for stage in ("before", RECALIBRATED, ADAPTED):
            rates = facts.get(stage, {}).get(name)
            if rates is not None:
                cost = "–" if rates["cllr"] is None else f"{rates['cllr']:.3f}"
                print(f"{name:8}{stage:14}{eer_in_percent(rates):20}{cost}")


def _print_next(decision: str, options: argparse.Namespace) -> None:
    from ..renewal.renewing import ADAPTED, KEPT

    out = shlex.quote(options.out)
    if decision == KEPT:
        print(f"{decision}: nothing was written.")
        return
    print(f"{decision}: written to {options.out}.")
    if decision == ADAPTED:
        print("The enrolled voices are of the weights before: embed their recordings anew.")
        print(f"next: oskdft voices migrate VOICES --model {out} --recordings DIR")
    print(f"next: oskdft verify A.wav B.wav --model {out}")
