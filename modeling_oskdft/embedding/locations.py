"""Finds what a name stands for, a folder or a repository on the Hub, without importing torch or transformers."""

import os

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

from ..errors import printable
from ..files import looks_like_a_path

HUB_SECONDS = 10.0  # for one question: is there such a repository?
MARKS = ("config.json", "model.onnx", "adapter_config.json")


def check_name(name: str) -> None:
    """Look once for what a name can only be: a folder, or a repository.

    Raises `FileNotFoundError` for a path that leads to no folder and for a repository that is not there or cannot be
    reached, in one request instead of many.
    """
    if os.path.isdir(name) or _is_cached(name):
        return
    if looks_like_a_path(name):
        what = "is a file" if os.path.exists(name) else "is not there"
        sentence = (
            f"There is no folder at '{printable(name)}' (it {what}): check the path, or give org/name of a repository"
        )
        parent = os.path.dirname(name)
        if name.count("/") == 1 and parent not in ("", ".", "..", "~"):
            sentence += f", from a place without a folder '{printable(parent)}'"
        raise FileNotFoundError(f"{sentence}.")
    if constants.is_offline_mode():
        raise FileNotFoundError(
            f"There is no folder '{printable(name)}', no such repository is in the cache, and the Hub is switched off "
            "(HF_HUB_OFFLINE): check the name."
        )
    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"There is neither a folder nor a repository '{printable(name)}': check the name; a private repository "
            "wants `hf auth login` or HF_TOKEN."
        ) from None
    except HFValidationError:
        raise FileNotFoundError(f"'{printable(name)}' is neither a folder nor the name of a repository.") from None
    except Exception as error:  # the errors of the network have no common class
        raise FileNotFoundError(
            f"There is no folder '{printable(name)}', and the Hub cannot be asked for such a repository "
            f"({type(error).__name__}): check the name and the connection."
        ) from None


def _is_cached(name: str) -> bool:
    try:
        return any(isinstance(try_to_load_from_cache(name, file), str) for file in MARKS)
    except HFValidationError:
        return False


def find(name: str, file: str, revision: str | None = None) -> str | None:
    """The path of a file of a folder or repository; None where it cannot be had."""
    if os.path.isdir(name):
        path = os.path.join(name, file)
        return path if os.path.isfile(path) else None
    try:
        return hf_hub_download(name, file, revision=revision)
    except (OSError, ValueError):  # ValueError: what can be no name
        return None


def is_an_export(name: str, revision: str | None = None) -> bool:
    """Whether a folder or repository holds a graph and no PyTorch weights. The graph is fetched last: it is large."""
    return find(name, "config.json", revision) is None and find(name, "model.onnx", revision) is not None
