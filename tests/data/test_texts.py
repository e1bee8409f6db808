import copy

import pyarrow as pa
import pytest
import torch

from modeling_oskdft.data.crops import UNLABELLED
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.texts import TextCollator, TextDataset, clean_text, encode, frames_needed, vocabulary_of
from modeling_oskdft.training.transcription import tokenizer_of
from tests.training.making import hiss


@pytest.fixture
def spoken(manifest):
    """Recordings with texts; each fourth has none."""
    texts = [("see us", "", "a|b", "ja ja ")[number % 4] for number in range(len(manifest))]
    return Manifest(manifest.table.append_column("said", pa.array(texts)), manifest.root)


def dataset(spoken, crop_seconds=5.0, augmentation=None):
    vocabulary = vocabulary_of([clean_text(text) for text in spoken.column("said")])
    return TextDataset(spoken, crop_seconds, 0, augmentation, 0, "said", vocabulary)


def test_a_text_is_written_in_one_form():
    assert clean_text("  u\u0308ber\tall\n") == "über all"
    assert clean_text(None) == clean_text("|") == ""


def test_the_tokens_are_those_of_transformers_tokenizer():
    vocabulary = vocabulary_of(["see us", "zäh"])
    assert vocabulary == ("<pad>", "<unk>", "|", "e", "h", "s", "u", "z", "ä")
    tokenizer = tokenizer_of(vocabulary)
    for text in ("see us", "zäh", "sex us"):
        assert encode(text, vocabulary) == tokenizer(text).input_ids
    assert tokenizer.decode([0, 5, 5, 3, 0, 3, 2, 6, 5]) == "see us"


def test_equal_neighbours_need_a_frame_between_them():
    letters = [encode(text, vocabulary_of(["see us"])) for text in ("", "us", "see", "see us")]
    assert [frames_needed(each) for each in letters] == [0, 2, 4, 7]


def test_a_recording_is_read_whole_with_its_letters(spoken):
    crops = dataset(spoken, augmentation=hiss)
    first, second = crops[0, 0], crops[0, 1]
    assert len(first["waveform"]) == spoken.column("num_samples")[0] and crops.has_unlabelled
    assert first["label"][first["label"] != UNLABELLED].tolist() == encode("see us", crops.classes)
    assert (second["label"] == UNLABELLED).all()
    assert not (first["waveform"] == first["clean"]).all()


def test_recordings_of_a_batch_are_padded_with_a_mask(spoken, feature_extractor):
    crops = dataset(spoken)
    short = crops[0, 0]
    piece = short["waveform"][:8000]
    short = short | {"waveform": piece, "clean": piece}
    batch = TextCollator(feature_extractor)([crops[0, 2], short])
    assert batch["attention_mask"].sum(1).tolist() == [len(crops[0, 2]["waveform"]), 8000]
    assert batch["labels"].shape == (2, 6) and "teacher_input_values" not in batch
    alone = TextCollator(feature_extractor)([short])["input_values"][0]
    assert torch.equal(batch["input_values"][1, :8000], alone)


def test_a_recording_longer_than_a_crop_is_refused(spoken):
    with pytest.raises(ValueError, match=r"recordings are longer than crop_seconds, 0\.5 s.*raise crop_seconds to \d"):
        dataset(spoken, crop_seconds=0.5)


def test_columns_and_vocabularies_that_are_not_there_are_refused(spoken):
    with pytest.raises(ValueError, match="The data have no column 'nope'"):
        TextDataset(spoken, 5.0, 0, None, 0, "nope", vocabulary_of(["a"]))
    with pytest.raises(ValueError, match="The vocabulary begins with"):
        TextDataset(spoken, 5.0, 0, None, 0, "said", ["a", "b"])


def test_padding_is_on_the_right_whatever_the_extractor_says(feature_extractor):
    left = copy.deepcopy(feature_extractor)
    left.padding_side = "left"
    assert TextCollator(left).feature_extractor.padding_side == "right"


def test_texts_without_a_letter_are_refused():
    with pytest.raises(ValueError, match="have no letter"):
        vocabulary_of(["", " "])
