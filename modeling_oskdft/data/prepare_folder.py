"""A tree of recordings to a Parquet manifest: headers read in parallel, rows written as they come.

Memory does not grow with the number of files: what is held are a few thousand rows and the names of the speakers and
their sessions.
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
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..audio.ffmpeg import EXTENSIONS as TRANSCODED
from ..audio.ffmpeg import find_ffmpeg
from ..audio.folders import Layout, understand, unusable_name, walk_audio
from ..audio.loading import SAMPLING_RATE, count_samples, name_of, utterance_id
from ..audio.transcoding import remove_partial_files, transcode
from ..errors import printable
from ..files import whole_file
from .manifest import COLUMNS, ROOT_KEY
from .parallel import in_processes, in_threads

ROWS_A_GROUP = 10_000
MOST_WORKERS_A_CORE = 8  # a network disk keeps several waiting


class Recording(NamedTuple):
    """A file and what its place says about it."""

    file: Path
    utterance: str
    speaker: str
    session: str


@dataclass
class Preparation:
    """What came of it: counts, and everything that was left out, with the reason."""

    manifest: str
    utterances: int = 0
    hours: float = 0.0
    speakers: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: speakers as their number."""
        values = dict(vars(self))
        return values | {"speakers": len(self.speakers), "hours": round(self.hours, 2)}

    def skip(self, what: str, reason: str, most: int) -> None:
        """Say it once, count it. Raises `ValueError` when there are more than `most`."""
        self.skipped[what] = reason
        said = reason if what in reason else f"{name_of(what)}: {reason}"
        warnings.warn(f"Skipped {printable(said)}", stacklevel=2)
        if len(self.skipped) > most:
            raise ValueError(
                f"More than {most} files had to be skipped, {name_of(what)} last: look at the data, or raise "
                "max_damaged."
            )


def prepare_folder(
    root: str | Path,
    out: str | Path,
    workers: int | None = None,
    max_damaged: int = 100,
    progress: bool = False,
    layout: str = "auto",
) -> Preparation:
    """The manifest of anybody's tree `…/speaker/session/utterance`, at `out` (.parquet).

    Files that only ffmpeg reads (m4a, mp4, webm, …) are transcoded to FLAC in the folder `NAME_flac` beside the
    manifest. workers: processes, by default one a core. Damaged files, second files of an utterance and names that no
    list can hold are named in warnings and left out, as are files that lie too high; more than `max_damaged` are a
    `ValueError`, as is a tree without recordings. layout: see `folders.understand`; what was understood is said on
    stderr before files are read.
    """
    source, target = Path(root), Path(out)
    if target.suffix != ".parquet":
        raise ValueError(f"The manifest was to be '{out}': give a name that ends in .parquet.")
    result = Preparation(str(target))
    understood = understand(source, layout)
    if progress and understood.utterances:
        sys.stderr.write(f"oskdft: {understood.describe()}\n")
    understood.warn()
    walk = partial(_recordings, source, understood)
    write_manifest(walk, source, result, workers, max_damaged, progress, understood.utterances or None)
    return result


def _recordings(root: Path, layout: Layout) -> Iterator[Recording]:
    return (recording_below(root, file, layout) for file in walk_audio(root))


def recording_below(root: Path, file: Path, layout: Layout) -> Recording:
    """What the place of a file says; speaker and session are empty for one that lies too high."""
    path = file.relative_to(root)
    try:
        speaker, session = layout.speaker_and_session(path)
    except ValueError:
        speaker, session = "", ""
    return Recording(file, utterance_id(path.as_posix()), speaker, session)


def write_manifest(
    walk: Callable[[], Iterator[Recording]],
    root: Path,
    result: Preparation,
    workers: int | None = None,
    max_damaged: int = 100,
    progress: bool = False,
    expected: int | None = None,
) -> None:
    """Transcode what has to be, read every header, write the manifest of `result` whole or not at all.

    walk: called twice; each time the recordings in the same order, files of one utterance after each other. result:
    filled as it goes, so that it tells what happened also after an error. expected: how many utterances a progress bar
    counts to.
    """
    workers = bounded_workers(workers)
    target = Path(result.manifest)
    _check_writable(target.parent)
    flac = target.with_name(f"{target.stem}_flac")
    bar = partial(_bar, progress=progress, total=expected)
    has_transcoded = _transcode_all(walk(), root, flac, workers, result, max_damaged, bar)
    data_root = flac if has_transcoded else root
    readable = (_where_it_reads(one, flac) for one in _usable(walk(), result, max_damaged))
    _write(bar(_rows(readable, data_root, workers, result, max_damaged), "headers"), data_root, target, result)


def bounded_workers(workers: int | None) -> int:
    """As many processes as were asked for, one a core where none were, and no more than a machine stands.

    Raises `ValueError` for less than one.
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


def _bar(items: Iterable[Any], what: str, progress: bool, total: int | None) -> Iterable[Any]:
    from tqdm.auto import tqdm

    return tqdm(items, desc=what, unit="utt", total=total, disable=None if progress else True)


def _transcode_all(
    recordings: Iterator[Recording],
    root: Path,
    flac: Path,
    workers: int,
    result: Preparation,
    max_damaged: int,
    bar: Callable[[Iterable[Any], str], Iterable[Any]],
) -> bool:
    """Whether there was anything to transcode; damaged files are skipped in `result`."""
    judged = _judged(recordings, set())
    compressed = (one for one, reason in judged if reason is None and one.file.suffix.lower() in TRANSCODED)
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
            result.skip(str(recording.file), reason, max_damaged)
    return True


def _transcode_one(recording: Recording, flac: Path, ffmpeg: str) -> tuple[Recording, str | None]:
    try:
        transcode(recording.file, _flac_of(recording, flac), ffmpeg)
    except ValueError as error:
        return recording, str(error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT):
            raise  # no other file will fare better
        return recording, str(error)
    return recording, None


def _flac_of(recording: Recording, flac: Path) -> Path:
    return flac / f"{recording.utterance}.flac"


def _where_it_reads(recording: Recording, flac: Path) -> Recording:
    if recording.file.suffix.lower() not in TRANSCODED:
        return recording
    return recording._replace(file=_flac_of(recording, flac))


def _usable(recordings: Iterator[Recording], result: Preparation, max_damaged: int) -> Iterator[Recording]:
    """What can be read; the rest is skipped in `result`, but for what was skipped there before."""
    for recording, reason in _judged(recordings, set(result.skipped)):
        if reason is None:
            yield recording
        elif reason:
            result.skip(str(recording.file), reason, max_damaged)


def _judged(recordings: Iterator[Recording], damaged: set[str]) -> Iterator[tuple[Recording, str | None]]:
    """Each with what is wrong with it: nothing (None), known already (""), or a name or a place.

    Of an utterance with several files the first that is not damaged is taken.
    """
    last: str | None = None
    for recording in recordings:
        if str(recording.file) in damaged:
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
    recordings: Iterable[Recording], root: Path, workers: int, result: Preparation, max_damaged: int
) -> Iterator[tuple[Any, ...]]:
    for recording, samples, reason in in_processes(_measure, recordings, workers):
        if reason is not None:
            result.skip(str(recording.file), reason, max_damaged)
            continue
        result.utterances += 1
        result.hours += samples / SAMPLING_RATE / 3600
        result.speakers[recording.speaker] = result.speakers.get(recording.speaker, 0) + 1
        file = recording.file
        path = file.relative_to(root) if file.is_relative_to(root) else file.absolute()
        yield recording.utterance, recording.speaker, recording.session, path.as_posix(), samples


def _measure(recording: Recording) -> tuple[Recording, int, str | None]:
    try:
        return recording, count_samples(str(recording.file)), None
    except (ValueError, OSError) as error:
        return recording, 0, str(error)


def _write(rows: Iterable[tuple[Any, ...]], root: Path, target: Path, result: Preparation) -> None:
    source = iter(rows)
    first = next(source, None)
    if first is None:
        raise ValueError(
            f"'{root}' has no recordings that can be read: speaker/session/utterance.wav (or flac, ogg, mp3, m4a) "
            "files are needed."
        )
    fields = [*((name, pa.string()) for name in COLUMNS[:4]), (COLUMNS[4], pa.int64())]
    schema = pa.schema(fields, {ROOT_KEY: str(root.resolve()).encode()})
    everything = chain([first], source)
    with whole_file(target) as file, pq.ParquetWriter(file, schema) as writer:
        while group := list(islice(everything, ROWS_A_GROUP)):
            columns = [pa.array(values) for values in zip(*group, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
