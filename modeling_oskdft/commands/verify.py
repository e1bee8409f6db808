"""Decide whether two recordings have one speaker: exit code 0 the same, 1 different, 3 no decision."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from ..errors import DIFFERENT, NO_DECISION
from .options import add_calibration, add_key, add_model_options, verifier_of

if TYPE_CHECKING:
    from ..verification.verifier import SpeakerVerifier, VerificationResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "recordings", nargs="*", help="two recordings; of more, the last is compared with the mean of the others"
    )
    parser.add_argument("--pairs", metavar="LIST", help="'first second' lines, tabs or quotes where names have spaces")
    parser.add_argument(
        "--operating_point",
        default="eer",
        help="eer (default), far_1_percent, far_0.1_percent, or bayes: by costs",
    )
    parser.add_argument(
        "--prior", type=float, default=0.5, help="probability of the same speaker before (default: 0.5)"
    )
    parser.add_argument("--c_miss", type=float, default=1.0, help="cost of a rejected speaker, for bayes (default: 1)")
    parser.add_argument("--c_fa", type=float, default=1.0, help="cost of an accepted stranger, for bayes (default: 1)")
    parser.add_argument("--max_seconds", type=float, help="seconds of each recording that are heard (default: all)")
    parser.add_argument("--voices", metavar="FILE", help="file of enrolled voices; the first argument is then a name")
    add_key(parser)
    add_calibration(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    if options.pairs is None and len(options.recordings) < 2:
        raise ValueError("Two recordings are needed, or a list of pairs: `oskdft verify A B`, or --pairs LIST.")
    if options.pairs is not None and options.recordings:
        raise ValueError("Recordings were given beside --pairs: give one or the other.")
    if options.voices is not None and len(options.recordings) != 2:
        raise ValueError("With --voices, the name of a voice and one recording are needed: `oskdft verify NAME A`.")
    verifier = verifier_of(options)
    if options.pairs is not None:
        return _verify_pairs(verifier, options)
    *enrolments, test = options.recordings
    first = enrolments if len(enrolments) > 1 else enrolments[0]
    if options.voices is not None:
        verifier.voices.get(options.recordings[0])  # a name that is not enrolled is no path
    result = verifier.verify(first, test, **_arguments(options))
    for sentence in result.warnings:
        print(f"oskdft: warning: {sentence}", file=sys.stderr)
    print(json.dumps(result.as_dict()) if options.json else _answer(result))
    return {True: 0, False: DIFFERENT, None: NO_DECISION}[result.same_speaker]


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    names = ("operating_point", "channel", "prior", "c_miss", "c_fa", "max_seconds")
    return {name: getattr(options, name) for name in names}


def _answer(result: "VerificationResult") -> str:
    answer = {True: "same speaker", False: "different speakers", None: "no decision"}[result.same_speaker]
    against = "" if result.threshold is None else f", threshold {result.threshold:.4f}"
    odds = (
        "" if result.llr is None else f", log-likelihood ratio {result.llr:.2f}, probability {result.probability:.4f}"
    )
    return f"{answer} (score {result.score:.4f}{against}{odds})"


def _verify_pairs(verifier: "SpeakerVerifier", options: argparse.Namespace) -> int:
    """Print a line for each pair; returns 0 when each has an answer, 3 otherwise."""
    from ..data.trials import read_pairs
    from ..errors import printable

    undecided = False
    printed: set[str] = set()
    for first, second in read_pairs(options.pairs):
        result = verifier.verify(first, second, **_arguments(options))
        undecided |= result.same_speaker is None
        for sentence in result.warnings:
            if sentence not in printed:
                print(f"oskdft: warning: {sentence}", file=sys.stderr)
        printed |= set(result.warnings)
        names = (printable(first), printable(second))
        if options.json:
            print(json.dumps({"first": names[0], "second": names[1], **result.as_dict()}))
        else:
            print("\t".join((*names, _answer(result))))
    return NO_DECISION if undecided else 0
