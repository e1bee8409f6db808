"""Find the recordings of a tree of folders: sorted, through links, never in a circle; and name their speakers."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple

from ..errors import check_choice, printable
from .loading import AUDIO_EXTENSIONS, utterance_id

LAYOUTS = ("auto", "speaker/session", "speaker")
NO_SESSION = "unknown"  # session of every recording in a tree without folders of sessions


def walk_audio(root: str | Path) -> Iterator[Path]:
    """Yield the audio files below `root`, sorted, so that nothing depends on the order of the disk.

    Files of one stem (`1.flac`, `1.wav`) follow each other. Links to other places are followed; a link to a folder
    that is walked anyway is named in a warning and not followed, and a folder that cannot be opened is named in a
    warning. Names that begin with a dot are left out. Memory holds one folder a level.

    Args:
        root: top folder of the tree.

    Raises:
        FileNotFoundError: for a root that does not exist.
    """
    if not os.path.isdir(root):
        reason = "is a file" if os.path.exists(root) else "is not there"
        raise FileNotFoundError(f"There is no folder at '{root}' (it {reason}): give a folder of recordings.")
    yield from _walk(Path(root), (os.path.realpath(root),))


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Walk one folder; `above` are the real paths of the folders from the root down to it."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if entry.name[0] != "."]
            children = sorted((PurePath(entry.name).stem, entry.name, _is_folder(entry)) for entry in visible)
    except OSError as error:
        warnings.warn(f"Skipped '{folder}': it cannot be opened ({error.strerror}).", stacklevel=2)
        return
    for _, name, is_folder in children:
        if not is_folder and name.lower().endswith(AUDIO_EXTENSIONS):
            yield folder / name
    for name in sorted(name for _, name, is_folder in children if is_folder):
        real = os.path.realpath(folder / name)
        if real in above or ((folder / name).is_symlink() and _lies_below(real, above[0])):
            warnings.warn(f"'{folder / name}' links to '{real}', which is walked anyway: not followed.", stacklevel=2)
            continue
        yield from _walk(folder / name, (*above, real))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which is reported when it is read
        return False


def _lies_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


@dataclass
class TreeLayout:
    """Hold which folders above a recording name its speaker and its session, and counts of a tree that was read so.

    Attributes:
        name: "speaker/session" for `…/speaker/session/utterance.wav`, "speaker" for `…/speaker/utterance.wav`, whose
            session is unknown.
        sessions: names of the sessions of each speaker.
        utterances: number of the recordings that lie deep enough.
        example: path of the first of them below the root.
    """

    name: str
    sessions: dict[str, set[str]] = field(default_factory=dict)
    utterances: int = 0
    example: str = ""

    def speaker_and_session(self, path: PurePath) -> tuple[str, str]:
        """Return the speaker and the session of a recording.

        Args:
            path: place of the recording below the root.

        Raises:
            ValueError: for a recording with too few folders above it.
        """
        folders = path.parts[:-1]
        if self.name == "speaker" and folders:
            return folders[-1], NO_SESSION
        if self.name == "speaker/session" and len(folders) >= 2:
            return folders[-2], folders[-1]
        raise ValueError(
            f"'{printable(str(path))}' lies too high: {self.name}/utterance below the folder is needed; see layout."
        )

    def describe(self) -> str:
        """Describe the tree in one sentence: recordings, speakers, sessions, layout and an example."""
        sessions = sum(len(names) for names in self.sessions.values()) / max(len(self.sessions), 1)
        counted = "no sessions" if self.name == "speaker" else f"{sessions:.1f} sessions each"
        return (
            f"{self.utterances:,} recordings of {len(self.sessions):,} speakers, {counted}, as {self.name}/utterance, "
            f"e.g. '{printable(self.example)}'"
        )

    def warn(self) -> None:
        """Warn when all recordings are of one speaker with several sessions, which may be speakers."""
        if self.name == "speaker/session" and len(self.sessions) == 1 and len(*self.sessions.values()) > 1:
            (speaker,) = self.sessions
            warnings.warn(
                f"All recordings are of one speaker, '{printable(speaker)}': where the folders below are "
                "speakers, say layout speaker.",
                stacklevel=3,
            )


def read_layout(root: str | Path, layout: str = "auto") -> TreeLayout:
    """Find the layout of a tree from the names in it; no file is opened.

    Args:
        root: top folder of the tree.
        layout: one of `LAYOUTS`; "auto" takes "speaker" where no recording has two folders above it.

    Raises:
        ValueError: for another layout, and with "auto" where some recordings have two folders above them and some one.
        FileNotFoundError: for a root that does not exist.
    """
    check_choice("layout", layout, LAYOUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the later walk, which reads the files, gives the same warnings
        return _count_recordings(root, _layout_from_depths(root) if layout == "auto" else layout)


def _layout_from_depths(root: str | Path) -> str:
    """Choose the layout by the number of folders above the recordings."""
    examples: dict[int, Path] = {}  # by the number of folders above a recording; two stands for more as well
    for file in walk_audio(root):
        path = file.relative_to(root)
        examples.setdefault(min(len(path.parts) - 1, 2), path)
    if {1, 2} <= set(examples):
        high, deep = examples[1], examples[2]
        raise ValueError(
            f"'{root}' has recordings at two depths, '{printable(str(high))}' and '{printable(str(deep))}': say "
            "which folder is the speaker's, layout speaker or speaker/session."
        )
    return "speaker" if 1 in examples else "speaker/session"


def _count_recordings(root: str | Path, name: str) -> TreeLayout:
    layout = TreeLayout(name)
    for file in walk_audio(root):
        path = file.relative_to(root)
        try:
            speaker, session = layout.speaker_and_session(path)
        except ValueError:  # lies too high; the caller that reads the recordings reports it
            continue
        layout.utterances += 1
        layout.example = layout.example or str(path)
        layout.sessions.setdefault(speaker, set()).add(session)
    return layout


class RecordingFile(NamedTuple):
    """Describe a file of a tree with the names that its place gives: utterance id, speaker and session."""

    file: Path
    utterance: str
    speaker: str
    session: str


def recording_at(file: Path, root: Path, layout: TreeLayout) -> RecordingFile:
    """Name the utterance, the speaker and the session of a file by its place below `root`.

    Args:
        file: path of the recording, below `root`.
        root: top folder of the tree.
        layout: layout of the tree.

    Raises:
        ValueError: for a file with too few folders above it.
    """
    path = file.relative_to(root)
    return RecordingFile(file, utterance_id(path.as_posix()), *layout.speaker_and_session(path))


def unusable_name(name: str) -> str | None:
    """Explain why no list of utterances can hold a name; None for a usable one.

    Args:
        name: path or utterance id.

    Returns:
        The rest of a sentence that begins with the name; None for a usable name.
    """
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in name):  # surrogates: Python's form of bytes outside UTF-8
        return "its name is not UTF-8: rename it."
    if "\n" in name or "\r" in name:
        return "its name has a line break in it: rename it."
    return None


def audio_files(root: str | Path) -> list[str]:
    """List every audio file below a folder.

    Args:
        root: top folder of the tree.

    Returns:
        Their paths, sorted.

    Raises:
        FileNotFoundError: when the folder does not exist or holds no audio files.
    """
    files = [str(file) for file in walk_audio(root)]
    if not files:
        raise FileNotFoundError(f"'{root}' has no wav, flac or ogg files: give a folder of recordings.")
    return files
