"""The files that belong to a verifier beside its weights, and travel with it: feature extractor, thresholds, card."""

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

if TYPE_CHECKING:  # a mixin: what it is mixed into is such a model
    from transformers import PreTrainedModel as Mixin
else:
    Mixin = object

FEATURE_EXTRACTOR_NAME = "preprocessor_config.json"
OPENING = ("revision", "token", "cache_dir", "subfolder", "local_files_only")  # of these, none stays with the model
# These speak of particular weights, and hold their fingerprint.
CARD_NAME = "README.md"
OF_THESE_WEIGHTS = ("thresholds.json", CARD_NAME)
OUR_CARD = re.compile(r"Of the weights [0-9a-f]{64}\.")
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
PLACEHOLDER = "More Information Needed"  # transformers' template of a card
PLAIN_CARD = """---
library_name: transformers
pipeline_tag: audio-classification
tags:
- speaker-verification
- oskdft
---

# {name}

A speaker verifier by OS-KDFT. Nothing else is stated: `oskdft card` writes what was measured.
"""


def fingerprint_of(tensors: Mapping[str, Tensor]) -> str:
    """Of names and values, rounded to bfloat16, so that a copy in that precision has it as well."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if value.is_floating_point():
            digest.update(name.encode())
            digest.update(value.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


def _write_whole(path: str, content: str) -> None:
    partial = f"{path}.{os.getpid()}.{threading.get_ident()}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(partial, path)


class Companions(Mixin):
    """Mixed into `OSKDFTForXVector`: what it was opened with goes where it is saved or pushed to.

    The feature extractor always does; thresholds and card only while the weights are those that they speak of, so a
    verifier that was trained on loses both.
    """

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        """As in transformers; remembers at which revision, to find the companions of that one."""
        opened = super().from_pretrained(*args, **kwargs)
        model = opened[0] if isinstance(opened, tuple) else opened
        # A folder stays that folder, wherever the process goes, and is never taken for a name on the Hub.
        if os.path.isdir(model.name_or_path):
            model._opened_from = os.path.abspath(model.name_or_path)
        elif model.name_or_path:
            # Read now: saving asks nobody, and a token need not stay with the model, where a pickle would carry it on.
            words = {name: kwargs[name] for name in OPENING if kwargs.get(name) is not None}
            model._kept_companions = {
                name: _read_companion(model.name_or_path, name, words)
                for name in (FEATURE_EXTRACTOR_NAME, *OF_THESE_WEIGHTS)
            }
        return opened

    def fingerprint(self) -> str:
        """Of all weights that are saved: equal for equal verifiers, in float32 or bfloat16."""
        weights = self.state_dict()
        return fingerprint_of({name: weights[name] for name in weights if not name.startswith("objective.")})

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """As in transformers, with the code files, the feature extractor, the thresholds and the card.

        Files are written beside and moved to their places, so that nobody opens half of one.
        """
        if not kwargs.get("is_main_process", True) or kwargs.get("push_to_hub") or os.path.isfile(save_directory):
            super().save_pretrained(save_directory, **kwargs)
            return
        os.makedirs(save_directory, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=save_directory, prefix=".partial") as aside:
            super().save_pretrained(aside, **kwargs)
            self._write_companions(aside)
            names = sorted(os.listdir(aside))
            # The weights first: whoever reads in between finds the configuration of before, which fits as often.
            for name in sorted(names, key=lambda name: not name.startswith("model")):
                os.replace(os.path.join(aside, name), os.path.join(save_directory, name))
        if not any(WEIGHTS.fullmatch(name) for name in names):  # a variant, or an adapter alone: the weights stay
            return
        for name in os.listdir(save_directory):  # shards of a larger model that lay here
            if WEIGHTS.fullmatch(name) and name not in names:
                os.remove(os.path.join(save_directory, name))

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """As in transformers, with everything that `save_pretrained` writes.

        Raises `ValueError` for a verifier without a feature extractor, which nobody could open.
        """
        if self._companion(FEATURE_EXTRACTOR_NAME) is None:
            raise ValueError(
                f"This verifier came without a feature extractor, so '{repo_id}' could not be used: save both into "
                "one folder, and push that (`oskdft push DIR org/name`)."
            )
        return super().push_to_hub(repo_id, **kwargs)

    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> str:
        # transformers has put a template of its own in the card's place.
        card = os.path.join(working_dir, CARD_NAME)
        if os.path.isfile(card):
            with open(card, encoding="utf-8") as file:
                is_placeholder = PLACEHOLDER in file.read()
            if is_placeholder:
                _write_whole(card, PLAIN_CARD.format(name=os.path.basename(working_dir)))
        self._write_companions(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _write_companions(self, folder: str | os.PathLike[str]) -> None:
        for name, content in self._companions():
            _write_whole(os.path.join(folder, name), content)

    def _companions(self) -> Iterable[tuple[str, str]]:
        found = {name: self._companion(name) for name in (FEATURE_EXTRACTOR_NAME, *OF_THESE_WEIGHTS)}
        try:
            own = self.fingerprint() if any(found[name] for name in OF_THESE_WEIGHTS) else ""
        except NotImplementedError:  # weights that are offloaded to a disk have no values here
            own = "0" * 64
            warnings.warn(
                "The weights are offloaded, so nothing can tell whether thresholds and card are of them: both "
                "are left out; copy them where the weights were not changed.",
                stacklevel=4,
            )
        for name, content in found.items():
            by_hand = name == CARD_NAME and content is not None and not OUR_CARD.search(content)
            if content is not None and (name not in OF_THESE_WEIGHTS or by_hand or own in content):
                yield name, content

    def _companion(self, name: str) -> str | None:
        """The text of a file of the folder or repository that this verifier was opened from."""
        folder = getattr(self, "_opened_from", None)
        if folder is None:
            return getattr(self, "_kept_companions", {}).get(name)
        path = os.path.join(folder, name)
        if not os.path.isfile(path):  # or a folder that has gone since
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()


def _read_companion(repository: str, name: str, words: dict[str, Any]) -> str | None:
    """The text of a file of a repository; None where it has none. Warns where it cannot be had."""
    try:
        # transformers has no public keyword for a file that may be absent. `has_file` would ask the Hub once more.
        path = cached_file(repository, name, _raise_exceptions_for_missing_entries=False, **words)
    except OSError as error:
        warnings.warn(f"'{repository}' was opened without its {name} ({error}): it is not saved again.", stacklevel=3)
        return None
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return file.read()
