"""Cut training crops: the crop of an utterance is a function of (seed, epoch, utterance) alone.

Therefore a resumed run equals an uninterrupted one, with any number of workers.
"""

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from transformers import SequenceFeatureExtractor

from ..audio.augmentation import change_speed, samples_for_speed
from ..audio.loading import SAMPLING_RATE, Waveform, read_crop
from .damaged import DamagedRows
from .manifest import Manifest
from .shard_reading import visiting_order

SPEAKERS = "speaker_id"  # the column whose values a verifier tells apart
UNLABELLED = -100  # torch's ignore_index: a crop whose speaker is not known

Augmentation = Callable[[Waveform, np.random.Generator], Waveform]


class Crop(TypedDict):
    """Hold one training example.

    Attributes:
        waveform: (samples,) at 16 kHz, augmented.
        clean: (samples,) the crop before augmentation; the same object as `waveform` where nothing was changed.
        label: class of the speaker, or `UNLABELLED`; of a recording with a text, the letters.
    """

    waveform: Waveform
    clean: Waveform
    label: int | NDArray[np.int32]


def crop_generator(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """Make the random generator of one utterance in one epoch.

    Args:
        seed: seed of the run.
        epoch: number of the epoch, from 0.
        utterance_id: id of the utterance, as in the manifest.
    """
    return np.random.default_rng([seed, epoch, zlib.crc32(utterance_id.encode())])


def classes_of(manifest: Manifest, column: str) -> list[str]:
    """List the values of a column, sorted: the order of the classes in training.

    Raises:
        ValueError: for a column that is not there, or has fewer than two values.
    """
    if column == SPEAKERS:
        return manifest.speakers
    if column not in manifest.table.column_names:
        raise ValueError(
            f"The data have no column '{column}': they have {', '.join(manifest.table.column_names)}; correct "
            "label_column."
        )
    classes = sorted({str(value) for value in manifest.column(column) if value not in (None, "")})
    if len(classes) < 2:
        raise ValueError(f"The column '{column}' has {len(classes)} classes ({', '.join(classes)}): give 2 or more.")
    return classes


def check_classes(manifest: Manifest, column: str, classes: Sequence[str]) -> None:
    """Refuse data that lack one of the classes, as those of the training speakers may.

    Raises:
        ValueError: naming the class.
    """
    missing = sorted({*classes} - {*manifest.column(column)})
    if missing:
        raise ValueError(
            f"No training speaker has '{missing[0]}' in the column '{column}': the speakers set aside have all of it; "
            "give more speakers, another data_seed or validation_fraction, or leave these recordings out."
        )


class CropDataset(Dataset[Crop]):
    """Cut crops from the recordings of a manifest, indexed by (epoch, row).

    A file that cannot be read is named in a warning, and the next readable row replaces it.

    Args:
        manifest: the training data.
        crop_seconds: length of a crop.
        seed: seed of the crops, see `crop_generator`.
        augmentation: function of a crop and a generator; None: crops stay clean.
        max_damaged: damaged files that may be replaced, and crops that may stay clean because a noise or a room cannot
            be read; one more of either is a `ValueError` of `__getitem__`.
        speeds: further speeds, each drawn as often as the speed 1. Every speed makes new speakers of all speakers:
            class `speakers * (1 + number of the speed) + speaker`.
        labelled: classes that are learnt; None: all of the column. Crops of others, and those without a value, have
            the label `UNLABELLED`.
        label_column: column of the manifest whose values are the classes.

    Attributes:
        classes: the values of the column that are learnt, in their order: speakers of a verifier.
        damaged: count and marks of the damaged rows, shared by the workers.

    Raises:
        ValueError: for a length that is not positive, for a speed outside [0.5, 2] or equal to 1, and as `classes_of`
            does.
    """

    def __init__(
        self,
        manifest: Manifest,
        crop_seconds: float,
        seed: int,
        augmentation: Augmentation | None = None,
        max_damaged: int = 100,
        speeds: Sequence[float] = (),
        labelled: Sequence[str] | None = None,
        label_column: str = SPEAKERS,
    ) -> None:
        self.manifest = manifest
        self.num_samples = round(crop_seconds * SAMPLING_RATE)
        if self.num_samples < 1:
            raise ValueError(f"crop_seconds is {crop_seconds}: a positive length is needed; 2 or 3 are usual.")
        if any(not 0.5 <= speed <= 2 or speed == 1 for speed in speeds):
            raise ValueError(f"speed_perturbation is {list(speeds)}: use factors such as 0.9 and 1.1, without 1.")
        self.seed = seed
        self.speeds = (1.0, *speeds)
        self.augmentation = augmentation
        self.max_damaged = max_damaged
        self.utterance_ids = manifest.table.column("utterance_id")
        self.label_column = label_column
        self.classes = classes_of(manifest, label_column) if labelled is None else list(labelled)
        self.labels = self._read_labels()
        refusal = (
            "More than {most} files of the training set are damaged ({reason}): check the data, or raise "
            "max_damaged_files."
        )
        self.damaged = DamagedRows(max_damaged, "Skipped in training:", refusal, len(manifest))
        # Shared with the workers, as the marks of damaged rows are.
        self.not_augmented = torch.zeros((), dtype=torch.long).share_memory_()

    def _read_labels(self) -> NDArray[Any]:
        """Sort the classes, and number that of each row; `UNLABELLED` where it is none of them."""
        self.classes = sorted(self.classes)
        label_of = {name: label for label, name in enumerate(self.classes)}
        return np.asarray([label_of.get(str(name), UNLABELLED) for name in self.manifest.column(self.label_column)])

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def has_unlabelled(self) -> bool:
        """Whether a crop has no label, so that it is for the distillation alone."""
        return bool((self.labels == UNLABELLED).any())

    def utterances_of_classes(self) -> list[int]:
        """Count the utterances of each class: the speakers in their order, once a speed."""
        labels = self.labels[self.labels != UNLABELLED]
        return np.bincount(labels, minlength=len(self.classes)).tolist() * len(self.speeds)

    def __getitem__(self, item: tuple[int, int]) -> Crop:
        epoch, row = item
        for offset in range(len(self)):
            crop = self._crop(epoch, (row + offset) % len(self))
            if crop is not None:
                return crop
        raise ValueError("No file of the training set can be read: check the data.")

    def _crop(self, epoch: int, row: int) -> Crop | None:
        """Cut the crop of a row; None where its file is damaged. Only errors of reading count as damage."""
        utterance: str = self.utterance_ids[row].as_py()
        generator = crop_generator(self.seed, epoch, utterance)
        number = int(generator.integers(len(self.speeds))) if len(self.speeds) > 1 else 0
        speed = self.speeds[number]
        num_samples, position = samples_for_speed(self.num_samples, speed), generator.random()
        try:
            recorded = read_crop(self.manifest.audio(row), num_samples, position)
        except (ValueError, OSError) as error:
            self.damaged.skip(row, utterance, error)
            return None
        clean = change_speed(recorded, speed, self.num_samples)
        label = int(self.labels[row])
        if label != UNLABELLED:
            label += number * len(self.classes)
        return Crop(waveform=self._augment(clean, generator), clean=clean, label=label)

    def _augment(self, clean: Waveform, generator: np.random.Generator) -> Waveform:
        """Augment a crop; it stays clean, with a warning, where a noise or a room cannot be read."""
        if self.augmentation is None:
            return clean
        try:
            return self.augmentation(clean, generator)
        except (ValueError, OSError) as error:
            warnings.warn(f"Not augmented: {error}", stacklevel=2)
            self.not_augmented += 1
            if int(self.not_augmented) > self.max_damaged:
                raise ValueError(
                    f"More than {self.max_damaged} crops could not be augmented ({error}): check noise_root and "
                    "rir_root."
                ) from error
            return clean


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield (epoch, row) for every row once, in an order that is a function of (seed, epoch).

    Args:
        manifest: the training data; rows in shards are visited row group by row group, see
            `shard_reading.visiting_order`.
        seed: seed of the order.
        readers: number of workers of all processes, each of which receives every `readers`-th batch.
        batch: rows of a batch.
    """

    def __init__(self, manifest: Manifest, seed: int, readers: int = 1, batch: int = 1) -> None:
        self.length, self.seed, self.epoch = len(manifest), seed, 0
        self.readers, self.batch = readers, batch
        self.groups = manifest.row_groups()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; the Trainer calls this before each epoch.

        Args:
            epoch: number of the epoch, from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.groups is None:
            order = generator.permutation(self.length)
        else:
            order = visiting_order(self.groups, self.readers, self.batch, generator)
        return ((self.epoch, int(row)) for row in order)


class CropCollator:
    """Collate crops to a batch of tensors, each normalised by the teacher's feature extractor after augmentation.

    Args:
        feature_extractor: feature extractor of the teacher.
        teacher_hears: "clean" crops, as in the paper, or "augmented" ones, the same as the student's.
        others: feature extractors of teachers that read other features than the student.
    """

    def __init__(
        self,
        feature_extractor: SequenceFeatureExtractor,
        teacher_hears: str = "clean",
        others: Sequence[SequenceFeatureExtractor] = (),
    ) -> None:
        self.feature_extractor = feature_extractor
        self.teacher_hears = teacher_hears
        self.others = list(others)

    def __call__(self, crops: list[Crop]) -> dict[str, Any]:
        """Collate crops of one length.

        Args:
            crops: one crop or more, all of one length.

        Returns:
            `input_values` (batch, samples), `labels` (batch,), `teacher_input_values` (batch, samples) where it
            differs from `input_values`, and `teacher_views`, what each of `others` returned, where there are any.
        """
        batch: dict[str, Any] = {
            "input_values": self._normalise([crop["waveform"] for crop in crops]),
            "labels": torch.tensor([crop["label"] for crop in crops]),
        }
        if self.teacher_hears == "clean" and any(crop["waveform"] is not crop["clean"] for crop in crops):
            batch["teacher_input_values"] = self._normalise([crop["clean"] for crop in crops])
        if self.others:
            heard = [crop["clean" if self.teacher_hears == "clean" else "waveform"] for crop in crops]
            batch["teacher_views"] = [features_of(extractor, heard) for extractor in self.others]
        return batch

    def _normalise(self, waveforms: list[Waveform]) -> torch.Tensor:
        inputs = self.feature_extractor(
            waveforms, sampling_rate=SAMPLING_RATE, return_attention_mask=False, return_tensors="pt"
        )
        return inputs["input_values"]


# What keeps extractors from padding a crop. Both encoders pair frames of 10 ms, and an odd last one is left out: by
# the extractor of w2v-BERT when it does not pad to pairs, and by `features_of` for Whisper.
UNPADDED: dict[str, dict[str, Any]] = {
    "WhisperFeatureExtractor": {"padding": False},
    "SeamlessM4TFeatureExtractor": {"pad_to_multiple_of": None},
}


def features_of(feature_extractor: SequenceFeatureExtractor, waveforms: list[Waveform]) -> dict[str, torch.Tensor]:
    """Compute the inputs of a teacher from crops of one length; nothing is padded, so no mask is needed.

    Args:
        feature_extractor: of the teacher.
        waveforms: each (samples,) at 16 kHz.
    """
    kind = type(feature_extractor).__name__
    options = UNPADDED.get(kind, {})
    inputs = feature_extractor(waveforms, sampling_rate=SAMPLING_RATE, return_tensors="pt", **options)
    features = {name: value for name, value in inputs.items() if name != "attention_mask"}
    if kind == "WhisperFeatureExtractor":
        return {name: value[..., : value.shape[-1] // 2 * 2] for name, value in features.items()}
    return features
