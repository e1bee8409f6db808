import soundfile
from pytest import fixture

from modeling_oskdft.audio.synthetic_voices import write_voices
from modeling_oskdft.data.sources import load_manifest


@fixture(scope="session")
def people_of_now(tmp_path_factory):
    """24 made-up speakers with two recordings each."""
    return write_voices(tmp_path_factory.mktemp("now"), speakers=24, sessions=2, utterances=1, seed=11)


@fixture(scope="session")
def people_of_before(tmp_path_factory, voices):
    """10 other speakers whose second recording is a quieter copy of the first: any verifier tells them apart."""
    place = tmp_path_factory.mktemp("before")
    for speaker in sorted(voices.iterdir()):
        recording = sorted(speaker.rglob("*.flac"))[0]
        samples, rate = soundfile.read(recording)
        for number, gain in enumerate((1.0, 0.8)):
            path = place / f"before_{speaker.name}" / f"session{number}" / "a.flac"
            path.parent.mkdir(parents=True)
            soundfile.write(path, gain * samples, rate)
    return place


@fixture
def now(people_of_now):
    return load_manifest(people_of_now)
