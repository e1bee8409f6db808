"""Enrol a voice: NAME and one or more recordings of one speaker."""

import argparse
import json
import sys

from .options import add_calibration, add_model_options, add_voices, verifier_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", help="name of the speaker")
    parser.add_argument("recordings", nargs="+", help="recordings of the speaker, each with 1 s of speech or more")
    parser.add_argument("--update", action="store_true", help="add the recordings to a voice that is enrolled")
    parser.add_argument("--consent", default="", help="note of consent, kept with each recording")
    add_voices(parser)
    add_calibration(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    verifier = verifier_of(options)
    enrol = verifier.update if options.update else verifier.enroll
    enrolment = enrol(options.name, options.recordings, options.consent, options.channel)
    for sentence in enrolment.warnings:
        print(f"oskdft: warning: {sentence}", file=sys.stderr)
    if options.json:
        print(json.dumps(enrolment.as_dict()))
    else:
        print(f"{enrolment.name}: {enrolment.recordings} recordings, {enrolment.speech:.1f} s of speech")
    return 0
