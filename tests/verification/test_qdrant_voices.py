"""Qdrant's client with a folder; a server answers the same calls."""

import base64
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from modeling_oskdft.commands.main import main
from modeling_oskdft.verification.enrolment import nearest
from modeling_oskdft.verification.verifier import SpeakerVerifier
from modeling_oskdft.verification.voice import Fact, Voice
from modeling_oskdft.verification.voices import VoiceStore
from tests.scoring.test_calibration import calibration

pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: pip install 'modeling-oskdft[qdrant]'")
from modeling_oskdft.verification.qdrant_voices import QdrantVoices


def voice(name, seed=0, recordings=2, fingerprint="0" * 64, size=16):
    rows = np.random.default_rng(seed).standard_normal((recordings, size)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Voice(
        name, rows, tuple(Fact(fingerprint, size, "2026-11-27", 1.0 + row, "signed") for row in range(recordings))
    )


@pytest.fixture
def kept(tmp_path):
    voices = QdrantVoices(str(tmp_path / "voices"))
    yield voices
    voices.client.close()


def test_what_is_kept_comes_back_and_goes(kept):
    assert len(kept) == 0 and "Ana" not in kept and kept.voices() == {}
    ana = voice("Ana")
    kept.add(ana)
    kept.add(voice("Björn", 1))
    back = kept.get("Ana")
    np.testing.assert_array_equal(back.embeddings, ana.embeddings)
    assert back.facts == ana.facts and len(kept) == 2 and "Bjo\u0308rn" in kept, "letters of either form of Unicode"
    with pytest.raises(ValueError, match="'Ana' is enrolled already"):
        kept.add(voice("Ana", 2))
    assert len(kept.extend(voice("Ana", 3, recordings=1)).facts) == 3 == len(kept.get("Ana").facts)
    kept.rename("Ana", "Anna")
    assert set(kept.voices()) == {"Anna", "Björn"}
    with pytest.raises(ValueError, match="'Björn' is enrolled already"):
        kept.rename("Anna", "Björn")
    kept.forget("Björn")
    for absent in (lambda: kept.get("Björn"), lambda: kept.forget("Björn"), lambda: kept.extend(voice("Björn"))):
        with pytest.raises(ValueError, match="'Björn' is not enrolled"):
            absent()
    with pytest.raises(ValueError, match="plain name"):
        kept.add(voice("../a"))
    with pytest.raises(ValueError, match="embedded by another model"):
        kept.add(voice("Cleo", fingerprint="1" * 64))
    assert len(kept) == 1


def test_a_forgotten_voice_leaves_no_byte(kept, tmp_path):
    for number in range(30):
        kept.add(voice(f"speaker-{number:02}", number))
    gone = voice("speaker-17", 17)
    kept.forget("speaker-17")
    traces = [b"speaker-17", base64.b64encode(gone.embeddings.tobytes())[:40]]
    content = b"".join(file.read_bytes() for file in (tmp_path / "voices").rglob("*") if file.is_file())
    assert b"speaker-16" in content and not any(trace in content for trace in traces)
    with closing(sqlite3.connect(tmp_path / "voices/collection/oskdft-voices/storage.sqlite")) as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_a_change_that_another_process_overtakes_is_made_again(kept, monkeypatch):
    kept.add(voice("Ana"))
    find, overtaken = kept._find, []

    def find_and_be_overtaken(name):
        record = find(name)
        if not overtaken:
            overtaken.append(True)
            kept.extend(voice("Ana", 5, recordings=1))
        return record

    monkeypatch.setattr(kept, "_find", find_and_be_overtaken)
    assert len(kept.extend(voice("Ana", 6, recordings=1)).facts) == 4, "nobody's recording is lost"


def test_the_answer_is_that_of_a_file(kept):
    """Candidates are scored exactly, and the prior is that of all voices."""
    store = VoiceStore()
    for number in range(500):
        one = voice(f"speaker-{number:03}", number)
        store.add(one)
        kept.add(one)
    for seed in range(20):
        probe = voice("probe", 1000 + seed, recordings=1).vector
        for calibrated in (None, calibration()):
            expected, margin = nearest(store.near(probe), probe, 3.0, None, calibrated, 10)
            found, margin_found = nearest(kept.near(probe), probe, 3.0, None, calibrated, 10)
            assert [match.name for match in found] == [match.name for match in expected]
            np.testing.assert_allclose(
                [match.score for match in found], [match.score for match in expected], atol=1e-6
            )
            assert [match.probability for match in found] == pytest.approx([match.probability for match in expected])
            assert margin_found == pytest.approx(margin)


def test_voices_of_a_verifier_and_of_the_commands(saved_verifier, voices, tmp_path, capsys):
    recordings = [str(file) for file in sorted(sorted(voices.iterdir())[0].rglob("*.flac"))[:3]]
    place = f"qdrant:{tmp_path / 'q'}"
    options = ["--model", str(saved_verifier), "--voices", place]
    assert main(["enroll", "Ana", *recordings[:2], *options]) == 0
    assert main(["identify", recordings[2], *options, "--json"]) == 0
    assert '"name": "Ana"' in capsys.readouterr().out.splitlines()[-1]
    assert main(["voices", "rename", place, "Ana", "Anna"]) == 0 and main(["voices", "list", place]) == 0
    assert "Anna\t2 recordings" in capsys.readouterr().out
    kept = QdrantVoices(str(tmp_path / "q"))
    verifier = SpeakerVerifier.from_pretrained(saved_verifier, voices=kept)
    assert verifier.verify("Anna", recordings[2]).score > 0.5 and [one.name for one in verifier.list()] == ["Anna"]
    with pytest.raises(ValueError, match="cannot be opened"):
        QdrantVoices(str(tmp_path / "q"))  # two processes want a server
    kept.client.close()


def test_other_embeddings_take_the_place_of_all_or_of_none(kept):
    kept.add(voice("Ana"))
    before = kept.voices()
    with pytest.raises(ValueError, match="another length"):
        kept.replace_all([voice("Ana", fingerprint="1" * 64, size=8)], before)
    kept.replace_all([voice("Ana", 9, fingerprint="1" * 64)], before)
    assert kept.get("Ana").facts[0].fingerprint == "1" * 64
    with pytest.raises(ValueError, match="changed the voices meanwhile"):
        kept.replace_all([], before)
    kept.check("1" * 64)
    with pytest.raises(ValueError, match="another model"):
        kept.check("0" * 64)


def test_threads_of_one_service_share_it(kept):
    def come_and_go(thread):
        for step in range(10):
            name = f"{thread}-{step}"
            kept.add(voice(name, thread))
            assert name in kept
            kept.near(voice("probe").vector, 3)
            if step % 2:
                kept.forget(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(8)))
    assert set(kept.voices()) == {f"{thread}-{step}" for thread in range(8) for step in range(0, 10, 2)}
