import shutil

import pytest

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.verification.migration import migrate_voices
from modeling_oskdft.verification.voices import VoiceStore
from tests.tiny import randomise, save_verifier, tiny_verifier


@pytest.fixture
def recordings(voices, tmp_path):
    files = sorted(voices.rglob("*.flac"))
    (tmp_path / "audio/Ada").mkdir(parents=True)
    shutil.copy(files[0], tmp_path / "audio/Ada/1.flac")
    shutil.copy(files[1], tmp_path / "audio/Ada/2.flac")
    shutil.copy(files[2], tmp_path / "audio/Bob.flac")
    return tmp_path / "audio"


def test_all_voices_are_embedded_anew_or_none(recordings, tmp_path, feature_extractor):
    store = VoiceStore(tmp_path / "voices")
    save_verifier(tmp_path / "old", feature_extractor)
    old = SpeakerVerifier.from_pretrained(tmp_path / "old", voices=store)
    old.enroll("Ada", str(recordings / "Ada/1.flac"), consent="form 1")
    old.enroll("Bob", str(recordings / "Bob.flac"))
    randomise(tiny_verifier(), seed=5).save_pretrained(new := tmp_path / "new")
    feature_extractor.save_pretrained(new)
    before = (tmp_path / "voices").read_bytes()
    (recordings / "Bob.flac").rename(recordings / "Bobby.flac")
    with pytest.raises(FileNotFoundError, match="has no recordings of 'Bob': put them into a folder of that name"):
        migrate_voices(store, str(new), recordings)
    assert (tmp_path / "voices").read_bytes() == before
    (recordings / "Bobby.flac").rename(recordings / "Bob.flac")
    with pytest.raises(ValueError, match="Another process has changed .* meanwhile: run the same command again"):
        store.replace_all([], {"Ada": store.get("Ada")})
    old.update("Ada", str(recordings / "Ada/2.flac"), consent="form 2")
    assert migrate_voices(store, str(new), recordings) == 2
    verifier = SpeakerVerifier.from_pretrained(new, voices=tmp_path / "voices")
    assert verifier.verify("Bob", str(recordings / "Bob.flac")).score == pytest.approx(1, abs=1e-5)
    assert len(store.get("Ada").facts) == 2 and store.get("Ada").facts[1].consent == "form 1; form 2"
    with pytest.raises(FileNotFoundError, match="There is no folder at"):
        migrate_voices(store, str(new), tmp_path / "nowhere")
