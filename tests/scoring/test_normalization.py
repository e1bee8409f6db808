import numpy as np
import pytest

from modeling_oskdft.data.trials import Trials
from modeling_oskdft.scoring import normalization
from modeling_oskdft.scoring.normalization import Cohort, adaptive_s_norm


def test_s_norm_by_hand():
    scores, cohort = np.array([1.0]), np.array([[0.0, 0.5, 0.7]])
    mean, deviation = 0.6, np.std([0.5, 0.7], ddof=1)
    np.testing.assert_allclose(adaptive_s_norm(scores, cohort, cohort, top_n=2), [(1 - mean) / deviation])
    with pytest.raises(ValueError, match="top_n is 4 of a cohort of 3"):
        adaptive_s_norm(scores, cohort, cohort, top_n=4)


def unit(rows, size=8, seed=0):
    values = np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture
def cohort():
    return Cohort(unit(50), "a" * 64, 10)


def test_trials_are_normalised_as_by_their_cohort_scores(cohort, monkeypatch):
    embeddings = {f"u{number}": 3 * row for number, row in enumerate(unit(20, seed=1))}
    pairs = np.random.default_rng(2).integers(20, size=(100, 2))
    trials = Trials(np.zeros(100, int), [f"u{first}" for first, _ in pairs], [f"u{second}" for _, second in pairs])
    rows = unit(20, seed=1)
    scores = np.einsum("ij,ij->i", rows[pairs[:, 0]], rows[pairs[:, 1]])
    against = rows @ cohort.embeddings.T
    expected = adaptive_s_norm(scores, against[pairs[:, 0]], against[pairs[:, 1]], top_n=10)
    np.testing.assert_allclose(cohort.normalise(scores, trials, embeddings), expected, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(normalization, "BLOCK", 150)  # three embeddings at a time
    np.testing.assert_allclose(cohort.normalise(scores, trials, embeddings), expected, rtol=1e-4, atol=1e-4)
    gain, shift = cohort.line(rows[pairs[0, 0]], rows[pairs[0, 1]])
    assert gain * scores[0] - shift == pytest.approx(expected[0], rel=1e-4)


def test_a_cohort_of_speakers_has_one_mean_for_each(tmp_path):
    rows = unit(6)
    embeddings = {f"s{number // 2}/{number}": 5 * row for number, row in enumerate(rows)}
    cohort = Cohort.of_speakers(embeddings, {name: name.split("/")[0] for name in embeddings}, "a" * 64)
    mean = rows[:2].sum(0) / np.linalg.norm(rows[:2].sum(0))
    np.testing.assert_allclose(cohort.embeddings[0], mean, atol=1e-6)
    assert len(cohort.embeddings) == 3 and cohort.top_n == 3
    cohort.save(tmp_path)
    loaded = Cohort.load(tmp_path / "cohort.safetensors")
    np.testing.assert_array_equal(loaded.embeddings, cohort.embeddings)
    assert (loaded.digest, loaded.fingerprint, loaded.top_n) == (cohort.digest, "a" * 64, 3)


def test_a_cohort_without_spread_is_a_sentence_and_no_nan(cohort):
    same = Cohort(np.repeat(unit(1), 20, axis=0), "a" * 64, 5)
    for use in (
        lambda: same.line(*unit(2, seed=3)),
        lambda: adaptive_s_norm(np.ones(2), np.ones((2, 5)), np.ones((2, 5)), top_n=3),
    ):
        with pytest.raises(ValueError, match="have equal scores, so there is no deviation to divide by"):
            use()
    with pytest.raises(ValueError, match="top_n is 60 of a cohort of 50: use 2 up to that many"):
        Cohort(unit(50), "a" * 64, 60)
    with pytest.raises(ValueError, match="Embeddings of size 3 were given with a cohort of 8"):
        cohort.statistics(unit(4, 3))


def test_a_damaged_cohort(tmp_path, cohort):
    cohort.save(tmp_path)
    file = tmp_path / "cohort.safetensors"
    content = file.read_bytes()
    for damaged in (b"", content[:40], content.replace(b"top_n", b"top_x")):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="does not hold a cohort"):
            Cohort.load(file)
    Cohort(2 * cohort.embeddings, "a" * 64, 5).save(tmp_path)
    with pytest.raises(ValueError, match="its embeddings have no unit length"):
        Cohort.load(file)
