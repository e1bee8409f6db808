"""Locate the files of a saved model, in a folder or on the Hub, without importing torch or transformers."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

from ..errors import printable
from ..files import looks_like_a_path

HUB_SECONDS = 10.0  # timeout of the one request whether a repository exists
GRAPHS = ("model.onnx", "model.xml", "model.pte")  # of exports
MARKER_FILES = ("config.json", *GRAPHS, "adapter_config.json")  # each saved model has one of these
PRIVATE = "a private repository wants `hf auth login` or HF_TOKEN"


@dataclass(frozen=True)
class Location:
    """Describe a saved model: a folder, or a repository on the Hub and how it is read.

    A location lives only while a model is opened, so that no token stays with the model.

    Attributes:
        name: path of the folder, or org/name of the repository.
        revision: branch, tag or commit of the repository; None: its main branch.
        token: access token of the Hub; None or True: the stored one, False: none.
        cache_dir: folder in which downloaded files are kept; None: the cache of huggingface_hub.
        local_files_only: use the cache alone and make no request.
        subfolder: folder of the repository that has the files.
    """

    name: str
    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    subfolder: str = ""

    def is_folder(self) -> bool:
        """Test for a folder on this machine."""
        return os.path.isdir(self.name)

    def hub_options(self) -> dict[str, Any]:
        """Return the keyword arguments that every `from_pretrained` of transformers takes."""
        return {
            "revision": self.revision,
            "token": self.token,
            "cache_dir": self.cache_dir,
            "local_files_only": self.local_files_only,
            "subfolder": self.subfolder,
        }


def locate(
    name: str | Location,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    subfolder: str = "",
) -> Location:
    """Locate a saved model, and check with at most one request that its folder or repository exists.

    Args:
        name: path of a folder, or org/name of a repository. A `Location` is returned as it is.
        revision: branch, tag or commit of the repository.
        token: access token of the Hub.
        cache_dir: folder in which downloaded files are kept.
        local_files_only: use the cache alone and make no request.
        subfolder: folder inside of the folder or repository.

    Raises:
        FileNotFoundError: for a path without a folder, and for a repository that does not exist or cannot be reached.
    """
    if isinstance(name, Location):
        return name
    location = Location(name, revision, token, cache_dir, local_files_only, subfolder)
    if not location.is_folder():
        _check_repository(location)
        return location
    folder = os.path.join(name, subfolder) if subfolder else name
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"There is no folder '{printable(subfolder)}' in '{printable(name)}': check the subfolder."
        )
    return Location(folder)


def check_name(name: str) -> None:
    """Check with at most one request that a name is a folder or a repository on the Hub.

    Raises:
        FileNotFoundError: as `locate` does.
    """
    locate(name)


def _check_repository(location: Location) -> None:
    """Raise unless the repository is in the cache or on the Hub."""
    name = printable(location.name)
    if _is_cached(location):
        return
    if looks_like_a_path(location.name):
        raise FileNotFoundError(_no_folder(location.name))
    if constants.is_offline_mode() or location.local_files_only:
        switch = "HF_HUB_OFFLINE" if constants.is_offline_mode() else "local_files_only"
        raise FileNotFoundError(
            f"There is no folder '{name}', no such repository is in the cache, and the Hub is switched off "
            f"({switch}): check the name."
        )
    try:
        HfApi().model_info(location.name, timeout=HUB_SECONDS, token=location.token)
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"There is neither a folder nor a repository '{name}': check the name; {PRIVATE}."
        ) from None
    except HFValidationError:
        raise FileNotFoundError(f"'{name}' is neither a folder nor the name of a repository.") from None
    except Exception as error:  # network errors have no common class
        raise FileNotFoundError(
            f"There is no folder '{name}', and the Hub cannot be asked for such a repository "
            f"({type(error).__name__}): check the name and the connection."
        ) from None


def _no_folder(name: str) -> str:
    """Write the sentence for a path that is no folder."""
    state = "is a file" if os.path.exists(name) else "is not there"
    sentence = (
        f"There is no folder at '{printable(name)}' (it {state}): check the path, or give org/name of a repository"
    )
    parent = os.path.dirname(name)
    if name.count("/") == 1 and parent not in ("", ".", "..", "~"):
        sentence += f", from a place without a folder '{printable(parent)}'"
    return f"{sentence}."


def _is_cached(location: Location) -> bool:
    names = [f"{location.subfolder}/{file}" if location.subfolder else file for file in MARKER_FILES]
    try:
        return any(
            isinstance(try_to_load_from_cache(location.name, file, location.cache_dir, location.revision), str)
            for file in names
        )
    except HFValidationError:
        return False


def find(name: str | Location, file: str, revision: str | None = None) -> str | None:
    """Return the path of a file of a saved model, and download it where that is needed.

    Args:
        name: folder, repository or `Location`.
        file: name of the file.
        revision: branch, tag or commit of a repository; a `Location` has its own.

    Returns:
        A path on this machine, or None where the model has no such file or it cannot be downloaded.
    """
    location = name if isinstance(name, Location) else Location(name, revision)
    if location.is_folder():
        path = os.path.join(location.name, file)
        return path if os.path.isfile(path) else None
    try:
        return hf_hub_download(location.name, file, **location.hub_options())
    except (OSError, ValueError):  # ValueError: the name can be no repository
        return None


def is_an_export(location: Location) -> bool:
    """Test for a graph without PyTorch weights. The graph is downloaded last, because it is large."""
    return find(location, "config.json") is None and any(find(location, graph) for graph in GRAPHS)


def name_of_model(name: str) -> str:
    """Return the name of a folder without the folders above it, or a repository as it is.

    Args:
        name: a folder or a repository.
    """
    return Path(name).resolve().name if Path(name).is_dir() else name
