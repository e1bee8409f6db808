"""Load augmented training crops of made-up voices, and measure how long a training step waits for them."""

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from transformers import Wav2Vec2FeatureExtractor

from ..audio.augmentation import WaveformAugmentation
from ..audio.loading import SAMPLING_RATE
from ..audio.synthetic_voices import write_voices
from ..data.crops import CropCollator, CropDataset, EpochSampler
from ..data.sources import load_manifest

BATCHES = 12  # measured batches, for each worker
WORKERS_ON_GPU = 12  # processes that load crops for one GPU; a CPU step shares its cores with one
BATCH_OF_ONE_WORKER = 8
CROP_SECONDS = 3.0


class EndlessSampler(Sampler[tuple[int, int]]):
    """Draw (epoch, row) of one epoch after the other, without an end.

    A loader that ends after an epoch starts anew with nothing loaded ahead. With batches as large as the manifest,
    that happens at every step, and the step waits for the loader's start instead of for the data.
    """

    def __init__(self, epochs: EpochSampler) -> None:
        self.epochs = epochs

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for epoch in count():
            self.epochs.set_epoch(epoch)
            yield from self.epochs


def crop_batches(
    folder: Path, batch: int, seconds: float = CROP_SECONDS, workers: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Write made-up voices, noises and a room as files, and yield batches of their crops with every augmentation.

    Args:
        folder: folder for the files.
        batch: crops in a batch.
        seconds: length of a crop.
        workers: processes that read and augment; 0: this process.

    Returns:
        An iterator without an end over batches as `CropCollator` makes them.
    """
    manifest = load_manifest(write_voices(folder, speakers=8, sessions=2, utterances=4, seed=0))
    _write_noise_and_room(folder)
    augmentation = WaveformAugmentation(folder / "musan", folder / "rirs", 1.0, 0.3, 0.3, 0.3, 0.3)
    loader = DataLoader(
        CropDataset(manifest, seconds, 0, augmentation),
        batch,
        sampler=EndlessSampler(EpochSampler(manifest, 0)),
        collate_fn=CropCollator(Wav2Vec2FeatureExtractor(return_attention_mask=True)),
        drop_last=True,
        num_workers=workers,
    )
    return iter(loader)


def _write_noise_and_room(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for kind in ("noise", "music", "speech"):
        place = folder / "musan" / kind / "a"
        place.mkdir(parents=True)
        for number in range(8):
            noise = generator.normal(scale=0.1, size=SAMPLING_RATE * 10)
            soundfile.write(place / f"{number}.wav", noise, SAMPLING_RATE)
    room = folder / "rirs" / "a"
    room.mkdir(parents=True)
    response = generator.normal(size=8000) * np.exp(-np.arange(8000) / 1000)
    soundfile.write(room / "r.wav", response, SAMPLING_RATE)


def crops_per_second() -> float:
    """Measure how many crops a second one process reads, augments and normalises."""
    with tempfile.TemporaryDirectory() as folder:
        batches = crop_batches(Path(folder), BATCH_OF_ONE_WORKER)
        next(batches)
        start = time.perf_counter()
        for _ in range(BATCHES):
            next(batches)
        return BATCHES * BATCH_OF_ONE_WORKER / (time.perf_counter() - start)


def waiting_share(step: Callable[[Tensor], object], batch: int, device: torch.device) -> float:
    """Measure the share of a training loop's time in which the step waits for its batch.

    The measurement is longer than the loader works ahead (two batches a worker), and starts when every worker has
    delivered a batch, so that the share is that of a long run.

    Args:
        step: one training step on waveforms (batch, samples), which returns when the device has done it.
        batch: crops in a batch.
        device: device of the waveforms; a GPU gets more workers.

    Returns:
        A share, 0 to 1; copying a batch to the device counts as waiting.
    """
    workers = 1 if device.type == "cpu" else WORKERS_ON_GPU
    waited = 0.0
    with tempfile.TemporaryDirectory() as folder:
        batches = crop_batches(Path(folder), batch, workers=workers)
        for _ in range(workers):
            next(batches)
        begin = time.perf_counter()
        for _ in range(BATCHES * workers):
            start = time.perf_counter()
            waveforms = next(batches)["input_values"].to(device)
            waited += time.perf_counter() - start
            step(waveforms)
        share = waited / (time.perf_counter() - begin)
        del batches  # ends the workers before their files go
    return share
