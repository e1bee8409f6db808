"""Training crops: what an epoch shows of an utterance is a function of (seed, epoch, utterance) alone.

That is what makes a resumed run equal to an uninterrupted one, with any number of workers.
"""

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import SequenceFeatureExtractor

from ..audio.augmentation import change_speed, samples_for_speed
from ..audio.loading import SAMPLING_RATE, Waveform, read_crop
from .damaged import DamagedRows
from .manifest import Manifest
from .shard_reading import visiting_order

UNLABELLED = -100  # torch's ignore_index: a crop whose speaker is not known

Augmentation = Callable[[Waveform, np.random.Generator], Waveform]


class Crop(TypedDict):
    """One training example: what the student hears, what the teacher hears (the same object when it is the same)."""

    waveform: Waveform
    clean: Waveform
    label: int


def crop_generator(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """The randomness of one utterance in one epoch."""
    return np.random.default_rng([seed, epoch, zlib.crc32(utterance_id.encode())])


class CropDataset(Dataset[Crop]):
    """Crops of a manifest, indexed by (epoch, row).

    A file that cannot be read is reported, and the next readable row stands in for it; the run stops with a
    `ValueError` when more than `max_damaged` different files were met.
    speeds: other speeds that a crop is equally often heard at, each making new speakers of all speakers: class
    `speakers * (1 + number of the speed) + speaker`. labelled: the speakers that are classes, None for all; crops of
    the others have the label -100.
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
        self.speakers = manifest.speakers if labelled is None else sorted(labelled)
        label_of = {speaker: label for label, speaker in enumerate(self.speakers)}
        self.labels = np.asarray([label_of.get(speaker, UNLABELLED) for speaker in manifest.column("speaker_id")])
        refusal = (
            "More than {most} files of the training set are damaged ({reason}): check the data, or raise "
            "max_damaged_files."
        )
        self.damaged = DamagedRows(max_damaged, "Skipped in training:", refusal, len(manifest))
        # Shared with the workers, as the marks of damaged rows are.
        self.not_augmented = torch.zeros((), dtype=torch.long).share_memory_()

    def __len__(self) -> int:
        return len(self.manifest)

    def utterances_of_classes(self) -> list[int]:
        """How many utterances each class has: the speakers in their order, once a speed."""
        labels = self.labels[self.labels != UNLABELLED]
        return np.bincount(labels, minlength=len(self.speakers)).tolist() * len(self.speeds)

    def __getitem__(self, item: tuple[int, int]) -> Crop:
        epoch, row = item
        for offset in range(len(self)):
            crop = self._crop(epoch, (row + offset) % len(self))
            if crop is not None:
                return crop
        raise ValueError("No file of the training set can be read: check the data.")

    def _crop(self, epoch: int, row: int) -> Crop | None:
        """The crop of a row, or None where its file is damaged. Only errors of reading count as damage."""
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
            label += number * len(self.speakers)
        return Crop(waveform=self._augment(clean, generator), clean=clean, label=label)

    def _augment(self, clean: Waveform, generator: np.random.Generator) -> Waveform:
        """A noise or a room that cannot be read is not the crop's fault: the crop stays clean; said, and counted."""
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
    """(epoch, row) of every row once, in an order that is a function of (seed, epoch).

    Rows in shards are visited row group by row group (`shards.visiting_order`): readers are all workers of all
    processes, each of which gets every `readers`-th batch.
    """

    def __init__(self, manifest: Manifest, seed: int, readers: int = 1, batch: int = 1) -> None:
        self.length, self.seed, self.epoch = len(manifest), seed, 0
        self.readers, self.batch = readers, batch
        self.groups = manifest.row_groups()

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
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
    """Crops to a batch of tensors, each normalised as the teacher's feature extractor does it, after augmentation.

    teacher_hears: "clean" crops (the paper), or "augmented" ones, as the student.
    """

    def __init__(self, feature_extractor: SequenceFeatureExtractor, teacher_hears: str = "clean") -> None:
        self.feature_extractor = feature_extractor
        self.teacher_hears = teacher_hears

    def __call__(self, crops: list[Crop]) -> dict[str, torch.Tensor]:
        """Returns `input_values` (batch, samples), `labels` (batch,), and `teacher_input_values` when it differs."""
        batch = {
            "input_values": self._normalise([crop["waveform"] for crop in crops]),
            "labels": torch.tensor([crop["label"] for crop in crops]),
        }
        if self.teacher_hears == "clean" and any(crop["waveform"] is not crop["clean"] for crop in crops):
            batch["teacher_input_values"] = self._normalise([crop["clean"] for crop in crops])
        return batch

    def _normalise(self, waveforms: list[Waveform]) -> torch.Tensor:
        inputs = self.feature_extractor(
            waveforms, sampling_rate=SAMPLING_RATE, return_attention_mask=False, return_tensors="pt"
        )
        return inputs["input_values"]
