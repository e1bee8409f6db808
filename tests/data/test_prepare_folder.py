import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import soundfile

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.prepare_folder import prepare_folder
from modeling_oskdft.data.sources import load_manifest
from tests.light import LIGHT


@pytest.mark.parametrize("workers", [1, 2])
def test_the_manifest_is_that_of_the_folder(tmp_path, voices, workers):
    result = prepare_folder(voices, tmp_path / "m.parquet", workers)
    prepared, of_folder = load_manifest(tmp_path / "m.parquet"), load_manifest(voices)
    assert prepared.table.sort_by("utterance_id").equals(
        of_folder.table.sort_by("utterance_id").replace_schema_metadata(None)
    )
    assert (result.utterances, len(result.speakers), result.skipped) == (40, 10, {})
    assert result.hours == pytest.approx(sum(of_folder.column("num_samples")) / 16000 / 3600)
    assert prepared.root == voices.resolve()


def test_everything_bad_is_named_and_nothing_is_fatal(tmp_path, voices):
    tree = tmp_path / "tree"
    shutil.copytree(voices / "voice000", tree / "Ærø" / "été 1")
    first = next((tree / "Ærø" / "été 1" / "session0").iterdir())
    shutil.copytree(voices / "voice001", tmp_path / "elsewhere" / "v1")
    os.symlink(tmp_path / "elsewhere" / "v1", tree / "v1")
    os.symlink(tmp_path / "gone.flac", tree / "v1" / "session0" / "dangling.flac")
    (tree / "v1" / "session0" / "empty.wav").touch()
    (tree / "v1" / "session0" / "cut.flac").write_bytes(first.read_bytes()[:40])
    (tree / "top.wav").touch()
    soundfile.write(tree / "v1" / "session0" / "00.wav", [0.1] * 800, 16000)  # 00.flac is there
    os.makedirs(os.fsencode(tree / "v2" / "s"))
    shutil.copy(first, os.fsencode(tree / "v2" / "s") + b"/\xff.flac")
    with pytest.warns(UserWarning) as caught:
        result = prepare_folder(tree, tmp_path / "m.parquet", 2)
    warned = "\n".join(str(warning.message) for warning in caught)
    for fault in (
        "dangling",
        "empty",
        "cut",
        "top.wav': it does not lie at speaker/session/utterance",
        "is not UTF-8",
    ):
        assert fault in warned, fault
    assert "00.wav': the utterance 'v1/session0/00' has another file before it" in warned
    assert len(result.skipped) == 6 and result.utterances == 8
    assert set(load_manifest(tmp_path / "m.parquet").speakers) == {"été 1", "v1"}


def test_of_several_files_the_first_whole_one_is_taken(tmp_path, ffmpeg, voices):
    place = tmp_path / "tree" / "s" / "v"
    place.mkdir(parents=True)
    (place / "0.m4a").write_bytes(b"junk" * 100)
    soundfile.write(place / "0.wav", [0.1] * 800, 16000)
    tone = ["-v", "error", "-f", "lavfi", "-i", "sine=440:d=1", "-c:a", "aac"]
    long_name = "é" * 122  # 244 bytes, and 255 are allowed
    for name in ("1.m4a", "1.aac", f"{long_name}.m4a"):
        subprocess.run([ffmpeg, *tone, place / name], check=True)
    with pytest.warns(UserWarning):
        result = prepare_folder(tmp_path / "tree", tmp_path / "out" / "m.parquet", 2)
    manifest = load_manifest(tmp_path / "out" / "m.parquet")
    assert manifest.column("utterance_id") == ["s/v/0", "s/v/1", f"s/v/{long_name}"]
    assert [os.path.basename(file) for file in result.skipped] == ["0.m4a", "1.m4a"]
    assert all(load_audio(manifest.audio(row)).size for row in range(3))


def test_flac_never_goes_into_the_tree_it_comes_from(tmp_path, ffmpeg):
    tone = tmp_path / "tree" / "s" / "v" / "1.m4a"
    tone.parent.mkdir(parents=True)
    subprocess.run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=440:d=1", "-c:a", "aac", tone], check=True)
    with pytest.raises(ValueError, match="m_flac', where the FLAC of m4a files goes, lies inside"):
        prepare_folder(tmp_path / "tree", tmp_path / "tree" / "m.parquet", 1)
    assert not list((tmp_path / "tree").rglob("*.flac"))


def test_limits_and_places_are_sentences(tmp_path, voices):
    tree = tmp_path / "tree"
    shutil.copytree(voices / "voice000", tree / "v")
    for file in tree.rglob("*.flac"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="More than 2 files had to be skipped"):
        prepare_folder(tree, tmp_path / "m.parquet", 1, max_damaged=2)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no recordings that can be read"):
        prepare_folder(tree, tmp_path / "m.parquet", 1)
    with pytest.raises(ValueError, match="ends in .parquet"):
        prepare_folder(voices, tmp_path / "m.csv")
    with pytest.raises(FileNotFoundError, match="no folder at"):
        prepare_folder(tmp_path / "nowhere", tmp_path / "m.parquet")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written to"):
        prepare_folder(voices, tmp_path / "file" / "m.parquet")
    assert not list(tmp_path.glob("*m.parquet*"))


def test_memory_does_not_grow_with_the_files(tmp_path, monkeypatch):
    """Rows are written as they come: a walk of endless files stops at the first written groups, not before."""
    from pathlib import Path

    from modeling_oskdft.data import prepare_folder as preparation

    alive = []

    def walk():
        for number in range(30_000):
            alive.append(number)
            yield preparation.RecordingFile(Path(f"s/v/{number}.wav"), f"s/v/{number}", "s", "v")

    monkeypatch.setattr(preparation, "_measure", lambda recording: (recording, 16000, None))
    monkeypatch.setattr(preparation, "ROWS_A_GROUP", 1000)
    held = []
    write = pq.ParquetWriter.write_table
    monkeypatch.setattr(pq.ParquetWriter, "write_table", lambda *a: held.append(len(alive)) or write(*a))
    preparation.write_manifest(walk, Path("s"), preparation.Preparation(str(tmp_path / "m.parquet")), 1)
    first_walk = 30_000  # what looks for m4a
    assert [count - first_walk for count in held] == [1000 * n for n in range(1, 31)]


def test_a_killed_transcoding_goes_on(tmp_path, ffmpeg):
    tone = tmp_path / "tone.m4a"
    subprocess.run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=440:d=1", "-c:a", "aac", tone], check=True)
    for number in range(60):
        place = tmp_path / "tree" / "s" / f"v{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(tone, place / f"{number}.m4a")
    code = LIGHT + "from modeling_oskdft.data.prepare_folder import prepare_folder as p; p(*sys.argv[1:], workers=2)"
    command = [sys.executable, "-c", code, str(tmp_path / "tree"), str(tmp_path / "out" / "m.parquet")]
    killed = subprocess.Popen(command, start_new_session=True)
    while len(list(tmp_path.rglob("*.flac"))) < 10:
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("[!.]*.flac")}
    assert 10 <= len(done) < 60 and not (tmp_path / "out" / "m.parquet").exists()
    assert all(soundfile.info(file).frames for file in done)
    result = prepare_folder(tmp_path / "tree", tmp_path / "out" / "m.parquet", 2)
    assert result.utterances == 60 and not list((tmp_path / "out").rglob("*.partial"))
    assert all(file.stat().st_mtime_ns == before for file, before in done.items())
    assert load_manifest(tmp_path / "out" / "m.parquet").root == tmp_path / "out" / "m_flac"
