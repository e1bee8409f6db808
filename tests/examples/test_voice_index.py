import json

import numpy as np
import pytest

from examples import voice_index


def test_recordings_are_near_their_voices():
    known, heard = voice_index.population(500)
    assert known.shape == (500, 192) and heard.shape == (200, 192)
    np.testing.assert_allclose(np.linalg.norm(heard, axis=1), 1, atol=1e-5)
    assert np.median((heard @ known.T).max(1)) == pytest.approx(voice_index.COSINE, abs=0.08)


def test_recall_by_hand():
    assert voice_index.recall_at([[1, 2], [3, 4]], [[2, 1], [3, 5]]) == 0.75


def test_an_exact_engine_finds_them_all(tmp_path, monkeypatch):
    def brute(known, folder, *settings):
        return lambda query: np.argsort(-(known @ query))[: voice_index.CANDIDATES]

    monkeypatch.setattr(voice_index, "_index_of", brute)
    monkeypatch.setattr(voice_index, "version", lambda name: "0")
    assert voice_index.main(["--sizes", "400", "1000", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "voice_index.json").read_text())
    assert [row["recall@10"] for row in results["rows"]] == [1.0] * 4
    assert "| 1,000 | ours | 1.0000 |" in (tmp_path / "voice_index.md").read_text()


def test_a_missing_engine_is_named(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    assert voice_index.main(["--sizes", "400", "--out", str(tmp_path)]) == 2
    assert "pip install qdrant-edge-py" in capsys.readouterr().err and not list(tmp_path.iterdir())
