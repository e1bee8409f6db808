import numpy as np
import pytest

from modeling_oskdft.audio.loading import utterance_id
from modeling_oskdft.scoring.cosine import (
    Trials,
    adaptive_s_norm,
    combined_scores,
    make_trials,
    read_scores,
    read_trials,
    score_trials,
    unit_length,
    write_trials,
)


def embeddings(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_list_in_the_format_of_voxceleb(tmp_path):
    (tmp_path / "t.txt").write_text("1 id1/a/1.wav id1/b/2.wav\n\n0 id1/a/1.wav id2/c/3.m4a\n")
    trials = read_trials(tmp_path / "t.txt")
    assert trials.labels.tolist() == [1, 0]
    assert trials.utterances() == ["id1/a/1", "id1/b/2", "id2/c/3"]
    write_trials(trials, tmp_path / "again.txt")
    again = read_trials(tmp_path / "again.txt")
    assert again.enrolments == trials.enrolments and again.labels.tolist() == [1, 0]


def test_the_published_lists_have_their_counts(shared):
    for name, count in (("veri_test.txt", 37720), ("veri_test2.txt", 37611)):
        trials = read_trials(shared / "data" / "voxceleb_trials" / name)
        assert len(trials.labels) == count
        assert len({one.split("/")[0] for one in trials.utterances()}) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [("1 a\n", "Line 1 of .*is '1 a'"), ("0 a b\n2 a b\n", "Line 2"), ("yes a b\n", "label 0 or 1"), ("", "is empty")],
)
def test_a_bad_list_names_its_line(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trials(tmp_path / "t.txt")
    with pytest.raises(FileNotFoundError, match="no trial list at"):
        read_trials(tmp_path / "nowhere.txt")


def test_ids_have_no_extension_and_forward_slashes():
    assert utterance_id("a/b/c.d.wav") == "a/b/c.d" and utterance_id("a/b/c.1") == "a/b/c.1"
    assert utterance_id("a\\b\\c.flac") == "a/b/c"


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


def test_made_trials_are_all_same_pairs_and_as_many_others():
    utterances = {f"s{n}": [f"s{n}/{m}" for m in range(4)] for n in range(5)}
    trials = make_trials(utterances, seed=1)
    assert trials.labels.sum() == 5 * 6 and len(trials.labels) == 60
    pairs = [frozenset(pair) for pair in zip(trials.enrolments, trials.tests, strict=True)]
    assert len(set(pairs)) == 60
    for label, first, second in zip(trials.labels, trials.enrolments, trials.tests, strict=True):
        assert label == (first.split("/")[0] == second.split("/")[0])
    assert make_trials(utterances, seed=1).tests == trials.tests
    assert make_trials(utterances, seed=2).tests != trials.tests
    assert make_trials(utterances, most=7).labels.tolist() == [1] * 7 + [0] * 7


def test_a_sample_of_the_same_pairs_is_distinct_and_of_one_speaker():
    utterances = {f"s{n}": [f"s{n}/{m}" for m in range(30)] for n in range(20)}
    trials = make_trials(utterances, most=500)
    pairs = list(zip(trials.enrolments, trials.tests, strict=True))
    assert len(set(pairs)) == 1000 and all(a != b for a, b in pairs)
    assert all(
        (a.split("/")[0] == b.split("/")[0]) == bool(label) for label, (a, b) in zip(trials.labels, pairs, strict=True)
    )


def test_trials_across_sessions_and_among_utterances():
    trials = make_trials({"x": ["x/1/a", "x/1/b", "x/2/a"], "y": ["y/1/a"]})
    across = trials.across_sessions()
    assert across.labels.sum() == 2 and len(across.labels) == len(trials.labels) - 1
    assert set(trials.among({"x/1/a", "x/2/a"}).utterances()) == {"x/1/a", "x/2/a"}


@pytest.mark.parametrize("utterances", [{}, {"a": ["1", "2"]}, {"a": ["1"], "b": ["2"]}])
def test_trials_need_pairs(utterances):
    with pytest.raises(ValueError, match="No trials can be made"):
        make_trials(utterances)


def test_s_norm_by_hand():
    scores, cohort = np.array([1.0]), np.array([[0.0, 0.5, 0.7]])
    mean, deviation = 0.6, np.std([0.5, 0.7], ddof=1)
    np.testing.assert_allclose(adaptive_s_norm(scores, cohort, cohort, top_n=2), [(1 - mean) / deviation])
    with pytest.raises(ValueError, match="top_n is 4 of a cohort of 3"):
        adaptive_s_norm(scores, cohort, cohort, top_n=4)


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


def test_scores_of_a_text():
    assert read_scores("0.9 1\n\n-2,0\r\n 1e-3  1 \n") == ([0.9, -2.0, 0.001], [1, 0, 1])
    for text, named in (("0.9 1\nx 0", "Line 2 is 'x 0'"), ("0.9", "Line 1 is '0.9'"), ("1 2", "Line 1 is '1 2'")):
        with pytest.raises(ValueError, match=f"{named}: give a score and then 1 or 0"):
            read_scores(text)


def test_an_apostrophe_is_a_letter(tmp_path):
    (tmp_path / "list.txt").write_text("1 o'brien/a.wav o'brien/b.wav\n0 'a'/x b/y\n1 'c d'/x e\n")
    trials = read_trials(tmp_path / "list.txt")
    assert trials.enrolments == ["o'brien/a", "'a'/x", "c d/x"] and trials.tests == ["o'brien/b", "b/y", "e"]
