"""The programs of examples/downstream, run as their users run them."""

import importlib.util
import os
import shutil
import sys
import types
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio import speech
from modeling_oskdft.audio.synthetic_voices import Session, draw_session, draw_voice, synthesise
from modeling_oskdft.embedding.runtimes import TorchEmbedder
from tests.forked import run_python
from tests.tiny import randomise, tiny_verifier

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "examples" / "downstream"
# A meeting: (start, end, speaker). Two pauses end a turn, one is too short for that, and two turns follow at once.
MEETING = [(0.5, 4.5, 0), (5.3, 10.3, 1), (10.3, 13.8, 2), (14.0, 18.5, 0), (19.2, 22.2, 2), (22.2, 27.2, 1)]
HUMS = (3000.0, 4600.0, 6200.0)  # Hz, one for the microphone of each speaker


def program(name: str) -> types.ModuleType:
    """Import a program as a module of its own name, as a script beside it does."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def refusal(name, capsys, *arguments):
    """The one sentence with which a program ends."""
    with pytest.raises(SystemExit) as ended:
        program(name).main([str(argument) for argument in arguments])
    sentence = capsys.readouterr().err
    assert ended.value.code == 2 and sentence.count("\n") == 1 and sentence.endswith("\n")
    return sentence


@pytest.fixture(scope="module")
def folder(tmp_path_factory, feature_extractor):
    place = tmp_path_factory.mktemp("model")
    tiny_verifier().save_pretrained(place)
    feature_extractor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def verifier(folder):
    return SpeakerVerifier.from_pretrained(folder)


@pytest.fixture
def recordings(voices):
    return sorted(str(file) for file in voices.rglob("*.flac"))[:4]


@pytest.fixture
def silence(tmp_path):
    soundfile.write(tmp_path / "silence.flac", np.zeros(32000), 16000)
    return tmp_path / "silence.flac"


@pytest.fixture
def meeting(tmp_path):
    """A recording of three voices; each one's microphone has its own hum."""
    samples, time = np.zeros(round(28 * 16000)), np.arange(round(28 * 16000)) / 16000
    for number, (start, end, who) in enumerate(MEETING):
        generator = np.random.default_rng([number, 7])
        setting: Session = draw_session(np.random.default_rng([who, 1]))._replace(level_db=-22.0)
        speech = synthesise(draw_voice(np.random.default_rng([who, 2])), setting, end - start, generator)
        place = slice(round(start * 16000), round(start * 16000) + len(speech))
        samples[place] += speech + 0.03 * np.sin(2 * np.pi * HUMS[who] * time[place])
    soundfile.write(tmp_path / "the board.flac", samples.clip(-1, 1), 16000)
    return tmp_path / "the board.flac"


def loudness_of_hums(windows):
    """A stand-in for a verifier: how much of the hum of each speaker's microphone a window has."""
    tones = [[np.exp(-2j * np.pi * hum * np.arange(len(window)) / 16000) for hum in HUMS] for window in windows]
    return np.array(
        [[abs(window @ tone) for tone in of_window] for window, of_window in zip(windows, tones, strict=True)]
    )


def as_a_user(tmp_path, *command):
    """The output of a new process, without a network."""
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    process = run_python(*command, environment=environment, folder=ROOT)
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout


# ---- embeddings.py -------------------------------------------------------------------------------------------------


def test_embeddings_need_no_package_of_ours(folder, verifier, recordings, tmp_path):
    without = "import runpy, sys; sys.modules['modeling_oskdft'] = None; sys.argv = sys.argv[1:]; "
    without += "runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = [*recordings[:2], "--model", folder]
    output = as_a_user(tmp_path, "-c", without, PROGRAMS / "embeddings.py", *arguments)
    first, second = verifier.embed_many(recordings[:2])
    assert float(output.split()[1].rstrip(":")) == pytest.approx(float(first @ second), abs=2e-4)


def test_embeddings_of_a_padded_batch_are_those_of_each(folder, verifier, recordings):
    lengths = {soundfile.info(path).frames for path in recordings[:2]}
    assert len(lengths) == 2  # otherwise nothing is padded
    together = program("embeddings").embed(str(folder), recordings[:2]).numpy()
    for row, recording in zip(together, recordings, strict=False):
        np.testing.assert_allclose(row, verifier.embed(recording), atol=1e-5)


def test_embeddings_refuse_other_rates_and_missing_files(folder, recordings, tmp_path, capsys):
    soundfile.write(tmp_path / "8k.wav", np.zeros((8000, 2)), 8000)
    sentence = refusal("embeddings", capsys, recordings[0], tmp_path / "8k.wav", "--model", folder)
    assert "8k.wav' has 8000 Hz and 2 channels: 16000 Hz and one are needed." in sentence
    assert "nowhere.flac" in refusal("embeddings", capsys, recordings[0], "nowhere.flac", "--model", folder)
    refusal("embeddings", capsys, *recordings[:2], "--model", tmp_path / "no model")


# ---- map_corpus.py -------------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_folder_of_recordings_gets_its_embeddings(folder, verifier, voices, own_cache, tmp_path, capsys):
    corpus = shutil.copytree(voices / "voice000", tmp_path / "corpus")
    out = tmp_path / "deep" / "embedded.parquet"
    program("map_corpus").main([str(corpus), "--model", str(folder), "--out", str(out), "--batch-size", "3"])
    assert capsys.readouterr().out.startswith("4 of 4 recordings have an embedding")
    rows = datasets.Dataset.from_parquet(str(out)).cast_column("audio", datasets.Audio(decode=False))
    assert rows["file_name"][:] == [f"session{s}/{u:02d}.flac" for s in range(2) for u in range(2)]
    for row in rows:
        np.testing.assert_allclose(row["embedding"], verifier.embed(str(corpus / row["file_name"])), atol=1e-5)


def test_an_audio_folder_keeps_its_metadata_and_a_mended_file_is_read_anew(
    verifier, recordings, silence, own_cache, tmp_path
):
    map_corpus = program("map_corpus")
    (tmp_path / "metadata.csv").write_text(f"file_name,speaker\n{silence.name},Ada\n")
    before = map_corpus.add_embeddings(map_corpus.open_corpus(tmp_path), verifier)
    assert before.column_names == ["file_name", "speaker", "audio", "embedding"] and before["speaker"][:] == ["Ada"]
    assert before["embedding"][:] == [None]
    shutil.copy(recordings[0], silence)
    after = map_corpus.add_embeddings(map_corpus.open_corpus(tmp_path), verifier)
    np.testing.assert_allclose(after["embedding"][0], verifier.embed(recordings[0]), atol=1e-5)


def test_parquet_keeps_its_columns_and_a_bad_row_costs_only_itself(
    folder, verifier, recordings, silence, own_cache, tmp_path, capsys
):
    files = [Path(recordings[0]), silence, Path(recordings[1])]
    audio = [{"bytes": file.read_bytes(), "path": file.name} for file in files] + [None]
    corpus = datasets.Dataset.from_dict({"speaker": ["a", "b", "c", "d"], "audio": audio})
    (tmp_path / "corpus").mkdir()
    corpus.cast_column("audio", datasets.Audio(sampling_rate=16000)).to_parquet(tmp_path / "corpus/0.parquet")
    out = tmp_path / "embedded.parquet"
    program("map_corpus").main([str(tmp_path / "corpus"), "--model", str(folder), "--out", str(out)])
    printed = capsys.readouterr()
    assert printed.out.startswith("2 of 4 recordings have an embedding")
    assert "Row 1 has no embedding: Recording 1 is silent" in printed.err and "Row 3 has no emb" in printed.err
    written = datasets.Dataset.from_parquet(str(out))
    assert written.features["audio"].sampling_rate == 16000 and written["speaker"][:] == ["a", "b", "c", "d"]
    assert written.features["embedding"] == datasets.List(datasets.Value("float32"), length=12)
    rows = written.cast_column("audio", datasets.Audio(decode=False))
    assert [row["audio"] for row in rows] == audio and rows["embedding"][1] is None and rows["embedding"][3] is None
    for row in (0, 2):
        np.testing.assert_allclose(rows["embedding"][row], verifier.embed(files[row]), atol=1e-5)


def test_no_corpus(folder, own_cache, tmp_path, capsys):
    arguments = ["--model", folder, "--out", tmp_path / "out.parquet"]
    assert "There is no folder at" in refusal("map_corpus", capsys, tmp_path / "nowhere", *arguments)
    (tmp_path / "empty").mkdir()
    assert "no Parquet files and no wav" in refusal("map_corpus", capsys, tmp_path / "empty", *arguments)
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "empty/0.parquet")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        program("map_corpus").main([str(word) for word in (tmp_path / "empty", *arguments)])
    assert ended.value.code == 2 and "has the columns text: 'audio' is needed." in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


# ---- nearest_speakers.py -------------------------------------------------------------------------------------------


@pytest.fixture
def speakers(voices, tmp_path):
    """Five speakers with their first session."""
    for speaker in sorted(voices.iterdir())[:5]:
        shutil.copytree(speaker / "session0", tmp_path / "speakers" / speaker.name / "session0")
    return tmp_path / "speakers"


def test_a_speaker_is_the_mean_of_unit_embeddings(speakers, verifier, tmp_path):
    nearest_speakers = program("nearest_speakers")
    index = nearest_speakers.enrol(speakers, verifier)
    assert index.speakers == [f"voice{number:03d}" for number in range(5)]
    mean = verifier.embed_many([str(file) for file in sorted(speakers.rglob("voice003/session0/*"))]).mean(axis=0)
    np.testing.assert_allclose(index.centroids[3], mean / np.linalg.norm(mean), atol=1e-5)
    nearest_speakers.save(index, tmp_path / "speakers.npz")
    again = nearest_speakers.load(tmp_path / "speakers.npz")
    assert again.speakers == index.speakers and again.fingerprint == index.fingerprint
    np.testing.assert_array_equal(again.centroids, index.centroids)


def test_the_nearest_speakers_come_best_first(speakers, folder, verifier, tmp_path, capsys):
    for speaker in speakers.iterdir():  # leave one recording of each: it is the centroid
        (speaker / "session0" / "01.flac").unlink()
    arguments = ["--model", str(folder), "--index", str(tmp_path / "an index" / "speakers.npz")]
    program("nearest_speakers").main(["enrol", str(speakers), *arguments])
    assert capsys.readouterr().out.startswith("5 speakers: ")
    wanted = speakers / "voice002" / "session0" / "00.flac"
    program("nearest_speakers").main(["find", str(wanted), "--count", "3", *arguments])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = {
        place.name: float(verifier.embed(next(place.rglob("*.flac"))) @ verifier.embed(wanted))
        for place in speakers.iterdir()
    }
    best = sorted(scores, key=scores.get, reverse=True)[:3]
    assert best[0] == "voice002" and [name for _, name in lines] == best
    assert [float(score) for score, _ in lines] == pytest.approx([scores[name] for name in best], abs=2e-4)


def test_an_index_of_other_weights_or_with_pickles_is_refused(
    speakers, folder, verifier, recordings, feature_extractor, tmp_path, capsys
):
    nearest_speakers = program("nearest_speakers")
    index = nearest_speakers.enrol(speakers, verifier)
    other = SpeakerVerifier(TorchEmbedder(randomise(tiny_verifier(), seed=1), feature_extractor))
    with pytest.raises(ValueError, match="made with another model: enrol again"):
        nearest_speakers.nearest(index, recordings[0], other)
    arguments = ["find", recordings[0], "--model", folder, "--index", tmp_path / "other.npz"]
    assert "There is no index at" in refusal("nearest_speakers", capsys, *arguments)
    for fields in ({"speakers": np.array(["a"], object)}, {"centroids": np.ones(3)}):
        np.savez(tmp_path / "other.npz", **(index._asdict() | fields if "speakers" in fields else fields))
        assert "is no index of speakers" in refusal("nearest_speakers", capsys, *arguments)
    (tmp_path / "other.npz").write_bytes(b"PK\x03\x04 and no more")
    assert "is no index of speakers" in refusal("nearest_speakers", capsys, *arguments)


def test_nobody_to_enrol(folder, tmp_path, capsys):
    arguments = ["--model", folder, "--index", tmp_path / "speakers.npz"]
    assert "There is no folder at" in refusal("nearest_speakers", capsys, "enrol", tmp_path / "nowhere", *arguments)
    (tmp_path / "empty").mkdir()
    assert "has no folders in it" in refusal("nearest_speakers", capsys, "enrol", tmp_path / "empty", *arguments)
    (tmp_path / "empty" / "nobody").mkdir()
    sentence = refusal("nearest_speakers", capsys, "enrol", tmp_path / "empty", *arguments)
    assert "nobody' has no wav, flac or ogg files" in sentence and not (tmp_path / "speakers.npz").exists()


# ---- who_spoke_when.py ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["--threshold", "0.5"], ["--speakers", "3"]])
def test_who_spoke_when(how, meeting, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SpeakerVerifier, "embed_many", lambda _, windows: loudness_of_hums(windows))
    out = tmp_path / "meeting.rttm"
    program("who_spoke_when").main([str(meeting), "--model", str(folder), "--out", str(out), *how])
    lines = [line.split(" ") for line in out.read_text().splitlines()]
    assert all(line[:3] == ["SPEAKER", "the_board", "1"] and len(line) == 10 for line in lines)
    assert all({line[5], line[6], line[8], line[9]} == {"<NA>"} for line in lines)
    assert [line[7] for line in lines] == [f"speaker{who + 1}" for *_, who in MEETING]
    for line, (start, end, _) in zip(lines, MEETING, strict=True):
        onset, duration = float(line[3]), float(line[4])
        assert onset == pytest.approx(start, abs=0.5) and onset + duration == pytest.approx(end, abs=0.5)
    table = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    for name, turns, seconds, _ in table:
        lengths = [float(line[4]) for line in lines if line[7] == name]
        assert int(turns) == len(lengths) and float(seconds) == pytest.approx(sum(lengths), abs=0.06)


@pytest.fixture
def by_level(monkeypatch):
    """Speech is found by its level, whose edges are exact where the voices are made."""
    monkeypatch.setattr(speech, "speech_network", lambda: None)


def test_pauses_end_turns_to_the_frame(meeting, by_level):
    who_spoke_when = program("who_spoke_when")
    samples, _ = soundfile.read(meeting, dtype="float32")
    turns = who_spoke_when.who_spoke_when(samples, loudness_of_hums, speakers=3)
    assert [turns[0].start, turns[0].end] == pytest.approx([0.5, 4.5], abs=0.04)
    assert [turns[1].start, turns[4].start] == pytest.approx([5.3, 19.2], abs=0.04)
    assert turns[-1].end == pytest.approx(27.2, abs=0.04)


def test_a_recording_of_one_window_ends_where_it_ends(meeting, by_level):
    samples, _ = soundfile.read(meeting, dtype="float32")
    for how in ({"speakers": 1}, {"threshold": 0.5}):
        (turn,) = program("who_spoke_when").who_spoke_when(samples[8000 : 8000 + 16100], loudness_of_hums, **how)
        assert turn.start == pytest.approx(0, abs=0.03) and turn.end == pytest.approx(16100 / 16000, abs=1e-6)


@pytest.mark.parametrize("frames", [11, 75, 76, 200, 1000])
def test_windows_cover_a_stretch_and_no_more(frames):
    windows = program("who_spoke_when").windows_of(40, 40 + frames)
    covered = np.zeros(40 + frames + 10, bool)
    for first, last in windows:
        assert last - first == min(frames, 75)
        covered[first:last] = True
    assert covered.nonzero()[0].tolist() == list(range(40, 40 + frames)) and len(set(windows)) == len(windows)


def test_short_pauses_are_bridged_and_clicks_are_dropped():
    speech = np.zeros(300, bool)
    speech[20:60] = speech[80:120] = speech[150:156] = speech[200:300] = True
    assert program("who_spoke_when").speech_segments(speech) == [(20, 120), (200, 300)]


def test_a_meeting_as_a_user_runs_it(meeting, folder, tmp_path):
    arguments = [meeting, "--model", folder, "--out", tmp_path / "meeting.rttm", "--threshold", "-1"]
    table = as_a_user(tmp_path, PROGRAMS / "who_spoke_when.py", *arguments).splitlines()
    turns = [line.split() for line in (tmp_path / "meeting.rttm").read_text().splitlines()]
    assert {turn[7] for turn in turns} == {"speaker1"} and len(turns) == 3  # one voice: its pauses alone end a turn
    seconds = sum(float(turn[4]) for turn in turns)
    # Three turns, whose two edges the network finds within 0.15 s.
    assert seconds == pytest.approx(sum(end - start for start, end, _ in MEETING) + 0.2, abs=0.9)
    assert table[1].split() == ["speaker1", "3", f"{seconds:.1f}", "100%"] and len(table) == 2


def test_no_meeting(folder, silence, meeting, tmp_path, capsys):
    arguments = ["--model", folder, "--out", tmp_path / "out.rttm", "--speakers"]
    assert "has no speech: give another" in refusal("who_spoke_when", capsys, silence, *arguments, 2)
    assert "There is no recording at" in refusal("who_spoke_when", capsys, "nowhere.flac", *arguments, 2)
    assert "1000 speakers were asked for" in refusal("who_spoke_when", capsys, meeting, *arguments, 1000)
    assert "There is no folder at" in refusal(
        "who_spoke_when", capsys, meeting, *arguments, 2, "--model", tmp_path / "no"
    )
    assert not (tmp_path / "out.rttm").exists()


# ---- speaker_pipeline.py -------------------------------------------------------------------------------------------


def test_the_pipeline_on_the_command_line(folder, verifier, recordings, silence, capsys):
    program("speaker_pipeline").main([*recordings[:2], "--model", str(folder)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == recordings[:2]
    values = [[float(value) for value in line[1:]] for line in lines]
    np.testing.assert_allclose(values, verifier.embed_many(recordings[:2]), atol=1e-4)
    said = refusal("speaker_pipeline", capsys, recordings[0], silence, "--model", folder)
    assert "silence.flac' is silent: give a recording with speech in it." in said
    assert "There is no recording at" in refusal("speaker_pipeline", capsys, "nowhere.flac", "--model", folder)


@pytest.mark.parametrize("name", sorted(file.stem for file in PROGRAMS.glob("*.py")))
def test_help_shows_the_command(name, capsys):
    with pytest.raises(SystemExit) as ended:
        program(name).main(["--help"])
    assert ended.value.code == 0 and f"python examples/downstream/{name}.py" in capsys.readouterr().out
