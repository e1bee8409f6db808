import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.augmentation_examples import write_examples


def test_recordings_to_listen_to_and_a_sheet(tmp_path, voices):
    recording = next(voices.rglob("*.flac"))
    for kind in ("noise", "speech"):
        (tmp_path / "musan" / kind / "a").mkdir(parents=True)
        noise = np.random.default_rng(0).normal(scale=0.1, size=16000)
        soundfile.write(tmp_path / "musan" / kind / "a" / "1.wav", noise, 16000)
    files = write_examples(recording, tmp_path / "out", tmp_path / "musan")
    names = [file.stem[3:] for file in files[:-1]]
    expected = ["clean", "noise", "babble", "clipping", "envelope", "gain", "telephone", "mulaw", "mp3", "ogg"]
    assert names == [*expected, "speed_0.9", "speed_1.1", "drawn_1", "drawn_2", "drawn_3"]
    written = {name: soundfile.read(file)[0] for name, file in zip(names, files, strict=False)}
    np.testing.assert_allclose(written["clean"], soundfile.read(recording)[0], atol=1e-6)
    assert all(not np.array_equal(wave, written["clean"]) for name, wave in written.items() if name in expected[1:])
    assert files[-1].name == "spectrograms.png" and files[-1].read_bytes()[:4] == b"\x89PNG"
    again = write_examples(recording, tmp_path / "again", tmp_path / "musan")
    for name, file in zip(names, again, strict=False):
        np.testing.assert_array_equal(soundfile.read(file)[0], written[name])


def test_a_recording_shorter_than_a_window(tmp_path):
    soundfile.write(tmp_path / "short.wav", [0.1] * 300, 16000)
    assert len(write_examples(tmp_path / "short.wav", tmp_path / "out")) == 14


def test_what_is_no_recording_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recording at"):
        write_examples(tmp_path / "none.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()
