"""Read whole recordings with the letters of their texts, for a student that writes down what is said."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio.loading import SAMPLING_RATE, load_audio
from .crops import UNLABELLED, Augmentation, Crop, CropCollator, CropDataset, crop_generator
from .manifest import Manifest

# The first tokens of a vocabulary, by the names that transformers' Wav2Vec2CTCTokenizer has for them.
BLANK, UNKNOWN, SPACE = "<pad>", "<unk>", "|"
SPECIAL = (BLANK, UNKNOWN, SPACE)


def clean_text(text: object) -> str:
    """Write a text in Unicode's composed form, with single spaces; "" for none."""
    words = "" if text is None else unicodedata.normalize("NFC", str(text)).replace(SPACE, " ")
    return " ".join(words.split())


def texts_of(manifest: Manifest, column: str) -> list[str]:
    """Read the texts of a manifest; "" where a recording has none.

    Raises:
        ValueError: for a column that is not there.
    """
    if column not in manifest.table.column_names:
        raise ValueError(
            f"The data have no column '{column}': they have {', '.join(manifest.table.column_names)}; correct "
            "text_column."
        )
    return [clean_text(text) for text in manifest.column(column)]


def vocabulary_of(texts: Sequence[str]) -> tuple[str, ...]:
    """List the tokens of a vocabulary: blank, unknown letter, space, and the letters of the texts, sorted.

    Args:
        texts: as `texts_of` returns them.

    Raises:
        ValueError: for texts without a letter.
    """
    letters = sorted({letter for text in texts for letter in text} - {" "})
    if not letters:
        raise ValueError(
            "The texts of the training data have no letter: name the column of what is said as text_column."
        )
    return (*SPECIAL, *letters)


def encode(text: str, vocabulary: Sequence[str]) -> list[int]:
    """Write a text as tokens, as Wav2Vec2CTCTokenizer does; letters outside the vocabulary become `UNKNOWN`."""
    number = {token: index for index, token in enumerate(vocabulary)}
    return [number.get(SPACE if letter == " " else letter, number[UNKNOWN]) for letter in text]


def frames_needed(letters: Sequence[int]) -> int:
    """Count the frames that CTC needs: one a letter, and a blank between two equal ones (Graves et al., 2006)."""
    return len(letters) + sum(first == second for first, second in zip(letters, letters[1:], strict=False))


class TextDataset(CropDataset):
    """Read whole recordings of up to `crop_seconds`, each with the letters of its text.

    Recordings without a text have no labels, and are for the distillation alone.

    Args:
        manifest: the training data.
        crop_seconds: longest recording.
        seed: seed of the augmentation.
        augmentation: as in `CropDataset`.
        max_damaged: as in `CropDataset`.
        text_column: column of the texts.
        vocabulary: tokens, as `vocabulary_of` returns them.

    Attributes:
        classes: the vocabulary.
        labels: (recordings, letters of the longest text), padded by `UNLABELLED`.
        frames_needed: (recordings,), see `frames_needed`; 0 without a text.

    Raises:
        ValueError: for a recording that is longer than `crop_seconds`, whose text would belong to more than is heard,
            and as `texts_of` does.
    """

    def __init__(
        self,
        manifest: Manifest,
        crop_seconds: float,
        seed: int,
        augmentation: Augmentation | None,
        max_damaged: int,
        text_column: str,
        vocabulary: Sequence[str],
    ) -> None:
        if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
            raise ValueError(
                f"The vocabulary begins with {list(vocabulary[:3])}: {', '.join(SPECIAL)} are needed first."
            )
        super().__init__(manifest, crop_seconds, seed, augmentation, max_damaged, (), vocabulary, text_column)
        lengths = np.asarray(manifest.column("num_samples"))
        longer = np.flatnonzero(lengths > self.num_samples)
        if len(longer):
            raise ValueError(
                f"{len(longer)} recordings are longer than crop_seconds, {crop_seconds:g} s, "
                f"'{self.utterance_ids[int(longer[0])]}' first, and a text belongs to a whole recording: raise "
                f"crop_seconds to {np.ceil(lengths.max() / SAMPLING_RATE):g}, or leave them out."
            )

    def _read_labels(self) -> NDArray[Any]:
        """Write the text of each row as tokens, and count the frames that it needs."""
        texts = texts_of(self.manifest, self.label_column)
        labels = np.full((len(texts), max(map(len, texts))), UNLABELLED, dtype=np.int32)
        self.frames_needed = np.zeros(len(texts), dtype=np.int32)
        for row, text in enumerate(texts):
            letters = encode(text, self.classes)
            labels[row, : len(letters)] = letters
            self.frames_needed[row] = frames_needed(letters)
        return labels

    @property
    def has_unlabelled(self) -> bool:
        """Whether a recording has no text."""
        return not self.frames_needed.all()

    def utterances_of_classes(self) -> list[int]:
        """Count the recordings in which each token may stand: all, because letters have no weights."""
        return [len(self)] * len(self.classes)

    def _crop(self, epoch: int, row: int) -> Crop | None:
        """Read a recording; None where its file is damaged."""
        utterance: str = self.utterance_ids[row].as_py()
        try:
            clean = load_audio(self.manifest.audio(row))[: self.num_samples]
        except (ValueError, OSError) as error:
            self.damaged.skip(row, utterance, error)
            return None
        generator = crop_generator(self.seed, epoch, utterance)
        return Crop(waveform=self._augment(clean, generator), clean=clean, label=self.labels[row])


class TextCollator(CropCollator):
    """Collate whole recordings, padded on the right; see `CropCollator` for its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.feature_extractor.padding_side = "right"  # what masks of frames are made for

    def __call__(self, crops: list[Crop]) -> dict[str, Any]:
        """Collate recordings.

        Returns:
            `input_values` and `attention_mask` (batch, samples), `labels` (batch, letters), and
            `teacher_input_values` where the teacher hears something else.
        """
        inputs = self._pad([crop["waveform"] for crop in crops])
        labels = torch.from_numpy(np.stack([crop["label"] for crop in crops])).long()
        batch: dict[str, Any] = {**inputs, "labels": labels}
        if self.teacher_hears == "clean" and any(crop["waveform"] is not crop["clean"] for crop in crops):
            batch["teacher_input_values"] = self._pad([crop["clean"] for crop in crops])["input_values"]
        return batch

    def _pad(self, waveforms: list[Any]) -> dict[str, torch.Tensor]:
        inputs = self.feature_extractor(
            waveforms, sampling_rate=SAMPLING_RATE, padding=True, return_attention_mask=True, return_tensors="pt"
        )
        return {name: inputs[name] for name in ("input_values", "attention_mask")}
