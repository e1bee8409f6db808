"""Copy the companion files of a verifier when it is saved or pushed: extractor, thresholds, calibration and card."""

import hashlib
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from transformers.utils import cached_file

if TYPE_CHECKING:  # `Companions` is mixed into a PreTrainedModel
    from transformers import PreTrainedModel as Mixin
else:
    Mixin = object

FEATURE_EXTRACTOR_NAME = "preprocessor_config.json"
# Arguments of `from_pretrained` that locate a file of a repository.
LOCATION_ARGUMENTS = ("revision", "token", "cache_dir", "subfolder", "local_files_only")
CARD_NAME = "README.md"
# Files that are true for particular weights alone, and state their fingerprint.
WEIGHT_BOUND_FILES = ("thresholds.json", "calibration.json", CARD_NAME)
COMPANION_FILES = (FEATURE_EXTRACTOR_NAME, *WEIGHT_BOUND_FILES)
OUR_CARD = re.compile(r"Of the weights [0-9a-f]{64}\.")  # a line of every card that this package writes
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
PLACEHOLDER = "More Information Needed"  # in transformers' template of a card
PLAIN_CARD = """---
library_name: transformers
pipeline_tag: {pipeline}
tags:
- {task}
- oskdft
---

# {name}

{sentence} by OS-KDFT. Nothing else is stated{advice}.
"""


def fingerprint_of(tensors: Mapping[str, Tensor]) -> str:
    """Hash names and values of tensors, after rounding to bfloat16, so that a copy in bfloat16 has the same hash.

    Args:
        tensors: tensors by name; integers are left out.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if value.is_floating_point():
            digest.update(name.encode())
            digest.update(value.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


def _write_whole(path: str, content: str) -> None:
    """Write a file beside its place and rename it, so that no reader opens half of it."""
    partial = f"{path}.{os.getpid()}.{threading.get_ident()}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(partial, path)


class Companions(Mixin):
    """Copy the companion files on save and on push: feature extractor, thresholds, calibration and card.

    The class is mixed into `OSKDFTForXVector` and the models of other tasks. The feature extractor is always copied.
    Thresholds, calibration and card are copied while the weights have the fingerprint that they state: a verifier that
    was trained further loses them.
    """

    # What a plain card says: a sentence, and the pipeline of transformers; a verifier has none.
    card_of_task: tuple[str, str | None] = ("A speaker verifier", None)
    _opened_from: str | None = None  # a folder
    _opened_companions: Mapping[str, str | None] = {}  # texts of the files of a repository, by name

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        """Open a model as transformers does, and remember its companion files at the same revision.

        Args:
            *args: as in transformers.
            **kwargs: as in transformers.
        """
        opened = super().from_pretrained(*args, **kwargs)
        model = opened[0] if isinstance(opened, tuple) else opened
        # A folder stays that folder, wherever the process goes, and is never taken for a name on the Hub.
        if os.path.isdir(model.name_or_path):
            model._opened_from = os.path.abspath(model.name_or_path)
        elif model.name_or_path:
            # They are read now, so that saving needs no network, and no token stays with the model, or in its pickle.
            location = {name: kwargs[name] for name in LOCATION_ARGUMENTS if kwargs.get(name) is not None}
            model._opened_companions = {
                name: _read_companion(model.name_or_path, name, location) for name in COMPANION_FILES
            }
        return opened

    def fingerprint(self) -> str:
        """Hash all weights that are saved: equal for equal verifiers, in float32 or bfloat16."""
        weights = self.state_dict()
        return fingerprint_of({name: weights[name] for name in weights if not name.startswith("objective.")})

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model as transformers does, with the code files and the companion files.

        Every file is written beside its place and then renamed, so that no reader opens half of it.

        Args:
            save_directory: it is made when it does not exist.
            **kwargs: as in transformers.
        """
        if not kwargs.get("is_main_process", True) or kwargs.get("push_to_hub") or os.path.isfile(save_directory):
            super().save_pretrained(save_directory, **kwargs)
            return
        os.makedirs(save_directory, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=save_directory, prefix=".partial") as aside:
            super().save_pretrained(aside, **kwargs)
            self._write_companions(aside)
            names = sorted(os.listdir(aside))
            # Weights first: until the rest follows, a reader finds the configuration from before, which mostly fits.
            for name in sorted(names, key=lambda name: not name.startswith("model")):
                os.replace(os.path.join(aside, name), os.path.join(save_directory, name))
        if not any(WEIGHTS.fullmatch(name) for name in names):  # a variant or an adapter leaves the weights in place
            return
        for name in os.listdir(save_directory):  # shards of a larger model that was saved here before
            if WEIGHTS.fullmatch(name) and name not in names:
                os.remove(os.path.join(save_directory, name))

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Push the model as transformers does, with all files that `save_pretrained` writes.

        Args:
            repo_id: "organisation/name".
            **kwargs: as in transformers.

        Raises:
            ValueError: for a verifier without a feature extractor, which could not be used.
        """
        if self._companion(FEATURE_EXTRACTOR_NAME) is None:
            raise ValueError(
                f"This verifier came without a feature extractor, so '{repo_id}' could not be used: save both into "
                "one folder, and push that (`oskdft push DIR org/name`)."
            )
        return super().push_to_hub(repo_id, **kwargs)

    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> str:
        # transformers has already written its template of a card.
        card = os.path.join(working_dir, CARD_NAME)
        if os.path.isfile(card):
            with open(card, encoding="utf-8") as file:
                is_placeholder = PLACEHOLDER in file.read()
            if is_placeholder:
                sentence, pipeline = self.card_of_task
                words = {"name": os.path.basename(working_dir), "sentence": sentence, "pipeline": pipeline or "other"}
                advice = "" if pipeline else ": `oskdft card` writes what was measured"
                _write_whole(card, PLAIN_CARD.format(**words, task=pipeline or "speaker-verification", advice=advice))
        self._write_companions(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _write_companions(self, folder: str | os.PathLike[str]) -> None:
        for name, content in self._companions():
            _write_whole(os.path.join(folder, name), content)

    def _companions(self) -> Iterable[tuple[str, str]]:
        """Yield name and text of the companion files that are true for these weights."""
        companions = {name: self._companion(name) for name in COMPANION_FILES}
        try:
            fingerprint = self.fingerprint() if any(companions[name] for name in WEIGHT_BOUND_FILES) else ""
        except NotImplementedError:  # weights that are offloaded to a disk have no values here
            fingerprint = "0" * 64
            warnings.warn(
                "The weights are offloaded and have no fingerprint, so thresholds and card are left out: copy both by "
                "hand if the weights were not changed.",
                stacklevel=4,
            )
        for name, content in companions.items():
            if content is None:
                continue
            is_bound = name in WEIGHT_BOUND_FILES
            if name == CARD_NAME and not OUR_CARD.search(content):  # written by hand, it states no fingerprint
                is_bound = False
            if not is_bound or fingerprint in content:
                yield name, content

    def _companion(self, name: str) -> str | None:
        """Return the text of a file of the folder or repository that this verifier was opened from."""
        if self._opened_from is None:
            return self._opened_companions.get(name)
        path = os.path.join(self._opened_from, name)
        if not os.path.isfile(path):  # nor, perhaps, the folder any more
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()


def _read_companion(repository: str, name: str, location: dict[str, Any]) -> str | None:
    """Return the text of a file of a repository, or None when it has no such file. Warn when it cannot be read."""
    try:
        # transformers has no public keyword for a file that may be absent. `has_file` would ask the Hub once more.
        path = cached_file(repository, name, _raise_exceptions_for_missing_entries=False, **location)
    except OSError as error:
        warnings.warn(f"'{repository}' was opened without its {name} ({error}): it is not saved again.", stacklevel=3)
        return None
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return file.read()
