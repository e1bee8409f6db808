import pytest

from modeling_oskdft.audio.loading import utterance_id
from modeling_oskdft.data.trials import make_trials, read_scores, read_trials, write_trials


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
        assert len({name.split("/")[0] for name in trials.utterances()}) == 40


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


def test_scores_of_a_text():
    assert read_scores("0.9 1\n\n-2,0\r\n 1e-3  1 \n") == ([0.9, -2.0, 0.001], [1, 0, 1])
    for text, named in (("0.9 1\nx 0", "Line 2 is 'x 0'"), ("0.9", "Line 1 is '0.9'"), ("1 2", "Line 1 is '1 2'")):
        with pytest.raises(ValueError, match=f"{named}: give a score and then 1 or 0"):
            read_scores(text)


def test_an_apostrophe_is_a_letter(tmp_path):
    (tmp_path / "list.txt").write_text("1 o'brien/a.wav o'brien/b.wav\n0 'a'/x b/y\n1 'c d'/x e\n")
    trials = read_trials(tmp_path / "list.txt")
    assert trials.enrolments == ["o'brien/a", "'a'/x", "c d/x"] and trials.tests == ["o'brien/b", "b/y", "e"]


def test_names_with_spaces_come_back_from_a_trial_list(tmp_path):
    trials = make_trials({"my voice": ["my voice/a 1", "my voice/b"], "it's": ["it's/c", 'it\'s/"d"']})
    write_trials(trials, tmp_path / "t.txt")
    again = read_trials(tmp_path / "t.txt")
    assert again.enrolments == trials.enrolments and again.tests == trials.tests
    (tmp_path / "t.txt").write_text('1 "my voice/a 1" plain\n', encoding="utf-8-sig")
    assert read_trials(tmp_path / "t.txt").enrolments == ["my voice/a 1"]
    with pytest.raises(ValueError, match="has a tab or a line break in its name"):
        write_trials(trials._replace(tests=["a\tb"] * len(trials.tests)), tmp_path / "t.txt")
