import os

import pytest

from modeling_oskdft.audio.folders import RecordingFile, audio_files, read_layout, recording_at, walk_audio


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_sorted_with_the_files_of_one_utterance_together(tmp_path):
    touch(
        tmp_path, "b/2.wav", "b/1.wav", "a/x.FLAC", "b/1.flac", "b/1.b.flac", "b/readme.txt", "b/._1.wav", ".c/1.wav"
    )
    files = [file.relative_to(tmp_path).as_posix() for file in walk_audio(tmp_path)]
    assert files == ["a/x.FLAC", "b/1.flac", "b/1.wav", "b/1.b.flac", "b/2.wav"]


def test_links_are_followed_and_never_in_a_circle(tmp_path):
    touch(tmp_path, "real/s/v/1.wav")
    (tmp_path / "tree").mkdir()
    os.symlink(tmp_path / "real" / "s", tmp_path / "tree" / "s")
    os.symlink(tmp_path, tmp_path / "real" / "s" / "up")
    with pytest.warns(UserWarning, match="which is walked anyway: not followed"):
        files = list(walk_audio(tmp_path / "tree"))
    assert tmp_path / "tree/s/v/1.wav" in files


def test_links_inside_the_tree_and_what_cannot_be_opened_are_named(tmp_path):
    touch(tmp_path, "s1/v/1.wav", "s2/v/1.wav")
    os.symlink(tmp_path / "s1", tmp_path / "copy_of_s1")
    os.symlink("self.wav", tmp_path / "s1" / "v" / "self.wav")
    with pytest.warns(UserWarning, match="copy_of_s1' links to .*s1', which is walked anyway"):
        files = [file.relative_to(tmp_path).as_posix() for file in walk_audio(tmp_path)]
    assert files == ["s1/v/1.wav", "s1/v/self.wav", "s2/v/1.wav"]


def test_what_is_no_folder_is_named(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(FileNotFoundError, match="no folder at"):
        list(walk_audio(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="it is a file"):
        list(walk_audio(tmp_path / "file"))
    with pytest.raises(FileNotFoundError, match="has no wav, flac or ogg files"):
        audio_files(tmp_path)


def test_the_layout_follows_from_the_depth_of_the_recordings(tmp_path):
    touch(tmp_path, "flat/a/1.wav", "flat/b/1.wav", "deep/x/a/s/1.wav", "deep/x/a/t/1.wav", "deep/b/s/1.wav")
    flat, deep = read_layout(tmp_path / "flat"), read_layout(tmp_path / "deep")
    assert (flat.name, deep.name, flat.utterances, deep.utterances) == ("speaker", "speaker/session", 2, 3)
    assert deep.sessions == {"a": {"s", "t"}, "b": {"s"}}
    assert (
        deep.describe()
        == "3 recordings of 2 speakers, 1.5 sessions each, as speaker/session/utterance, e.g. 'b/s/1.wav'"
    )
    with pytest.raises(ValueError, match="layout is 'session': use one of auto, speaker/session, speaker"):
        read_layout(tmp_path, "session")


def test_a_recording_is_named_by_its_place(tmp_path):
    layout = read_layout(tmp_path, "speaker/session")
    file = tmp_path / "x" / "a" / "s" / "1.wav"
    assert recording_at(file, tmp_path, layout) == RecordingFile(file, "x/a/s/1", "a", "s")
    with pytest.raises(ValueError, match="'1.wav' lies too high: speaker/session/utterance below the folder"):
        recording_at(tmp_path / "1.wav", tmp_path, layout)
