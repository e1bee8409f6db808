"""Walking folders of recordings: sorted, through links, never in a circle."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from ..audio import AUDIO_EXTENSIONS


def walk_audio(
    root: str | Path, extensions: Sequence[str] = AUDIO_EXTENSIONS, above: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Audio files below `root`, sorted, so that nothing depends on the order of the disk.

    Files of one stem (`1.flac`, `1.wav`) follow each other. Links are followed; one that leads back to a folder above
    it is named in a warning and left. Names that begin with a dot are nobody's recordings. Only one folder a level is
    held in memory. Raises `FileNotFoundError` for a root that is not there.
    """
    real = os.path.realpath(root)
    if real in above:
        warnings.warn(f"'{root}' links back to a folder above it: not followed.", stacklevel=2)
        return
    try:
        with os.scandir(root) as entries:
            found = sorted((PurePath(one.name).stem, one.name, one.is_dir()) for one in entries)
    except NotADirectoryError:
        raise FileNotFoundError(f"'{root}' is a file: give a folder of recordings.") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no folder at '{root}': give a folder of recordings.") from None
    found = [one for one in found if not one[1].startswith(".")]
    for _, name, is_folder in found:
        if not is_folder and name.lower().endswith(tuple(extensions)):
            yield Path(root, name)
    for _, name, is_folder in sorted(found, key=lambda one: one[1]):
        if is_folder:
            yield from walk_audio(Path(root, name), extensions, (*above, real))


def audio_files(root: str | Path) -> list[str]:
    """Every audio file below a folder. Raises `FileNotFoundError` when there is none."""
    files = [str(file) for file in walk_audio(root)]
    if not files:
        raise FileNotFoundError(f"'{root}' has no wav, flac or ogg files: give a folder of recordings.")
    return files
