"""Walking folders of recordings: sorted, through links, never in a circle."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from ..audio import AUDIO_EXTENSIONS


def walk_audio(root: str | Path, extensions: Sequence[str] = AUDIO_EXTENSIONS) -> Iterator[Path]:
    """Audio files below `root`, sorted, so that nothing depends on the order of the disk.

    Files of one stem (`1.flac`, `1.wav`) follow each other. Links to other places are followed; a link to a folder
    that is walked anyway is named in a warning and left, as is what cannot be opened. Names that begin with a dot are
    nobody's recordings. Only one folder a level is held in memory. Raises `FileNotFoundError` for a root that is not
    there.
    """
    if not os.path.isdir(root):
        what = "is a file" if os.path.exists(root) else "is not there"
        raise FileNotFoundError(f"There is no folder at '{root}' (it {what}): give a folder of recordings.")
    yield from _walk(Path(root), tuple(extensions), (os.path.realpath(root),))


def _walk(folder: Path, extensions: tuple[str, ...], above: tuple[str, ...]) -> Iterator[Path]:
    """above: the real places of the folders from the root down to this one."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                ((PurePath(one.name).stem, one.name, _is_folder(one)) for one in entries if one.name[0] != "."),
            )
    except OSError as error:
        warnings.warn(f"Skipped '{folder}': it cannot be opened ({error.strerror}).", stacklevel=2)
        return
    for _, name, is_folder in found:
        if not is_folder and name.lower().endswith(extensions):
            yield folder / name
    for name in sorted(name for _, name, is_folder in found if is_folder):
        real = os.path.realpath(folder / name)
        if real in above or ((folder / name).is_symlink() and _lies_below(real, above[0])):
            warnings.warn(f"'{folder / name}' links to '{real}', which is walked anyway: not followed.", stacklevel=2)
            continue
        yield from _walk(folder / name, extensions, (*above, real))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it will tell
        return False


def _lies_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def audio_files(root: str | Path) -> list[str]:
    """Every audio file below a folder. Raises `FileNotFoundError` when there is none."""
    files = [str(file) for file in walk_audio(root)]
    if not files:
        raise FileNotFoundError(f"'{root}' has no wav, flac or ogg files: give a folder of recordings.")
    return files
