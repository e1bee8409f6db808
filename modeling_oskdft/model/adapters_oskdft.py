"""Save adapters and head of a verifier as one small file, and switch between several on one distilled trunk."""

import json
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .companions_oskdft import fingerprint_of

WEIGHTS_NAME = "speaker_adapter.safetensors"
DESCRIPTION_NAME = "speaker_adapter.json"
# Fields of the configuration that must be equal for the adapters and the head of one verifier to fit into another.
SHAPE_FIELDS = ("embedding_size", "head_type", "use_weighted_layer_sum", "time_reduction")
SHAPE_PREFIXES = ("adapter_", "ecapa_")


def _is_adapter(name: str) -> bool:
    """Whether the ft path alone reads a tensor of a verifier's state dict: adapters and head."""
    return name.startswith("head.") or ".adapter." in name


class SpeakerAdapters:
    """Save, load and switch the adapters and the head of `OSKDFTForXVector`, into which this class is mixed.

    A model is opened with the speaker adapter "default". `set_speaker_adapter` copies tensors in place: no module is
    replaced, and compiled or exported modules stay valid.
    """

    # Attributes of the model into which this class is mixed.
    config: Any
    state_dict: Callable[[], dict[str, Tensor]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._speaker_adapter = "default"
        self._loaded_adapters: dict[str, dict[str, Tensor]] = {}  # those that are not in use

    @property
    def speaker_adapter(self) -> str:
        """Return the name of the speaker adapter in use."""
        return self._speaker_adapter

    @property
    def speaker_adapters(self) -> list[str]:
        """List the names that `set_speaker_adapter` accepts, sorted."""
        return sorted({self._speaker_adapter, *self._loaded_adapters})

    def save_speaker_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Write the adapters and the head in use as safetensors, with a JSON description of the model they fit.

        Args:
            folder: it is made when it does not exist. Each file is written beside its place and then renamed.
        """
        os.makedirs(folder, exist_ok=True)
        tensors = {name: value.contiguous().cpu() for name, value in self._adapter_tensors().items()}
        weights, description = (os.path.join(folder, name) for name in (WEIGHTS_NAME, DESCRIPTION_NAME))
        save_file(tensors, f"{weights}.partial", metadata={"format": "pt"})
        with open(f"{description}.partial", "w", encoding="utf-8") as file:
            json.dump(self._adapter_description(), file, indent=1)
        os.replace(f"{weights}.partial", weights)
        os.replace(f"{description}.partial", description)

    def load_speaker_adapter(self, folder: str | os.PathLike[str], name: str) -> None:
        """Load a speaker adapter beside the one in use; `set_speaker_adapter(name)` switches to it.

        A warning is given when the adapter was trained on another trunk.

        Args:
            folder: a folder that `save_speaker_adapter` wrote.
            name: the name to load it under.

        Raises:
            FileNotFoundError: when a file is missing.
            ValueError: for the name in use, a damaged file, or an adapter of another shape, naming the field.
        """
        if name == self.speaker_adapter:
            raise ValueError(f"The speaker adapter '{name}' is in use: switch to another first, or give another name.")
        weights, description = (os.path.join(folder, file) for file in (WEIGHTS_NAME, DESCRIPTION_NAME))
        for file in (weights, description):
            if not os.path.isfile(file):
                raise FileNotFoundError(f"There is no '{file}': give a folder that save_speaker_adapter wrote.")
        stored, expected = _read_description(description), self._adapter_description()
        for field, value in expected["fields"].items():
            if stored["fields"].get(field) != value:
                raise ValueError(
                    f"The speaker adapter in '{folder}' has {field} {stored['fields'].get(field)} and this model "
                    f"{value}: load it into a model of its own shape."
                )
        if stored["trunk"] != expected["trunk"]:
            warnings.warn(f"The speaker adapter in '{folder}' was trained on another trunk.", stacklevel=2)
        current = self._adapter_tensors()
        tensors = _read_tensors(weights, {key: value.shape for key, value in current.items()})
        self._loaded_adapters[name] = {key: value.to(current[key]) for key, value in tensors.items()}

    def set_speaker_adapter(self, name: str) -> None:
        """Switch to a loaded speaker adapter; the one in use is kept under its name.

        Args:
            name: a name in `speaker_adapters`.

        Raises:
            ValueError: for an unknown name, listing the known ones.
        """
        if name == self.speaker_adapter:
            return
        if name not in self._loaded_adapters:
            raise ValueError(
                f"There is no speaker adapter '{name}': there are {', '.join(self.speaker_adapters)}; load it first."
            )
        current = self._adapter_tensors()
        self._loaded_adapters[self.speaker_adapter] = {key: value.detach().clone() for key, value in current.items()}
        with torch.no_grad():
            for key, value in self._loaded_adapters.pop(name).items():
                current[key].copy_(value)
        self._speaker_adapter = name

    def _adapter_tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.state_dict().items() if _is_adapter(name)}

    def _adapter_description(self) -> dict[str, Any]:
        """Return the shape of adapters and head, and a fingerprint of the trunk, which is what the kd path reads."""
        fields = {name: value for name, value in self.config.to_dict().items() if name.startswith(SHAPE_PREFIXES)}
        fields |= {name: getattr(self.config, name) for name in SHAPE_FIELDS}
        trunk = {name: value for name, value in self.state_dict().items() if not _is_adapter(name)}
        # Through JSON and back, so that tuples compare as the lists that they become in the file.
        return {"fields": json.loads(json.dumps(fields)), "trunk": fingerprint_of(trunk)}


def _read_description(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as handle:
            stored = json.load(handle)
        if not isinstance(stored["fields"], dict) or not isinstance(stored["trunk"], str):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"'{path}' does not describe an adapter: save the adapter again.") from None
    return stored


def _read_tensors(path: str, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Read the tensors of an adapter, and raise `ValueError` unless they are finite and have these shapes."""
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}
    except Exception as error:  # safetensors' own errors have no common class with Python's
        raise ValueError(f"'{path}' is damaged ({str(error).splitlines()[0]}): save the adapter again.") from None
    if {key: value.shape for key, value in tensors.items()} != shapes:
        raise ValueError(f"'{path}' does not hold what its description says: save the adapter again.")
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"'{path}' has numbers that are not finite, '{key}' first: save a sound adapter.")
    return tensors
