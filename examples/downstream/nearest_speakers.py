"""Find out whose voice a recording has: enrol a folder of speakers once, then look recordings up.

    python examples/downstream/nearest_speakers.py enrol SPEAKERS --model org/student --index speakers.npz
    python examples/downstream/nearest_speakers.py find who.flac --model org/student --index speakers.npz

SPEAKERS has one folder for each speaker, with recordings at any depth; a speaker's centroid is the mean of the
embeddings. The search is exact: one product of the matrix of centroids with the embedding. Where that becomes slow,
give the centroids to an approximate index.
"""

import argparse
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import AUDIO_EXTENSIONS
from modeling_oskdft.files import whole_file


class Index(NamedTuple):
    """Hold enrolled speakers.

    Args:
        speakers: their names.
        centroids: (speakers, embedding_size), rows of unit length.
        fingerprint: of the weights that made the centroids.
    """

    speakers: list[str]
    centroids: NDArray[np.float32]
    fingerprint: str


def enrol(folder: Path, verifier: SpeakerVerifier) -> Index:
    """Make one centroid for each folder in `folder`; recordings are read one after another.

    Args:
        folder: one folder for each speaker.
        verifier: computes the embeddings.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no folders in it, or one of them has no recordings.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder at '{folder}': give one with a folder for each speaker.")
    speakers = sorted(place for place in folder.iterdir() if place.is_dir() and place.name[0] != ".")
    if not speakers:
        raise ValueError(f"'{folder}' has no folders in it: one for each speaker is needed, with recordings.")
    means = np.stack([np.mean([verifier.embed(file) for file in recordings(place)], axis=0) for place in speakers])
    centroids = means / np.linalg.norm(means, axis=1, keepdims=True)
    return Index([place.name for place in speakers], centroids, verifier.fingerprint())


def recordings(folder: Path) -> list[Path]:
    """List the recordings in a speaker's folder. Raises `ValueError` where there are none."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in AUDIO_EXTENSIONS)
    if not files:
        raise ValueError(f"'{folder}' has no wav, flac or ogg files: add a recording or remove the folder.")
    return files


def nearest(index: Index, recording: str | Path, verifier: SpeakerVerifier, count: int = 5) -> list[tuple[str, float]]:
    """Find the speakers nearest to a recording.

    Args:
        index: as `enrol` makes it.
        recording: path of the recording.
        verifier: the one that made the index.
        count: number of speakers to return.

    Returns:
        (speaker, cosine), the highest cosine first.

    Raises:
        ValueError: the index was made with other weights.
    """
    if index.fingerprint != verifier.fingerprint():
        raise ValueError("The index was made with another model: enrol again, or give that model.")
    scores = index.centroids @ verifier.embed(recording)
    return [(index.speakers[row], float(scores[row])) for row in np.argsort(-scores)[:count]]


def save(index: Index, path: Path) -> None:
    """Save an index as .npz without pickled objects, so that opening another person's index runs no code."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **index._asdict())


def load(path: Path) -> Index:
    """Load an index that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no index.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no index at '{path}': make one with `enrol`.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Index(stored["speakers"].tolist(), stored["centroids"], str(stored["fingerprint"]))
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        raise ValueError(f"'{path}' is no index of speakers: make one with `enrol`.") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    enrolling = commands.add_parser("enrol", help="make an index from a folder")
    enrolling.add_argument("folder", type=Path, help="one folder for each speaker")
    finding = commands.add_parser("find", help="the nearest speakers of a recording")
    finding.add_argument("recording", help="wav, flac, ogg or mp3, any rate and channels")
    finding.add_argument("--count", type=int, default=5, help="speakers to name (default: %(default)s)")
    for command in (enrolling, finding):
        command.add_argument("--model", required=True, help="folder or repository of a saved verifier")
        command.add_argument("--index", required=True, type=Path, help="the .npz that enrol writes and find reads")
    options = parser.parse_args(arguments)
    try:
        verifier = SpeakerVerifier.from_pretrained(options.model)
        if options.command == "enrol":
            options.index.parent.mkdir(parents=True, exist_ok=True)
            index = enrol(options.folder, verifier)
            save(index, options.index)
            print(f"{len(index.speakers)} speakers: {options.index}")
        else:
            for name, score in nearest(load(options.index), options.recording, verifier, options.count):
                print(f"{score:7.4f}  {name}")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
