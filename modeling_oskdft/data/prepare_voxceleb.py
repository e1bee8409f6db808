"""Make manifests of VoxCeleb1 and 2 as they lie on disk, and compare them with the published counts.

Counts and list names: the data sets' pages at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/ (Nagrani, Chung, Xie and
Zisserman). The counts of the original E and H lists are those commonly published.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from ..audio.folders import RecordingFile, TreeLayout, walk_audio
from ..files import whole_file
from .prepare_folder import Preparation, recording_or_stray_file, write_manifest
from .trials import read_trials

SPEAKER = re.compile(r"id\d{5}")
TEST_FOLDER = re.compile(r"(^|[/_-])test([/_-]|$)")
SEARCH_DEPTH = 5


class Part(NamedTuple):
    """Describe a published part of VoxCeleb.

    Attributes:
        name: name of its manifest.
        title: name of the part in sentences.
        first: number of its first speaker.
        last: number of its last speaker.
        speakers: published number of speakers.
        utterances: published number of utterances.
        without: numbers between first and last that belong to another part.
    """

    name: str
    title: str
    first: int
    last: int
    speakers: int
    utterances: int
    without: range = range(0)

    def has(self, speaker: str) -> bool:
        """Return whether a folder `idNNNNN` is a speaker of this part.

        Args:
            speaker: name of the folder.
        """
        number = int(speaker[2:])
        return self.first <= number <= self.last and number not in self.without


TEST_SPEAKERS = range(10270, 10310)
VOXCELEB1 = (
    Part("voxceleb1_dev", "VoxCeleb1 dev", 10001, 11251, 1211, 148_642, TEST_SPEAKERS),
    Part("voxceleb1_test", "VoxCeleb1 test", TEST_SPEAKERS[0], TEST_SPEAKERS[-1], 40, 4_874),
)
VOXCELEB2 = (Part("voxceleb2_dev", "VoxCeleb2 dev", 1, 9999, 5994, 1_092_009),)


class TrialList(NamedTuple):
    """Describe a published trial list: its published file name, our file name, its title and number of trials."""

    published: str
    name: str
    title: str
    trials: int


TRIAL_LISTS = (
    TrialList("veri_test.txt", "voxceleb1_o.txt", "VoxCeleb1-O, original", 37_720),
    TrialList("veri_test2.txt", "voxceleb1_o_cleaned.txt", "VoxCeleb1-O, cleaned", 37_611),
    TrialList("list_test_all.txt", "voxceleb1_e.txt", "VoxCeleb1-E, original", 581_480),
    TrialList("list_test_all2.txt", "voxceleb1_e_cleaned.txt", "VoxCeleb1-E, cleaned", 579_818),
    TrialList("list_test_hard.txt", "voxceleb1_h.txt", "VoxCeleb1-H, original", 552_536),
    TrialList("list_test_hard2.txt", "voxceleb1_h_cleaned.txt", "VoxCeleb1-H, cleaned", 550_894),
)


@dataclass
class VoxCelebPreparation:
    """Hold the results of a preparation.

    Attributes:
        manifests: the manifests that were written.
        trials: number of trials of each list that was written, by its file name.
        differences: every difference from the published data, one sentence each.
    """

    manifests: list[Preparation]
    trials: dict[str, int]
    differences: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "manifests": [preparation.as_dict() for preparation in self.manifests],
            "trials": self.trials,
            "differences": self.differences,
        }


def prepare_voxceleb(
    voxceleb1: str | Path | None,
    voxceleb2: str | Path | None,
    out: str | Path,
    trials: str | Path | None = None,
    workers: int | None = None,
    max_damaged: int = 100,
    progress: bool = False,
) -> VoxCelebPreparation:
    """Write `voxceleb1_dev`, `voxceleb1_test`, `voxceleb2_dev.parquet`, the trial lists and `report.json` to `out`.

    m4a is transcoded to FLAC below `out`; a run that was stopped continues where it was. The report is written also
    when an error ends the work.

    Args:
        voxceleb1: folder of VoxCeleb1, with `…/idNNNNN/video/utterance.wav` (or flac, m4a) at any depth; None: without
            it.
        voxceleb2: folder of VoxCeleb2; None: without it.
        out: folder to write to.
        trials: folder of the trial lists; None: that of VoxCeleb1.
        workers: processes; None: one a core.
        max_damaged: files of a part that may be left out; one more is an error.
        progress: show progress bars.

    Returns:
        The manifests, the trial lists, and the differences from the published counts.

    Raises:
        ValueError: without either folder, and for more than `max_damaged` damaged files.
        FileNotFoundError: for a folder without speakers.
    """
    if voxceleb1 is None and voxceleb2 is None:
        raise ValueError("Neither voxceleb1 nor voxceleb2 was given: name the folder of at least one.")
    target = Path(out)
    sets = [(Path(folder), parts) for folder, parts in ((voxceleb1, VOXCELEB1), (voxceleb2, VOXCELEB2)) if folder]
    roots_of_sets = [_speaker_roots(folder) for folder, _ in sets]  # a wrong folder is an error before hours of work
    result = VoxCelebPreparation([], {}, [])
    options: dict[str, Any] = {"workers": workers, "max_damaged": max_damaged, "progress": progress}
    try:
        for (folder, parts), roots in zip(sets, roots_of_sets, strict=True):
            _prepare_parts(folder, roots, parts, target, options, result)
        if voxceleb1 is not None or trials is not None:
            _prepare_trials(Path(trials or voxceleb1 or ""), target, result)
    finally:  # also after an error
        if result.manifests or result.differences:
            with whole_file(target / "report.json") as file:
                file.write_text(json.dumps(result.as_dict(), indent=1) + "\n", encoding="utf-8")
    return result


def _speaker_roots(folder: Path) -> list[Path]:
    roots = speaker_roots(folder)
    if not roots:
        raise FileNotFoundError(
            f"'{folder}' has no folders of speakers (id10001/…) in its first {SEARCH_DEPTH} levels: unpack the "
            "archives and give the folder that they lie in."
        )
    return roots


def _prepare_parts(
    folder: Path,
    roots: list[Path],
    parts: Sequence[Part],
    target: Path,
    options: dict[str, Any],
    result: VoxCelebPreparation,
) -> None:
    """Write the manifest of each part that lies in the folders `roots` below `folder`."""
    if parts is VOXCELEB2:  # the numbers of its speakers do not show which ones are test speakers
        tests = [root for root in roots if TEST_FOLDER.search(root.relative_to(folder).as_posix().lower())]
        result.differences += [f"'{root}' is a test part of VoxCeleb2 and was left out." for root in tests]
        roots = [root for root in roots if root not in tests]
    strangers = sorted({name for root in roots for name in _folders(root) if not _known(name, parts)})
    if strangers:
        result.differences.append(
            f"'{folder}' has {len(strangers)} folders that are no speakers of {parts[0].title.split()[0]} "
            f"({', '.join(strangers[:5])}): left out."
        )
    for part in parts:
        roots_of_part = [root for root in roots if any(_known(name, [part]) for name in _folders(root))]
        if not roots_of_part:
            result.differences.append(f"{part.title} is not in '{folder}': no manifest of it was written.")
            continue
        common = roots_of_part[0] if len(roots_of_part) == 1 else Path(os.path.commonpath(roots_of_part))
        preparation = Preparation(str(target / f"{part.name}.parquet"))
        result.manifests.append(preparation)
        walk = partial(_recordings, roots_of_part, part)
        write_manifest(walk, common, preparation, **options, expected=part.utterances)
        result.differences += _differences(preparation, part)


def _differences(preparation: Preparation, part: Part) -> list[str]:
    """Compare a manifest with the published counts; one sentence for each difference."""
    sentences = []
    for unit, counted, published in (
        ("speakers", len(preparation.speakers), part.speakers),
        ("utterances", preparation.utterances, part.utterances),
    ):
        if counted != published:
            number = abs(counted - published)
            sentences.append(
                f"{part.title} has {counted:,} {unit} where {published:,} were published: {number:,} "
                f"{'are missing' if counted < published else 'are too many'}."
            )
    if preparation.skipped:
        sentences.append(f"{part.title}: {len(preparation.skipped)} files were skipped, named in report.json.")
    return sentences


def speaker_roots(folder: Path, depth: int = SEARCH_DEPTH) -> list[Path]:
    """Find the folders that hold folders `idNNNNN` of speakers.

    Args:
        folder: folder to search in.
        depth: levels below it that are searched.

    Returns:
        The folders, sorted; each once, also where links lead to it a second time.

    Raises:
        FileNotFoundError: for a folder that does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder at '{folder}': give the folder that VoxCeleb was unpacked to.")
    roots: dict[str, Path] = {}
    for root in _roots_below(folder, depth):
        roots.setdefault(os.path.realpath(root), root)
    return list(roots.values())


def _roots_below(folder: Path, depth: int) -> Iterator[Path]:
    names = _folders(folder)
    if any(SPEAKER.fullmatch(name) for name in names):
        yield folder
    elif depth:
        for name in names:
            yield from _roots_below(folder / name, depth - 1)


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name[0] != "." and os.path.isdir(entry.path))


def _known(name: str, parts: Sequence[Part]) -> bool:
    """Return whether a folder's name is that of a speaker of one of the parts."""
    return SPEAKER.fullmatch(name) is not None and any(part.has(name) for part in parts)


def _recordings(roots: Sequence[Path], part: Part) -> Iterator[RecordingFile]:
    """Yield the recordings of one speaker after the other, from all folders; utterance ids begin with the speaker."""
    for speaker in sorted({name for root in roots for name in _folders(root) if _known(name, [part])}):
        recordings = [
            _recording_of_speaker(root, file)
            for root in roots
            if (root / speaker).is_dir()
            for file in walk_audio(root / speaker)
        ]
        yield from sorted(recordings, key=lambda recording: (recording.utterance, str(recording.file)))


def _recording_of_speaker(root: Path, file: Path) -> RecordingFile:
    """Name the speaker of a file at idNNNNN/video/utterance; at another depth, the speaker would be a guess."""
    recording = recording_or_stray_file(file, root, TreeLayout("speaker/session"))
    return recording if len(file.relative_to(root).parts) == 3 else recording._replace(speaker="", session="")


def _prepare_trials(folder: Path, target: Path, result: VoxCelebPreparation) -> None:
    """Copy the trial lists that exist under plain names; note lists and recordings that are missing."""
    known: set[str] = set()
    for part in VOXCELEB1:
        manifest = target / f"{part.name}.parquet"
        if manifest.is_file():
            known |= set(pq.read_table(manifest, columns=["utterance_id"]).column(0).to_pylist())
    for trial_list in TRIAL_LISTS:
        name, title = trial_list.published, trial_list.title
        file = next((path for path in (folder / name, folder / "meta" / name) if path.is_file()), None)
        if file is None:
            result.differences.append(
                f"The list of {title} ({name}) is not in '{folder}': fetch it from the page of VoxCeleb1 if you want "
                "it."
            )
            continue
        try:
            trials = read_trials(file)
        except ValueError as error:  # a page of the web server under the list's name
            result.differences.append(f"{title} cannot be read and was left out: {error}")
            continue
        with whole_file(target / trial_list.name) as copy:
            copy.write_bytes(file.read_bytes())
        result.trials[trial_list.name] = len(trials.labels)
        if len(trials.labels) != trial_list.trials:
            result.differences.append(
                f"{title} has {len(trials.labels):,} trials where {trial_list.trials:,} were published ('{file}')."
            )
        missing = sorted(set(trials.utterances()) - known) if known else []
        if missing:
            result.differences.append(
                f"{title} names {len(missing):,} recordings that are not in the manifests, '{missing[0]}' first."
            )
