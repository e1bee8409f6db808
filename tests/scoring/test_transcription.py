import pytest

from modeling_oskdft.scoring.transcription import count_edits, edit_distance, text_rates, text_report


@pytest.mark.parametrize(
    ("reference", "hypothesis", "edits"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("same", "same", 0), ("ab", "ba", 2), ("abc", "axbc", 1)],
)
def test_edits_by_hand(reference, hypothesis, edits):
    assert edit_distance(reference, hypothesis) == edit_distance(hypothesis, reference) == edits


def test_rates_by_hand():
    first, second = count_edits("one two", "one too"), count_edits("six", "")
    assert first == {"cer": (1, 7), "wer": (1, 2)} and second == {"cer": (3, 3), "wer": (1, 1)}
    assert text_rates([first, second]) == {"cer": 4 / 10, "wer": 2 / 3}
    assert text_rates([count_edits("a", "a b c")])["wer"] == 2


def test_a_report_has_intervals_over_speakers():
    report = text_report(["a b", "a b", "a b"], ["a b", "a c", "c d"], ["x", "x", "y"])
    assert report["wer"] == 0.5 and report["words"] == 6 and report["speakers"] == 2 and report["recordings"] == 3
    assert report["wer_interval"] == [0.25, 1.0]


def test_texts_without_a_letter_have_no_rate():
    with pytest.raises(ValueError, match="The texts have no letter"):
        text_rates([count_edits("", "a")])
