import numpy as np
import pytest

from modeling_oskdft.data.trials import Trials, make_trials
from modeling_oskdft.scoring.cosine import combined_scores, score_trials, unit_length


def embeddings(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pair_score(first, second):
    """The score of one trial."""
    return float(score_trials(Trials(np.array([1]), ["a"], ["b"]), {"a": first, "b": second})[0])


def test_cosine_by_hand_and_symmetric():
    assert pair_score(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(24 / 25)
    assert pair_score(np.array([1.0, 0.0]), np.array([0.0, 2.0])) == 0.0
    assert pair_score(np.array([4.0, 3.0]) * 7, np.array([3.0, 4.0])) == pytest.approx(24 / 25)


def test_trials_are_scored_by_name():
    vectors = dict(zip("abc", embeddings(3, 4), strict=True))
    trials = make_trials({"x": ["a", "b"], "y": ["c"]})
    scores = score_trials(trials, vectors)
    for score, first, second in zip(scores, trials.enrolments, trials.tests, strict=True):
        assert score == pytest.approx(pair_score(vectors[first], vectors[second]))
    with pytest.raises(ValueError, match="embedding of 'c' is zero or not finite"):
        score_trials(trials, vectors | {"c": vectors["c"] * 0})
    del vectors["c"]
    with pytest.raises(ValueError, match="1 utterances that the data do not have, 'c' first"):
        score_trials(trials, vectors)


@pytest.mark.parametrize("vector", [np.zeros(4), np.full(4, np.nan)])
def test_an_embedding_without_a_direction_is_refused(vector):
    with pytest.raises(ValueError, match="has no direction"):
        unit_length(np.stack([vector, np.ones(4)]))


def test_scores_equal_the_naive_loop_for_whole_utterances_and_segments():
    generator = np.random.default_rng(0)
    whole = {f"u{i}": generator.normal(size=16).astype(np.float32) for i in range(50)}
    parts = {name: generator.normal(size=(5, 16)).astype(np.float32) for name in whole}
    pairs = generator.integers(50, size=(5000, 2))
    trials = Trials(np.zeros(5000), [f"u{a}" for a, _ in pairs], [f"u{b}" for _, b in pairs])

    def cosine(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    full, segments = score_trials(trials, whole), score_trials(trials, parts)
    for row in range(0, 5000, 7):
        a, b = trials.enrolments[row], trials.tests[row]
        assert full[row] == pytest.approx(cosine(whole[a], whole[b]), abs=1e-6)
        pairs_of_parts = [cosine(x, y) for x in parts[a] for y in parts[b]]
        assert len(pairs_of_parts) == 25 and segments[row] == pytest.approx(np.mean(pairs_of_parts), abs=1e-6)
    np.testing.assert_allclose(combined_scores(full, segments), (full + segments) / 2)


def test_a_segment_without_a_direction_is_named():
    trials = Trials(np.array([1]), ["a"], ["b"])
    with pytest.raises(ValueError, match="embedding of 'b' is zero or not finite"):
        score_trials(trials, {"a": np.ones((2, 3)), "b": np.array([[1.0, 0, 0], [0, 0, 0]])})
