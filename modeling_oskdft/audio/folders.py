"""Walking folders of recordings: sorted, through links, never in a circle."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from ..errors import printable
from .loading import AUDIO_EXTENSIONS

LAYOUTS = ("auto", "speaker/session", "speaker")
NO_SESSION = "unknown"


def walk_audio(root: str | Path) -> Iterator[Path]:
    """Audio files below `root`, sorted, so that nothing depends on the order of the disk.

    Files of one stem (`1.flac`, `1.wav`) follow each other. Links to other places are followed; a link to a folder
    that is walked anyway is named in a warning and left, as is what cannot be opened. Names that begin with a dot are
    nobody's recordings. Only one folder a level is held in memory. Raises `FileNotFoundError` for a root that is not
    there.
    """
    if not os.path.isdir(root):
        what = "is a file" if os.path.exists(root) else "is not there"
        raise FileNotFoundError(f"There is no folder at '{root}' (it {what}): give a folder of recordings.")
    yield from _walk(Path(root), (os.path.realpath(root),))


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
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
        if not is_folder and name.lower().endswith(AUDIO_EXTENSIONS):
            yield folder / name
    for name in sorted(name for _, name, is_folder in found if is_folder):
        real = os.path.realpath(folder / name)
        if real in above or ((folder / name).is_symlink() and _lies_below(real, above[0])):
            warnings.warn(f"'{folder / name}' links to '{real}', which is walked anyway: not followed.", stacklevel=2)
            continue
        yield from _walk(folder / name, (*above, real))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it will tell
        return False


def _lies_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


@dataclass
class Layout:
    """Which folders above a recording are its speaker and its session, and what that makes of a tree.

    name: "speaker/session" for `…/speaker/session/utterance.wav`, "speaker" for `…/speaker/utterance.wav`, whose
    session is unknown. sessions: of each speaker. utterances: that have enough folders above them.
    """

    name: str
    sessions: dict[str, set[str]] = field(default_factory=dict)
    utterances: int = 0
    example: str = ""

    def speaker_and_session(self, path: PurePath) -> tuple[str, str]:
        """Of a path below the root. Raises `ValueError` for one that lies too high."""
        folders = path.parts[:-1]
        if self.name == "speaker" and folders:
            return folders[-1], NO_SESSION
        if self.name == "speaker/session" and len(folders) >= 2:
            return folders[-2], folders[-1]
        raise ValueError(
            f"'{printable(str(path))}' lies too high: {self.name}/utterance below the folder is needed; see layout."
        )

    def describe(self) -> str:
        """What was understood, in a sentence."""
        sessions = sum(len(one) for one in self.sessions.values()) / max(len(self.sessions), 1)
        counted = "no sessions" if self.name == "speaker" else f"{sessions:.1f} sessions each"
        return (
            f"{self.utterances:,} recordings of {len(self.sessions):,} speakers, {counted}, as {self.name}/utterance, "
            f"e.g. '{printable(self.example)}'"
        )

    def warn(self) -> None:
        """Say what looks like another layout."""
        if self.name == "speaker/session" and len(self.sessions) == 1 and len(*self.sessions.values()) > 1:
            (speaker,) = self.sessions
            warnings.warn(
                f"All recordings are of one speaker, '{printable(speaker)}': where the folders below are "
                "speakers, say layout speaker.",
                stacklevel=3,
            )


def understand(root: str | Path, layout: str = "auto") -> Layout:
    """Read the layout of a tree off its names, without opening a file.

    layout: one of `LAYOUTS`; "auto" takes "speaker" where no recording has two folders above it. Raises `ValueError`
    for another name, and where some recordings have two folders above them and some have one.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is '{layout}': use one of {', '.join(LAYOUTS)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the walk that reads the files says them
        return _understood(root, _layout_of(root) if layout == "auto" else layout)


def _layout_of(root: str | Path) -> str:
    """The layout that the depths of the recordings speak of."""
    examples: dict[int, Path] = {}  # of each number of folders above a recording, up to two
    for file in walk_audio(root):
        path = file.relative_to(root)
        examples.setdefault(min(len(path.parts) - 1, 2), path)
    if {1, 2} <= set(examples):
        one, two = examples[1], examples[2]
        raise ValueError(
            f"'{root}' has recordings at two depths, '{printable(str(one))}' and '{printable(str(two))}': say "
            "which folder is the speaker's, layout speaker or speaker/session."
        )
    return "speaker" if 1 in examples else "speaker/session"


def _understood(root: str | Path, layout: str) -> Layout:
    found = Layout(layout)
    for file in walk_audio(root):
        path = file.relative_to(root)
        try:
            speaker, session = found.speaker_and_session(path)
        except ValueError:  # lies too high, which whoever reads the recordings says
            continue
        found.utterances += 1
        found.example = found.example or str(path)
        found.sessions.setdefault(speaker, set()).add(session)
    return found


def unusable_name(name: str) -> str | None:
    """What is wrong with a name that no list of utterances can hold; None where nothing is."""
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in name):  # bytes, as Python keeps them
        return "its name is not UTF-8: rename it."
    if "\n" in name or "\r" in name:
        return "its name has a line break in it: rename it."
    return None


def audio_files(root: str | Path) -> list[str]:
    """Every audio file below a folder. Raises `FileNotFoundError` when there is none."""
    files = [str(file) for file in walk_audio(root)]
    if not files:
        raise FileNotFoundError(f"'{root}' has no wav, flac or ogg files: give a folder of recordings.")
    return files
