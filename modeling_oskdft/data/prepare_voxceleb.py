"""VoxCeleb1 and 2 as people have them on disk, to manifests, counted against what was published.

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
    """A published part: its speakers by number, and how much of it there is."""

    name: str
    title: str
    first: int
    last: int
    speakers: int
    utterances: int
    without: range = range(0)

    def has(self, speaker: str) -> bool:
        """Whether a folder `idNNNNN` belongs to this part."""
        number = int(speaker[2:])
        return self.first <= number <= self.last and number not in self.without


TEST_SPEAKERS = range(10270, 10310)
VOXCELEB1 = (
    Part("voxceleb1_dev", "VoxCeleb1 dev", 10001, 11251, 1211, 148_642, TEST_SPEAKERS),
    Part("voxceleb1_test", "VoxCeleb1 test", TEST_SPEAKERS[0], TEST_SPEAKERS[-1], 40, 4_874),
)
VOXCELEB2 = (Part("voxceleb2_dev", "VoxCeleb2 dev", 1, 9999, 5994, 1_092_009),)


class TrialList(NamedTuple):
    """A published list: the name it has there, the name it gets, and how many trials it has."""

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
    """The manifests that were written, the trial lists that were found, and every difference, in words."""

    manifests: list[Preparation]
    trials: dict[str, int]
    differences: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "manifests": [one.as_dict() for one in self.manifests],
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

    voxceleb1, voxceleb2: folders with `…/idNNNNN/video/utterance.wav` (or flac, m4a) somewhere below; either may be
    None. m4a is transcoded to FLAC below `out`; a run that was stopped goes on where it was. trials: where the lists
    lie, by default `voxceleb1`. Whatever differs from the published counts is in `differences`.
    Raises `ValueError` without either folder, `FileNotFoundError` for one that holds no speakers.
    """
    if voxceleb1 is None and voxceleb2 is None:
        raise ValueError("Neither voxceleb1 nor voxceleb2 was given: name the folder of at least one.")
    target = Path(out)
    sets = [(Path(folder), parts) for folder, parts in ((voxceleb1, VOXCELEB1), (voxceleb2, VOXCELEB2)) if folder]
    roots = [_speaker_roots(folder) for folder, _ in sets]  # a wrong folder is told of before hours of work
    result = VoxCelebPreparation([], {}, [])
    options: dict[str, Any] = {"workers": workers, "max_damaged": max_damaged, "progress": progress}
    try:
        for (folder, parts), own in zip(sets, roots, strict=True):
            _prepare_parts(folder, own, parts, target, options, result)
        if voxceleb1 is not None or trials is not None:
            _prepare_trials(Path(trials or voxceleb1 or ""), target, result)
    finally:  # what is known stays, whatever happened
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
    if parts is VOXCELEB2:  # its test speakers cannot be told from their numbers
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
        own = [root for root in roots if any(_known(name, [part]) for name in _folders(root))]
        if not own:
            result.differences.append(f"{part.title} is not in '{folder}': no manifest of it was written.")
            continue
        common = own[0] if len(own) == 1 else Path(os.path.commonpath(own))
        one = Preparation(str(target / f"{part.name}.parquet"))
        result.manifests.append(one)
        write_manifest(partial(_recordings, own, part), common, one, **options, expected=part.utterances)
        result.differences += _differences(one, part)


def _differences(one: Preparation, part: Part) -> list[str]:
    """What was found against what was published, a sentence each."""
    said = []
    for what, found, published in (
        ("speakers", len(one.speakers), part.speakers),
        ("utterances", one.utterances, part.utterances),
    ):
        if found != published:
            number = abs(found - published)
            said.append(
                f"{part.title} has {found:,} {what} where {published:,} were published: {number:,} "
                f"{'are missing' if found < published else 'are too many'}."
            )
    if one.skipped:
        said.append(f"{part.title}: {len(one.skipped)} files were skipped, named in report.json.")
    return said


def speaker_roots(folder: Path, depth: int = SEARCH_DEPTH) -> list[Path]:
    """The folders, sorted, that hold speakers' folders `idNNNNN`; each once, also where links lead to it again."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder at '{folder}': give the folder that VoxCeleb was unpacked to.")
    found: dict[str, Path] = {}
    for root in _roots_below(folder, depth):
        found.setdefault(os.path.realpath(root), root)
    return list(found.values())


def _roots_below(folder: Path, depth: int) -> Iterator[Path]:
    names = _folders(folder)
    if any(SPEAKER.fullmatch(name) for name in names):
        yield folder
    elif depth:
        for name in names:
            yield from _roots_below(folder / name, depth - 1)


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(one.name for one in entries if one.name[0] != "." and os.path.isdir(one.path))


def _known(name: str, parts: Sequence[Part]) -> bool:
    return SPEAKER.fullmatch(name) is not None and any(part.has(name) for part in parts)


def _recordings(roots: Sequence[Path], part: Part) -> Iterator[RecordingFile]:
    """Speaker by speaker, so that what several folders hold of one comes together; ids begin with the speaker."""
    for speaker in sorted({name for root in roots for name in _folders(root) if _known(name, [part])}):
        own = [
            _with_place(root, file)
            for root in roots
            if (root / speaker).is_dir()
            for file in walk_audio(root / speaker)
        ]
        yield from sorted(own, key=lambda one: (one.utterance, str(one.file)))


def _with_place(root: Path, file: Path) -> RecordingFile:
    """idNNNNN/video/utterance and no other depth: elsewhere the speaker would be a guess."""
    recording = recording_or_stray_file(file, root, TreeLayout("speaker/session"))
    return recording if len(file.relative_to(root).parts) == 3 else recording._replace(speaker="", session="")


def _prepare_trials(folder: Path, target: Path, result: VoxCelebPreparation) -> None:
    """Copy the lists that are there under plain names; name those that are not, and utterances without a recording."""
    known: set[str] = set()
    for part in VOXCELEB1:
        manifest = target / f"{part.name}.parquet"
        if manifest.is_file():
            known |= set(pq.read_table(manifest, columns=["utterance_id"]).column(0).to_pylist())
    for one in TRIAL_LISTS:
        found = next(
            (path for path in (folder / one.published, folder / "meta" / one.published) if path.is_file()), None
        )
        if found is None:
            result.differences.append(
                f"The list of {one.title} ({one.published}) is not in '{folder}': fetch it from the page of VoxCeleb1 "
                "if you want it."
            )
            continue
        try:
            trials = read_trials(found)
        except ValueError as error:  # a page of the web server under the list's name
            result.differences.append(f"{one.title} cannot be read and was left out: {error}")
            continue
        with whole_file(target / one.name) as file:
            file.write_bytes(found.read_bytes())
        result.trials[one.name] = len(trials.labels)
        if len(trials.labels) != one.trials:
            result.differences.append(
                f"{one.title} has {len(trials.labels):,} trials where {one.trials:,} were published ('{found}')."
            )
        missing = sorted(set(trials.utterances()) - known) if known else []
        if missing:
            result.differences.append(
                f"{one.title} names {len(missing):,} recordings that are not in the manifests, '{missing[0]}' first."
            )
