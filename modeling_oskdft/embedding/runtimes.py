"""What computes embeddings for a verifier: PyTorch on a saved model, or onnxruntime on an exported one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..audio.loading import SAMPLING_RATE, Waveform
from ..errors import first_line, printable
from ..files import sha256_of
from .locations import check_name, find, is_an_export

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from transformers import SequenceFeatureExtractor

    from ..model.modeling_oskdft import OSKDFTForXVector

# onnxruntime >= 1.29 for Linux reports home from its import on: a device id, a database of events, a look-up.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

MODEL_NAME = "model.onnx"
EXPORT_EXTRA = "pip install 'modeling-oskdft[export]'"
# Of every session, here, in export/standalone/verify.py and where memory is measured. A plan of memory for each length
# costs memory and saves no time where lengths are free: docs/deployment.md. Errors come as exceptions: none is logged.
# Not `session.x64quantprecision`: where it takes effect, onnxruntime does not open a graph with two-part convolutions.
SESSION_OPTIONS: dict[str, Any] = {"enable_mem_pattern": False, "log_severity_level": 4}


class Embedder(Protocol):
    """What a verifier asks of a runtime."""

    embedding_size: int

    def fingerprint(self) -> str:
        """Of the weights, as `OSKDFTForXVector.fingerprint`: thresholds name it."""
        ...

    def embed(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """Waveforms (samples,) at 16 kHz to (recordings, embedding_size), not normalised; rows do not mix."""
        ...


class TorchEmbedder:
    """A PyTorch verifier with its feature extractor."""

    def __init__(self, model: "OSKDFTForXVector", feature_extractor: "SequenceFeatureExtractor") -> None:
        self.model = model.eval()
        self.feature_extractor = feature_extractor
        self.embedding_size: int = model.config.embedding_size
        self._known: tuple[Any, str] | None = None

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None = None, device: str | None = None) -> "TorchEmbedder":
        """Open a saved verifier; errors as in `opening.open_verifier`."""
        import torch

        from .opening import open_verifier

        try:
            place = torch.device(device or "cpu")
        except RuntimeError:
            raise ValueError(f"device is '{device}': use cpu, cuda, cuda:0 or another device of torch.") from None
        model, feature_extractor = open_verifier(name, revision)
        try:
            return cls(model.to(place), feature_extractor)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # each of torch's backends has its own
            raise ValueError(f"device is '{device}', which is not here ({first_line(error)}): use cpu.") from None

    def fingerprint(self) -> str:
        """Of the weights that the model has now.

        Computed anew when any has changed; that is seen in the sums of their absolute values, which take a hundredth
        of the time, and not in the names of what changes weights: training, adapters, merging.
        """
        import torch

        tensors = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        stamp = (len(tensors), *(float(norm) for norm in torch._foreach_norm(tensors, 1)))
        if self._known is None or self._known[0] != stamp:
            self._known = (stamp, self.model.fingerprint())
        return self._known[1]

    def embed(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """As `Embedder.embed`. Raises `ValueError` for what is no audio, or too short for one frame."""
        from .batches import embed_batch

        _check_waveforms(waveforms)
        return embed_batch(self.model, self.feature_extractor, waveforms).float().cpu().numpy()


class OnnxEmbedder:
    """An exported verifier in onnxruntime, on the CPU; normalisation is in its graph."""

    def __init__(self, path: str | Path) -> None:
        """path: the file `model.onnx`.

        Raises `ImportError` without onnxruntime and `ValueError` for a file that `oskdft export` did not write.
        """
        threads = wanted_threads()  # what the environment says is no fault of the file
        try:
            self.session = open_session(path, threads)
        except ImportError:
            raise
        except Exception as error:  # onnxruntime's own have no common class
            raise ValueError(f"'{path}' is no exported verifier ({first_line(error)}): export it again.") from None
        facts = self.session.get_modelmeta().custom_metadata_map
        try:
            self._fingerprint, self.shortest = facts["fingerprint"], int(facts["shortest_input"])
        except (KeyError, ValueError):
            raise ValueError(f"'{path}' was not written by `oskdft export`: export the verifier.") from None
        self.embedding_size = int(self.session.get_outputs()[0].shape[1])
        self.path = path

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None = None) -> "OnnxEmbedder":
        """Open the export in a folder or a repository.

        Raises `OSError` for what is not there or may not be read, `ValueError` for what holds no export.
        """
        check_name(name)
        found = find(name, MODEL_NAME, revision)
        if found is None:
            raise ValueError(
                f"'{printable(name)}' holds no {MODEL_NAME}: write one with `oskdft export`, or use backend='torch'."
            )
        return cls(found)

    def fingerprint(self) -> str:
        """Of the PyTorch weights that were exported."""
        return self._fingerprint

    def check_graph(self, expected: str | None) -> None:
        """Raise `ValueError` unless the file has this SHA-256: a damaged weight can go unseen in an embedding.

        expected: what thresholds.json says; None where an earlier version wrote it.
        """
        if expected is not None and sha256_of(self.path) != expected:
            raise ValueError(
                f"'{printable(str(self.path))}' is not the graph that its thresholds.json was written for: it is "
                "damaged or was changed; export the verifier again."
            )

    def embed(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """As `Embedder.embed`. Raises `ValueError` for what is no audio, or too short for one frame."""
        _check_waveforms(waveforms)
        lengths = [len(waveform) for waveform in waveforms]
        if min(lengths) < self.shortest:
            raise ValueError(
                f"A recording has {min(lengths)} samples: one frame needs {self.shortest} "
                f"({1000 * self.shortest / SAMPLING_RATE:.0f} ms at 16 kHz); give a longer recording."
            )
        values = np.zeros((len(lengths), max(lengths)), np.float32)
        mask = np.zeros(values.shape, np.int64)
        for row, waveform in enumerate(waveforms):
            values[row, : len(waveform)] = waveform
            mask[row, : len(waveform)] = 1
        return self.session.run(None, {"input_values": values, "attention_mask": mask})[0]


def open_session(path: str | Path, threads: int | None = None) -> "InferenceSession":
    """A graph in onnxruntime, on the CPU. threads: as many as OMP_NUM_THREADS says, or all.

    Raises `ImportError` without onnxruntime, and what that raises for a file that holds no graph.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ImportError(f"onnxruntime is not installed, and runs exported models: {EXPORT_EXTRA}.") from None
    options = onnxruntime.SessionOptions()
    for option, value in SESSION_OPTIONS.items():
        setattr(options, option, value)
    # onnxruntime has threads of its own and does not ask; 0 lets it take all.
    options.intra_op_num_threads = threads or wanted_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def wanted_threads() -> int:
    """The first field of OMP_NUM_THREADS, which may be a list, as "4,2"; 0 where it holds no number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def open_embedder(name: str, backend: str, revision: str | None = None, device: str | None = None) -> Embedder:
    """The verifier in a folder or repository, run by `backend`: "torch", "onnxruntime", or "auto" for what is there.

    Raises `ValueError` for another backend, for a device that it does not have, and as the two classes.
    """
    if backend == "auto":
        check_name(name)
        backend = "onnxruntime" if is_an_export(name, revision) else "torch"
    if backend == "torch":
        return TorchEmbedder.from_pretrained(name, revision, device)
    if backend != "onnxruntime":
        raise ValueError(f"backend is '{backend}': use torch, onnxruntime or auto.")
    if device not in (None, "cpu"):
        raise ValueError(f"device is '{device}': an exported model runs on the CPU; use backend='torch' for another.")
    return OnnxEmbedder.from_pretrained(name, revision)


def _check_waveforms(waveforms: Sequence[Waveform]) -> None:
    if not len(waveforms):
        raise ValueError("There are no recordings: give one or more.")
    for number, waveform in enumerate(waveforms, 1):
        if not np.isfinite(waveform).all():
            raise ValueError(
                f"Recording {number} has NaN or infinite samples: finite audio is needed; check how it was written."
            )
