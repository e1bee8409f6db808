"""Write a WAV of a recording for each kind of augmentation, and a sheet of spectrograms."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", help="a recording")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--noise_root", help="folder laid out like MUSAN")
    parser.add_argument("--rir_root", help="folder of room impulse responses")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..audio.augmentation_examples import write_examples

    files = write_examples(options.file, options.out, options.noise_root, options.rir_root, options.seed)
    print(f"{len(files) - 1} recordings to listen to, and '{files[-1]}' to look at.")
    return 0
