"""List the recordings that the arguments of a command name: files, folders, manifests, and lists of recordings."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..audio.folders import walk_audio
from ..audio.loading import name_of
from ..files import read_text

LISTS = (".txt", ".lst", ".list")
MANIFESTS = (".csv", ".tsv", ".parquet")


def recordings_of(sources: Iterable[str]) -> list[str]:
    """List the recordings that the arguments of a command name, in their order, duplicates kept.

    Args:
        sources: recordings, folders of them at any depth, manifests, or text files with a recording a line, relative
            to the working directory or to the list. A recording that does not exist is an error only when it is read.

    Raises:
        FileNotFoundError: for a list or a manifest that does not exist.
        ValueError: for a folder, a manifest or a list without recordings.
    """
    recordings: list[str] = []
    for source in sources:
        if not source:
            raise ValueError("The name of a recording is empty: give a recording, a folder, a manifest or a list.")
        listed = list(_recordings(Path(source)))
        if not listed:
            raise ValueError(f"{name_of(source)} holds no recordings: give a folder, manifest or list that does.")
        recordings += listed
    return recordings


def _recordings(source: Path) -> Iterator[str]:
    if source.is_dir():
        yield from map(str, walk_audio(source))
    elif source.suffix.lower() in MANIFESTS:
        from .sources import load_manifest

        manifest = load_manifest(source)
        for row in range(len(manifest)):
            audio = manifest.audio(row)
            if not isinstance(audio, str):
                raise ValueError(f"{name_of(source)} holds its audio in itself: give recordings that are files.")
            yield audio
    elif source.suffix.lower() in LISTS:
        if not source.is_file():
            raise FileNotFoundError(f"There is no list at {name_of(source)}: check the path.")
        for line in read_text(source).splitlines():
            if line.strip():
                path = Path(line.strip())
                yield str(path if path.exists() or path.is_absolute() else source.parent / path)
    else:
        yield str(source)
