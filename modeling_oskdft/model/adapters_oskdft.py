"""Adapters and head of a verifier as one small file, and several of them on one distilled trunk."""

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
# What must be the same for one verifier's adapters and head to fit into another.
FIELDS = ("embedding_size", "head_type", "use_weighted_layer_sum", "time_reduction")
PREFIXES = ("adapter_", "ecapa_")


class SpeakerAdapters:
    """Mixed into `OSKDFTForXVector`: save, load and switch what only the ft path reads.

    The adapter that a model is opened with is called "default". Switching copies tensors in place: nothing is loaded,
    and compiled or exported modules stay what they are.
    """

    # What the model brings.
    config: Any
    state_dict: Callable[[], dict[str, Tensor]]

    def _adapter_tensors(self) -> dict[str, Tensor]:
        state = self.state_dict()
        return {name: value for name, value in state.items() if name.startswith("head.") or ".adapter." in name}

    def _adapter_description(self) -> dict[str, Any]:
        fields = {name: value for name, value in self.config.to_dict().items() if name.startswith(PREFIXES)}
        fields |= {name: getattr(self.config, name) for name in FIELDS}
        fields = json.loads(json.dumps(fields))  # tuples as they come back
        return {"fields": fields, "trunk": self._trunk_fingerprint()}

    def _trunk_fingerprint(self) -> str:
        """Of the weights that the kd path reads."""
        own = self.state_dict()
        return fingerprint_of(
            {name: value for name, value in own.items() if not name.startswith("head.") and ".adapter." not in name}
        )

    @property
    def speaker_adapter(self) -> str:
        """The name of the adapter that is in use."""
        return getattr(self, "_speaker_adapter", "default")

    @property
    def speaker_adapters(self) -> list[str]:
        """The names that `set_speaker_adapter` knows."""
        return sorted({self.speaker_adapter, *getattr(self, "_resting_adapters", {})})

    def save_speaker_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Write the adapter in use: adapters and head as safetensors, and what they fit to as JSON; whole or not."""
        os.makedirs(folder, exist_ok=True)
        tensors = {name: value.contiguous().cpu() for name, value in self._adapter_tensors().items()}
        weights, description = (os.path.join(folder, name) for name in (WEIGHTS_NAME, DESCRIPTION_NAME))
        save_file(tensors, f"{weights}.partial", metadata={"format": "pt"})
        with open(f"{description}.partial", "w", encoding="utf-8") as file:
            json.dump(self._adapter_description(), file, indent=1)
        os.replace(f"{weights}.partial", weights)
        os.replace(f"{description}.partial", description)

    def load_speaker_adapter(self, folder: str | os.PathLike[str], name: str) -> None:
        """Keep an adapter that `save_speaker_adapter` wrote under `name`; `set_speaker_adapter(name)` puts it to use.

        Raises `FileNotFoundError`, or `ValueError` for the name in use, a damaged file, or an adapter of another
        shape, naming the field. An adapter that was trained on another trunk is told of in a warning.
        """
        if name == self.speaker_adapter:
            raise ValueError(f"The speaker adapter '{name}' is in use: switch to another first, or give another name.")
        weights, description = (os.path.join(folder, one) for one in (WEIGHTS_NAME, DESCRIPTION_NAME))
        for file in (weights, description):
            if not os.path.isfile(file):
                raise FileNotFoundError(f"There is no '{file}': give a folder that save_speaker_adapter wrote.")
        theirs, ours = self._read_description(description), self._adapter_description()
        for field, value in ours["fields"].items():
            if theirs["fields"].get(field) != value:
                raise ValueError(
                    f"The speaker adapter in '{folder}' has {field} {theirs['fields'].get(field)} and this model "
                    f"{value}: load it into a model of its own shape."
                )
        if theirs["trunk"] != ours["trunk"]:
            warnings.warn(f"The speaker adapter in '{folder}' was trained on another trunk.", stacklevel=2)
        try:
            with safe_open(weights, framework="pt") as stored:
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}
        except Exception as error:  # safetensors' own errors have no common class with Python's
            raise ValueError(
                f"'{weights}' is damaged ({str(error).splitlines()[0]}): save the adapter again."
            ) from None
        expected = self._adapter_tensors()
        if {key: value.shape for key, value in tensors.items()} != {key: v.shape for key, v in expected.items()}:
            raise ValueError(f"'{weights}' does not hold what its description says: save the adapter again.")
        for key, value in tensors.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ValueError(f"'{weights}' has numbers that are not finite, '{key}' first: save a sound adapter.")
        self._resting()[name] = {key: value.to(expected[key]) for key, value in tensors.items()}

    @staticmethod
    def _read_description(path: str) -> dict[str, Any]:
        try:
            with open(path, encoding="utf-8") as handle:
                stored = json.load(handle)
            if not isinstance(stored["fields"], dict) or not isinstance(stored["trunk"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError(f"'{path}' does not describe an adapter: save the adapter again.") from None
        return stored

    def set_speaker_adapter(self, name: str) -> None:
        """Put the adapter `name` to use. Raises `ValueError` naming those that are there."""
        if name == self.speaker_adapter:
            return
        resting = self._resting()
        if name not in resting:
            raise ValueError(
                f"There is no speaker adapter '{name}': there are {', '.join(self.speaker_adapters)}; load it first."
            )
        own = self._adapter_tensors()
        resting[self.speaker_adapter] = {key: value.detach().clone() for key, value in own.items()}
        with torch.no_grad():
            for key, value in resting.pop(name).items():
                own[key].copy_(value)
        self._speaker_adapter = name

    def _resting(self) -> dict[str, dict[str, Tensor]]:
        if not hasattr(self, "_resting_adapters"):
            self._resting_adapters: dict[str, dict[str, Tensor]] = {}
        return self._resting_adapters
