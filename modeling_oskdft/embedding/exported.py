"""Be an exported verifier, whatever runs its graph: lengths, padding, masks, and the check of its file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ..audio.loading import SAMPLING_RATE, Waveform
from ..errors import first_line, printable
from .graphs import digest_of_graph
from .locations import Location, find, locate

if TYPE_CHECKING:
    import torch

NO_RECORDINGS = "There are no recordings: give one or more."


class ExportedEmbedder(ABC):
    """Compute embeddings with an exported verifier on the CPU; its graph normalises the audio.

    Args:
        path: the file of the graph.

    Raises:
        ImportError: without the runtime.
        ValueError: for a file that `oskdft export` did not write.
    """

    backend: str  # its name in `open_embedder`
    file: str  # name of the graph in an exported folder
    beside: tuple[str, ...] = ()  # names of the files that belong to it

    def __init__(self, path: str | Path) -> None:
        try:
            facts, size = self.load(path)
        except (ImportError, ValueError):  # of this package, in a sentence
            raise
        except Exception as error:  # the errors of runtimes have no common class
            raise ValueError(f"'{path}' is no exported verifier ({first_line(error)}): export it again.") from None
        try:
            self._fingerprint, self.shortest = facts["fingerprint"], int(facts["shortest_input"])
            self.longest = int(facts["longest_input"]) if "longest_input" in facts else None
        except (KeyError, ValueError):
            raise ValueError(f"'{path}' was not written by `oskdft export`: export the verifier.") from None
        self.embedding_size, self.path = size, path

    @abstractmethod
    def load(self, path: str | Path) -> tuple[Mapping[str, str], int]:
        """Open the graph in its runtime.

        Args:
            path: the file of the graph.

        Returns:
            Facts about it: `fingerprint`, `shortest_input`, and `longest_input` where it has one. And the size of an
            embedding.

        Raises:
            ImportError: without the runtime.
            ValueError: for a graph without facts. Any other error is one of the file.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{printable(str(self.path))}', embedding_size={self.embedding_size})"

    @classmethod
    def from_pretrained(cls, name: str | Location, revision: str | None = None) -> Self:
        """Open the export in a folder or a repository.

        Args:
            name: a folder, org/name of a repository on the Hub, or a `Location` of either.
            revision: branch, tag or commit of the repository; a `Location` has its own.

        Raises:
            OSError: for a folder or repository that does not exist or may not be read.
            ValueError: for one that holds no export.
            ImportError: without the runtime.
        """
        location = locate(name, revision)
        path = find(location, cls.file)
        if path is None:
            raise ValueError(
                f"'{printable(location.name)}' holds no {cls.file}: write one with `oskdft export`, or use "
                "backend='torch'."
            )
        for name_beside in cls.beside:  # of a repository, each file is downloaded when it is looked for
            find(location, name_beside)
        return cls(path)

    def to(self, device: "str | torch.device") -> Self:
        """Return this embedder for the CPU.

        Raises:
            ValueError: for another device.
        """
        if str(device) != "cpu":
            raise ValueError(
                f"device is '{device}': an exported model runs on the CPU; use backend='torch' for another."
            )
        return self

    def fingerprint(self) -> str:
        """Return the fingerprint of the PyTorch weights that were exported."""
        return self._fingerprint

    def check_graph(self, expected: str | None) -> None:
        """Check that the file was not changed, because a damaged weight may not show in an embedding.

        Args:
            expected: SHA-256 of the file in thresholds.json; None, from an earlier version, is not checked.

        Raises:
            ValueError: for a file with another SHA-256.
        """
        if expected is not None and digest_of_graph(self.path) != expected:
            raise ValueError(
                f"'{printable(str(self.path))}' is not the graph that its thresholds.json was written for: it is "
                "damaged or was changed; export the verifier again."
            )

    def embed(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """Embed waveforms as one batch: see `Embedder.embed`."""
        check_waveforms(waveforms)
        lengths = [len(waveform) for waveform in waveforms]
        if min(lengths) < self.shortest:
            raise ValueError(
                f"A recording has {min(lengths)} samples: one frame needs {self.shortest} "
                f"({1000 * self.shortest / SAMPLING_RATE:.0f} ms at 16 kHz); give a longer recording."
            )
        if self.longest is not None and max(lengths) > self.longest:
            raise ValueError(
                f"A recording has {max(lengths) / SAMPLING_RATE:.1f} s: this graph takes "
                f"{self.longest / SAMPLING_RATE:g} s at most; give a shorter one, or export with another --longest."
            )
        values = np.zeros((len(lengths), max(lengths)), np.float32)
        mask = np.zeros(values.shape, np.int64)
        for row, waveform in enumerate(waveforms):
            values[row, : len(waveform)] = waveform
            mask[row, : len(waveform)] = 1
        return self.run(values, mask)

    @abstractmethod
    def run(self, values: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run the graph on a padded batch.

        Args:
            values: (batch, samples).
            mask: (batch, samples), 1 where audio is real.

        Returns:
            (batch, embedding_size).
        """


def check_waveforms(waveforms: Sequence[Waveform]) -> None:
    """Check that there are waveforms and that their samples are finite.

    Raises:
        ValueError: for an empty list, and naming the first waveform with NaN or infinite samples.
    """
    if not len(waveforms):
        raise ValueError(NO_RECORDINGS)
    for number, waveform in enumerate(waveforms, 1):
        check_finite_samples(waveform, number)


def check_finite_samples(waveform: Waveform, number: int) -> None:
    """Refuse a waveform with samples that are not finite.

    Args:
        waveform: (samples,).
        number: of the recording, for the error.

    Raises:
        ValueError: naming the recording.
    """
    if not np.isfinite(waveform).all():
        raise ValueError(
            f"Recording {number} has NaN or infinite samples: finite audio is needed; check how it was written."
        )
