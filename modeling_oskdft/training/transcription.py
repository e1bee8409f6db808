"""Write down recordings during training, and choose the best checkpoint by it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Wav2Vec2CTCTokenizer

from ..audio.loading import SAMPLING_RATE, load_audio
from ..data.damaged import DamagedFiles
from ..data.manifest import Manifest
from ..data.texts import BLANK, SPACE, UNKNOWN, texts_of
from ..evaluation.report import speakers_of
from ..model.modeling_tasks_oskdft import Student
from ..scoring.transcription import count_edits, text_rates, text_report
from .columns import ColumnDataset, ColumnScorer


def tokenizer_of(vocabulary: Sequence[str]) -> Wav2Vec2CTCTokenizer:
    """Make transformers' tokenizer of a vocabulary, which `pipeline("automatic-speech-recognition")` reads.

    Args:
        vocabulary: as `data.texts.vocabulary_of` returns it.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "vocab.json")
        file.write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}), encoding="utf-8")
        names = {"pad_token": BLANK, "unk_token": UNKNOWN, "word_delimiter_token": SPACE}
        return Wav2Vec2CTCTokenizer(str(file), bos_token=None, eos_token=None, **names)


class TranscribedDataset(ColumnDataset):
    """Recordings and the column of their texts, for a student with the vocabulary `values`."""

    holds = "a text"

    def labels(self) -> dict[str, str]:
        """Return the text of each recording, by its utterance id."""
        texts = texts_of(self.manifest, self.column)
        return {name: text for name, text in zip(self.manifest.column("utterance_id"), texts, strict=True) if text}

    def unknown_letters(self) -> list[str]:
        """List the letters that the student cannot write, sorted."""
        return sorted({letter for text in self.labels().values() for letter in text} - {*self.values, " "})


class TextScorer(ColumnScorer[TranscribedDataset]):
    """Writes down recordings during training; see `Scorer` for its arguments. Every process writes all of them."""

    dataset_type = TranscribedDataset

    def outputs(self, model: Student, manifest: Manifest, max_damaged: int) -> dict[str, NDArray[np.str_]]:
        """Write down whole recordings, the likeliest letter of each frame; returns utterance id to text."""
        tokenizer = tokenizer_of(self.validation.values)
        refusal = "More than {most} recordings are damaged ({reason}): restore them, or leave them out."
        damaged = DamagedFiles(max_damaged, "Left out:", refusal)
        written: dict[str, NDArray[np.str_]] = {}
        was_training = model.training
        model.eval()
        try:
            for row, name in enumerate(manifest.column("utterance_id")):
                try:
                    letters = self._letters(model, manifest, row)
                except (ValueError, OSError) as error:
                    damaged.skip(name, error)
                    continue
                written[name] = np.asarray(tokenizer.decode(letters))
        finally:
            model.train(was_training)
        return written

    @torch.inference_mode()
    def _letters(self, model: Student, manifest: Manifest, row: int) -> list[int]:
        """Return the likeliest token of each frame."""
        waveform = load_audio(manifest.audio(row))
        inputs = self.feature_extractor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt").to(model.device)
        letters: list[int] = model(inputs["input_values"].to(model.dtype)).logits[0].argmax(-1).tolist()
        return letters

    def error_rates(self, model: Student, dataset: object = None) -> dict[str, float]:
        """Measure CER and WER, as fractions.

        Args:
            model: the recogniser.
            dataset: a `TranscribedDataset`; None for that of the validation.

        Raises:
            TypeError: for a data set of another kind.
            ValueError: without validation recordings.
        """
        chosen = self.chosen(dataset)
        texts = chosen.labels()
        written = self.outputs(model, chosen.recordings, self.max_damaged)
        if not written:
            raise ValueError("No recording of the validation can be read: restore them, or set other speakers aside.")
        return text_rates([count_edits(texts[name], str(text)) for name, text in written.items()])

    def report(self, model: Student, dataset: TranscribedDataset) -> dict[str, Any]:
        """Measure CER and WER with 95 % intervals over speakers."""
        texts, speaker_of = dataset.labels(), speakers_of(dataset.recordings)
        written = self.outputs(model, dataset.recordings, max_damaged=0)
        references, speakers = ([known[name] for name in written] for known in (texts, speaker_of))
        return text_report(references, [str(text) for text in written.values()], speakers)
