"""Compute embeddings for a verifier: with PyTorch from a saved model, or with onnxruntime from an exported one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..audio.loading import SAMPLING_RATE, Waveform
from ..errors import check_choice, first_line, printable
from .exported import ExportedEmbedder, check_finite_samples, check_waveforms
from .graphs import open_session
from .locations import Location, find, locate
from .other_runtimes import ExecuTorchEmbedder, OpenVinoEmbedder

if TYPE_CHECKING:
    import torch
    from transformers import SequenceFeatureExtractor

    from ..model.modeling_oskdft import OSKDFTForXVector

MODEL_NAME = "model.onnx"
EXPORT_EXTRA = "pip install 'modeling-oskdft[export]'"
BACKENDS = ("torch", "onnxruntime", "openvino", "executorch", "auto")
DTYPES = ("float32", "bfloat16", "float16")
BATCH_SIZE = 32  # recordings in a batch, the default of sentence-transformers
# Padded audio in a batch, for each recording that it may have: longer recordings come in smaller batches.
SECONDS_PER_RECORDING = 10


class Embedder(Protocol):
    """Compute embeddings: the part of a verifier that differs between runtimes."""

    embedding_size: int

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights, as `OSKDFTForXVector.fingerprint`; thresholds carry it."""
        ...

    def to(self, device: "str | torch.device") -> Self:
        """Move the weights to a device.

        Raises:
            ValueError: for a device that the runtime or this machine does not have.
        """
        ...

    def embed(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """Embed waveforms as one batch, in which no row depends on another.

        Args:
            waveforms: (samples,) each, at 16 kHz.

        Returns:
            (recordings, embedding_size), not normalised.

        Raises:
            ValueError: for an empty list, for samples that are not finite, and for a waveform shorter than one frame.
        """
        ...


class TorchEmbedder:
    """Compute embeddings with a PyTorch verifier and its feature extractor.

    Args:
        model: the verifier; it is put into eval mode.
        feature_extractor: the feature extractor that it was trained with.
    """

    def __init__(self, model: "OSKDFTForXVector", feature_extractor: "SequenceFeatureExtractor") -> None:
        from ..student.positional_convolution import use_fourier_on_gpu

        self.model = model.eval()
        use_fourier_on_gpu(self.model)
        self.feature_extractor = feature_extractor
        self.embedding_size: int = model.config.embedding_size
        self._known_fingerprint: tuple[Any, str] | None = None

    def __repr__(self) -> str:
        name = printable(str(self.model.name_or_path))
        dtype = str(self.model.dtype).removeprefix("torch.")
        return f"TorchEmbedder('{name}', embedding_size={self.embedding_size}, device='{self.model.device}', {dtype=})"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Location,
        revision: str | None = None,
        device: "str | torch.device | None" = None,
        dtype: "str | torch.dtype | None" = None,
    ) -> "TorchEmbedder":
        """Open a saved verifier.

        Args:
            name: a folder, org/name of a repository on the Hub, or a `Location` of either.
            revision: branch, tag or commit of the repository; a `Location` has its own.
            device: device of torch; None: the CPU.
            dtype: "float32", "bfloat16", "float16", or the dtype of torch; None: float32.

        Raises:
            ValueError: for another dtype, for a device that is not there, and as `opening.open_verifier` does.
            OSError: as `opening.open_verifier` does.
        """
        import torch

        from .opening import open_verifier

        precision = None if dtype is None else str(dtype).removeprefix("torch.")
        if precision is not None:
            check_choice("dtype", precision, DTYPES)
        torch_device = _device_of_torch("cpu" if device is None else device)
        embedder = cls(*open_verifier(name, revision)).to(torch_device)
        if precision is not None:
            embedder._cast(getattr(torch, precision))
        return embedder

    def to(self, device: "str | torch.device") -> Self:
        """Move the model to a device.

        Args:
            device: device of torch, such as "cuda".

        Returns:
            This embedder.

        Raises:
            ValueError: for a device that torch or this machine does not have.
        """
        torch_device = _device_of_torch(device)
        known = None if self._known_fingerprint is None else self.fingerprint()
        try:
            self.model.to(torch_device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # each backend of torch has its own
            raise ValueError(f"device is '{device}', which is not here ({first_line(error)}): use cpu.") from None
        if known is not None:  # sums of weights are rounded in another way there
            self._known_fingerprint = (self._sums_of_weights(), known)
        return self

    def _cast(self, dtype: "torch.dtype") -> None:
        """Round the weights, and keep the fingerprint: casting to half precision is no change of the model."""
        known = self.fingerprint()
        self.model.to(dtype)
        self._known_fingerprint = (self._sums_of_weights(), known)

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights that the model has now.

        It is computed anew when any weight has changed. A change is detected by the sums of the absolute weights,
        which take a hundredth of the time of the hash.
        """
        sums = self._sums_of_weights()
        if self._known_fingerprint is None or self._known_fingerprint[0] != sums:
            self._known_fingerprint = (sums, self.model.fingerprint())
        return self._known_fingerprint[1]

    def _sums_of_weights(self) -> tuple[float, ...]:
        import torch

        tensors = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        return (len(tensors), *(float(norm) for norm in torch._foreach_norm(tensors, 1)))

    def embed(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """Embed waveforms as one batch: see `Embedder.embed`."""
        from .batches import embed_batch

        check_waveforms(waveforms)
        return embed_batch(self.model, self.feature_extractor, waveforms).float().cpu().numpy()


class OnnxEmbedder(ExportedEmbedder):
    """Compute embeddings with an exported verifier in onnxruntime.

    Args:
        path: the file `model.onnx`.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that `oskdft export` did not write.
    """

    backend, file = "onnxruntime", MODEL_NAME

    def load(self, path: str | Path) -> tuple[Mapping[str, str], int]:
        """Open the graph, whose metadata are the facts: see `ExportedEmbedder.load`."""
        try:
            self.session = open_session(path)
        except ImportError:
            raise ImportError(f"onnxruntime is not installed, and runs exported models: {EXPORT_EXTRA}.") from None
        return self.session.get_modelmeta().custom_metadata_map, int(self.session.get_outputs()[0].shape[1])

    def run(self, values: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run the graph on a padded batch: see `ExportedEmbedder.run`."""
        return self.session.run(None, {"input_values": values, "attention_mask": mask})[0]


def open_embedder(
    name: str | Location,
    backend: str,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
) -> Embedder:
    """Open the verifier in a folder or repository in one of the runtimes.

    Args:
        name: a folder, org/name of a repository on the Hub, or a `Location` of either.
        backend: "torch", "onnxruntime", "openvino", "executorch", or "auto" for the one whose files are there; torch
            where several are.
        device: name of the device, as in `TorchEmbedder.from_pretrained`; an export runs on the CPU.
        dtype: type of the weights, as in `TorchEmbedder.from_pretrained`; an export computes in those of its graph.

    Raises:
        ValueError: for another backend, a device or dtype that it does not have, and as the two classes do.
        OSError: for a folder or repository that does not exist or may not be read.
        ImportError: without the runtime.
    """
    check_choice("backend", backend, BACKENDS)
    location = locate(name)
    runtimes = {runtime.backend: runtime for runtime in exported_runtimes()}
    if backend == "auto":
        backend = "torch" if find(location, "config.json") else _runtime_there(location, runtimes) or "torch"
    if backend == "torch":
        return TorchEmbedder.from_pretrained(location, device=device, dtype=dtype)
    if dtype is not None:
        raise ValueError(f"dtype is '{dtype}': an exported model has the types of its graph; leave dtype out.")
    return runtimes[backend].from_pretrained(location).to("cpu" if device is None else device)


def exported_runtimes() -> tuple[type[ExportedEmbedder], ...]:
    """Return the classes that run exported verifiers; none imports its runtime before it opens a graph."""
    return OnnxEmbedder, OpenVinoEmbedder, ExecuTorchEmbedder


def _runtime_there(location: Location, runtimes: Mapping[str, type[ExportedEmbedder]]) -> str | None:
    """Name the first runtime whose graph is in a place. A graph is downloaded when it is looked for."""
    return next((name for name, runtime in runtimes.items() if find(location, runtime.file)), None)


def bounded_batches(waveforms: Iterable[Waveform], batch_size: int = BATCH_SIZE) -> Iterator[list[Waveform]]:
    """Gather waveforms into batches, in their order, while they are read.

    Args:
        waveforms: (samples,) each, at 16 kHz.
        batch_size: recordings in a batch at most. Its padded audio is at most 10 s for each of them, so that long
            recordings come in smaller batches; a longer recording comes alone.

    Raises:
        ValueError: for a batch_size below 1, and naming a recording whose samples are not finite.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: 1 or more recordings are needed in a batch.")
    most_samples = batch_size * SECONDS_PER_RECORDING * SAMPLING_RATE
    batch: list[Waveform] = []
    for number, waveform in enumerate(waveforms, 1):
        check_finite_samples(waveform, number)
        longest = max(map(len, [*batch, waveform]))
        if batch and (len(batch) == batch_size or longest * (len(batch) + 1) > most_samples):
            yield batch
            batch = []
        batch.append(waveform)
    if batch:
        yield batch


def _device_of_torch(device: "str | torch.device") -> "torch.device":
    import torch

    try:
        return torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is '{device}': use cpu, cuda, cuda:0 or another device of torch.") from None
