import pytest

from modeling_oskdft.data.splits import (
    refuse_common_speakers,
    split_by_speaker,
    warn_about_single_utterances,
    write_split,
)


def test_a_split_has_no_speaker_in_common(manifest):
    rest, chosen = split_by_speaker(manifest, 0.3, seed=1)
    assert len(chosen.speakers) == 3 and not set(rest.speakers) & set(chosen.speakers)
    assert len(rest) + len(chosen) == len(manifest)
    assert split_by_speaker(manifest, 0.3, seed=1)[1].speakers == chosen.speakers
    assert split_by_speaker(manifest, 0.3, seed=2)[1].speakers != chosen.speakers
    refuse_common_speakers(rest, chosen)
    with pytest.raises(ValueError, match="3 speakers are in both .*voice"):
        refuse_common_speakers(manifest, chosen)
    for fraction in (0.0, 0.1, 0.95):
        with pytest.raises(ValueError, match="both sides of a split need at least 2"):
            split_by_speaker(manifest, fraction, seed=1)


def test_a_speaker_with_one_utterance_is_named(manifest):
    few = manifest.where("utterance_id", ["voice000/session0/00", "voice001/session0/00", "voice001/session0/01"])
    with pytest.warns(UserWarning, match="1 speakers have one utterance only \\('voice000' first\\)"):
        warn_about_single_utterances(few)


def test_no_number_of_speakers_is_infinite(manifest, tmp_path):
    for test in (float("inf"), float("nan"), 0.0, -1.0):
        with pytest.raises(ValueError, match="a number of speakers is needed"):
            write_split(manifest, test, 0, tmp_path)
