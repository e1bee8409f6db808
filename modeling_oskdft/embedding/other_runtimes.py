"""Run verifiers that were exported for OpenVINO and for ExecuTorch. Neither is imported before a graph is opened.

Facts about a graph lie in `model.json` beside it: neither format has a place for them that both tools read.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import read_json
from .exported import ExportedEmbedder
from .graphs import compiled, import_openvino

FACTS_NAME = "model.json"
HOP = 320  # samples: a graph of ExecuTorch takes multiples of it


class OpenVinoEmbedder(ExportedEmbedder):
    """Compute embeddings with an exported verifier in OpenVINO.

    Args:
        path: the file `model.xml`; `model.bin` lies beside it.

    Raises:
        ImportError: without openvino.
        ValueError: for a file that `oskdft export` did not write.
    """

    backend, file, beside = "openvino", "model.xml", ("model.bin", FACTS_NAME)

    def load(self, path: str | Path) -> tuple[Mapping[str, str], int]:
        """Open the graph: see `ExportedEmbedder.load`."""
        try:
            import_openvino()  # what is missing is said before the file is judged
        except ImportError:
            raise ImportError(_missing(self.backend)) from None
        facts = _facts_beside(path)
        self.model = compiled(path)
        return facts, int(self.model.output("embeddings").get_partial_shape()[1].get_length())

    def run(self, values: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run the graph on a padded batch: see `ExportedEmbedder.run`."""
        request = self.model.create_infer_request()  # one for each call: requests are not shared between threads
        return np.array(request.infer({"input_values": values, "attention_mask": mask})["embeddings"])


class ExecuTorchEmbedder(ExportedEmbedder):
    """Compute embeddings with an exported verifier in ExecuTorch, a recording at a time.

    Args:
        path: the file `model.pte`.

    Raises:
        ImportError: without executorch.
        ValueError: for a file that `oskdft export` did not write.
    """

    backend, file, beside = "executorch", "model.pte", (FACTS_NAME,)

    def load(self, path: str | Path) -> tuple[Mapping[str, str], int]:
        """Open the graph: see `ExportedEmbedder.load`."""
        try:
            from executorch.runtime import Runtime
        except ImportError:
            raise ImportError(_missing(self.backend)) from None
        facts = _facts_beside(path)
        self.program = Runtime.get().load_program(Path(path))  # it must outlive its method
        self.method = self.program.load_method("forward")
        self.fixed = int(facts["fixed_input"]) if "fixed_input" in facts else None  # the one length that it takes
        self._lock = threading.Lock()  # a program has one set of buffers
        return facts, int(facts["embedding_size"])

    def run(self, values: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run the graph on a padded batch: see `ExportedEmbedder.run`."""
        import torch

        rows = []
        for row, valid in zip(values, mask, strict=True):
            samples = self.fixed or -(-int(valid.sum()) // HOP) * HOP
            padded = [np.zeros((1, samples), part.dtype) for part in (row, valid)]
            for target, part in zip(padded, (row, valid), strict=True):
                target[0, : min(samples, len(part))] = part[:samples]
            with self._lock:
                outputs = self.method.execute([torch.from_numpy(part) for part in padded])
                rows.append(np.array(outputs[-1].numpy()[0]))  # a copy: the next call writes into the same memory
        return np.stack(rows)


def _missing(package: str) -> str:
    return f"{package} is not installed, and runs this export: pip install 'modeling-oskdft[{package}]'."


def _facts_beside(path: str | Path) -> dict[str, str]:
    facts = Path(path).with_name(FACTS_NAME)
    if not facts.is_file():
        raise ValueError(f"'{path}' was not written by `oskdft export`: {FACTS_NAME} is not beside it.")
    return {name: str(value) for name, value in read_json(facts).items()}
