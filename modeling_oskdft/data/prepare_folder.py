"""Make a manifest of a tree of recordings: read the headers in parallel, write the rows as they come.

Memory does not grow with the number of files: it holds a few thousand rows, and the names of the speakers and their
sessions.
"""

import errno
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..audio.ffmpeg import EXTENSIONS as TRANSCODED
from ..audio.ffmpeg import find_ffmpeg
from ..audio.folders import RecordingFile, TreeLayout, read_layout, recording_at, unusable_name, walk_audio
from ..audio.loading import SAMPLING_RATE, count_samples, utterance_id
from ..audio.transcoding import remove_partial_files, transcode
from ..files import whole_file
from .damaged import DamagedFiles
from .manifest import MANIFEST_SCHEMA, ROOT_KEY
from .parallel import in_processes, in_threads

ROWS_A_GROUP = 10_000
MOST_WORKERS_A_CORE = 8  # a network disk keeps several waiting


@dataclass
class Preparation:
    """Hold the counts of a manifest that was made, and the files that were left out.

    Attributes:
        manifest: path of the manifest.
        utterances: number of its rows.
        hours: length of its recordings.
        speakers: number of utterances of each speaker.
        skipped: fault of each file that was left out, by its path.
    """

    manifest: str
    utterances: int = 0
    hours: float = 0.0
    speakers: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON; `speakers` is their number, `hours` has two decimals."""
        values = dict(vars(self))
        return values | {"speakers": len(self.speakers), "hours": round(self.hours, 2)}


def prepare_folder(
    root: str | Path,
    out: str | Path,
    workers: int | None = None,
    max_damaged: int = 100,
    progress: bool = False,
    layout: str = "auto",
) -> Preparation:
    """Make the manifest of any tree `…/speaker/session/utterance` or `…/speaker/utterance`.

    Files that only ffmpeg reads (m4a, mp4, webm, …) are transcoded to FLAC in the folder `NAME_flac` beside the
    manifest. Damaged files, second files of an utterance, names that no list can hold and files that lie too high are
    named in warnings and left out.

    Args:
        root: top folder of the tree.
        out: path of the manifest, which ends in .parquet.
        workers: processes; None: one a core.
        max_damaged: files that may be left out; one more is an error.
        progress: show a progress bar, and print the layout on stderr before files are read.
        layout: name of the layout, see `audio.folders.read_layout`.

    Raises:
        ValueError: for an `out` with another ending, more than `max_damaged` files to leave out, or a tree without
            recordings that can be read.
        FileNotFoundError: for a root that does not exist.
        OSError: when the folder of `out` cannot be written to.
    """
    source, target = Path(root), Path(out)
    if target.suffix != ".parquet":
        raise ValueError(f"The manifest was to be '{out}': give a name that ends in .parquet.")
    result = Preparation(str(target))
    tree = read_layout(source, layout)
    if progress and tree.utterances:
        sys.stderr.write(f"oskdft: {tree.describe()}\n")
    tree.warn()
    walk = partial(_recordings, source, tree)
    write_manifest(walk, source, result, workers, max_damaged, progress, tree.utterances or None)
    return result


def _recordings(root: Path, layout: TreeLayout) -> Iterator[RecordingFile]:
    return (recording_or_stray_file(file, root, layout) for file in walk_audio(root))


def recording_or_stray_file(file: Path, root: Path, layout: TreeLayout) -> RecordingFile:
    """Do as `audio.folders.recording_at`; for a file that lies too high, speaker and session are empty.

    Args:
        file: path of the recording, below `root`.
        root: top folder of the tree.
        layout: layout of the tree.
    """
    try:
        return recording_at(file, root, layout)
    except ValueError:
        return RecordingFile(file, utterance_id(file.relative_to(root).as_posix()), "", "")


def write_manifest(
    walk: Callable[[], Iterator[RecordingFile]],
    root: Path,
    result: Preparation,
    workers: int | None = None,
    max_damaged: int = 100,
    progress: bool = False,
    expected: int | None = None,
) -> None:
    """Transcode the files that need it, read every header, and write the manifest whole or not at all.

    Args:
        walk: function that yields the recordings, files of one utterance after each other. It is called twice, and
            both times yields the same order.
        root: folder that the paths of the manifest are relative to where nothing was transcoded.
        result: has the path of the manifest, and is filled during the work, so that it holds the counts also after an
            error.
        workers: processes; None: one a core.
        max_damaged: files that may be left out; one more is an error.
        progress: show a progress bar.
        expected: number of utterances that a progress bar counts to.

    Raises:
        ValueError, OSError: as in `prepare_folder`.
    """
    workers = bounded_workers(workers)
    target = Path(result.manifest)
    _check_writable(target.parent)
    refusal = "More than {most} files had to be skipped ({reason}): look at the data, or raise max_damaged."
    damaged = DamagedFiles(max_damaged, "Skipped", refusal)
    result.skipped = damaged.reasons
    flac = target.with_name(f"{target.stem}_flac")
    bar = partial(_bar, progress=progress, total=expected)
    has_transcoded = _transcode_all(walk(), root, flac, workers, damaged, bar)
    data_root = flac if has_transcoded else root
    readable = (_at_readable_file(recording, flac) for recording in _usable(walk(), damaged))
    _write(bar(_rows(readable, data_root, workers, result, damaged), "headers"), data_root, target)


def bounded_workers(workers: int | None) -> int:
    """Return the number of processes to start: as many as asked for, at most `MOST_WORKERS_A_CORE` a core.

    Args:
        workers: processes that were asked for; None: one a core.

    Raises:
        ValueError: for less than one.
    """
    cores = os.cpu_count() or 1
    if workers is None:
        return cores
    if workers < 1:
        raise ValueError(f"workers is {workers}: at least one process is needed.")
    most = max(MOST_WORKERS_A_CORE * cores, 4)
    if workers > most:
        warnings.warn(f"workers is {workers}: {most} are started, {MOST_WORKERS_A_CORE} a core.", stacklevel=3)
    return min(workers, most)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"'{folder}' cannot be written to ({error.strerror}): give another folder as out.") from None


def _bar(items: Iterable[Any], name: str, progress: bool, total: int | None) -> Iterable[Any]:
    from tqdm.auto import tqdm

    return tqdm(items, desc=name, unit="utt", total=total, disable=None if progress else True)


def _transcode_all(
    recordings: Iterator[RecordingFile],
    root: Path,
    flac: Path,
    workers: int,
    damaged: DamagedFiles,
    bar: Callable[[Iterable[Any], str], Iterable[Any]],
) -> bool:
    """Transcode the compressed recordings to the folder `flac`; return whether there were any."""
    judged = _with_faults(recordings, set())
    compressed = (
        recording for recording, fault in judged if fault is None and recording.file.suffix.lower() in TRANSCODED
    )
    first = next(compressed, None)
    if first is None:
        return False
    if flac.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"'{flac}', where the FLAC of m4a files goes, lies inside '{root}': give an out that lies elsewhere."
        )
    remove_partial_files(flac)
    work = partial(_transcode_one, flac=flac, ffmpeg=find_ffmpeg())
    for recording, reason in bar(in_threads(work, chain([first], compressed), workers), "ffmpeg"):
        if reason is not None:
            damaged.skip(str(recording.file), reason)
    return True


def _transcode_one(recording: RecordingFile, flac: Path, ffmpeg: str) -> tuple[RecordingFile, str | None]:
    """Return the recording and the reason why it cannot be transcoded; None where it was."""
    try:
        transcode(recording.file, _flac_of(recording, flac), ffmpeg)
    except ValueError as error:
        return recording, str(error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT):
            raise  # every other file would fail as well
        return recording, str(error)
    return recording, None


def _flac_of(recording: RecordingFile, flac: Path) -> Path:
    return flac / f"{recording.utterance}.flac"


def _at_readable_file(recording: RecordingFile, flac: Path) -> RecordingFile:
    """Replace a compressed file by its FLAC."""
    if recording.file.suffix.lower() not in TRANSCODED:
        return recording
    return recording._replace(file=_flac_of(recording, flac))


def _usable(recordings: Iterator[RecordingFile], damaged: DamagedFiles) -> Iterator[RecordingFile]:
    """Yield the recordings that can be used; skip the others, unless transcoding has skipped them before."""
    for recording, fault in _with_faults(recordings, set(damaged.reasons)):
        if fault is None:
            yield recording
        elif fault:
            damaged.skip(str(recording.file), fault)


def _with_faults(recordings: Iterator[RecordingFile], known: set[str]) -> Iterator[tuple[RecordingFile, str | None]]:
    """Yield each recording with its fault: None for a usable one, "" for a known damaged file, or a bad name or place.

    An utterance with several files has the first one that is not damaged.
    """
    last: str | None = None
    for recording in recordings:
        if str(recording.file) in known:
            yield recording, ""
        elif (reason := unusable_name(str(recording.file))) is not None:
            yield recording, reason
        elif not recording.speaker:
            yield recording, "it does not lie at speaker/session/utterance or speaker/utterance."
        elif recording.utterance == last:
            yield recording, f"the utterance '{recording.utterance}' has another file before it: keep one of them."
        else:
            last = recording.utterance
            yield recording, None


def _rows(
    recordings: Iterable[RecordingFile], root: Path, workers: int, result: Preparation, damaged: DamagedFiles
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the manifest, in the order of its columns, and count them in `result`."""
    for recording, samples, reason in in_processes(_measure, recordings, workers):
        if reason is not None:
            damaged.skip(str(recording.file), reason)
            continue
        result.utterances += 1
        result.hours += samples / SAMPLING_RATE / 3600
        result.speakers[recording.speaker] = result.speakers.get(recording.speaker, 0) + 1
        file = recording.file
        path = file.relative_to(root) if file.is_relative_to(root) else file.absolute()
        yield recording.utterance, recording.speaker, recording.session, path.as_posix(), samples


def _measure(recording: RecordingFile) -> tuple[RecordingFile, int, str | None]:
    """Return the recording, its samples at 16 kHz, and the reason why it cannot be read; None where it can."""
    try:
        return recording, count_samples(str(recording.file)), None
    except (ValueError, OSError) as error:
        return recording, 0, str(error)


def _write(rows: Iterable[tuple[Any, ...]], root: Path, target: Path) -> None:
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None:
        raise ValueError(
            f"'{root}' has no recordings that can be read: speaker/session/utterance.wav (or flac, ogg, mp3, m4a) "
            "files are needed."
        )
    schema = MANIFEST_SCHEMA.with_metadata({ROOT_KEY: str(root.resolve()).encode()})
    all_rows = chain([first], remaining)
    with whole_file(target) as file, pq.ParquetWriter(file, schema) as writer:
        while group := list(islice(all_rows, ROWS_A_GROUP)):
            columns = [pa.array(values) for values in zip(*group, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
