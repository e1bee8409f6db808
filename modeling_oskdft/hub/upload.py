"""Models, datasets and Spaces to the Hub: what belongs there, and nothing else."""

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import HFValidationError

from ..embedding.opening import open_verifier
from ..errors import first_line
from ..files import read_json, whole_file
from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds
from .model_card import CARD_NAME, is_of, stated, write_card

if TYPE_CHECKING:
    from ..data.manifest import Manifest

TRAVELLING = tuple(sorted(file.name for file in Path(__file__).parents[1].glob("model/*_oskdft.py")))
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
NEEDED = ("config.json", "preprocessor_config.json", *TRAVELLING)
# Whatever else lies in the folder stays there: optimisers, checkpoints, arguments, the teacher, anybody's audio.
SENT = (*NEEDED, WHOLE, INDEX, THRESHOLDS_NAME, CARD_NAME)
SPACE_SENT = ("app.py", "README.md", "requirements.txt", "packages.txt", "LICENSE", "style.css")
PACKAGE = Path(__file__).parents[1]
PACKAGE_SENT = ("*.py", "py.typed", "card_template.md")


def push_model(
    folder: str | Path,
    repository: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str = "A speaker verifier by OS-KDFT",
) -> str:
    """Send a saved verifier to the model `repository`; returns its address.

    Weights, config, code files, feature extractor, thresholds and card go, and nothing else that lies in the folder; a
    card is written where there is none, and written anew, with what was stated, where ours names another repository.
    private: of a new repository; None leaves it to the account. revision: a branch, made when it is not there. Raises
    `FileNotFoundError` and `ValueError` for a folder that could not be opened by others, before anything is sent, and
    as `upload`.
    """
    check_model(Path(folder))
    known = stated(folder)
    if known is not None and known[0] != repository:
        write_card(folder, repository, known[1])
    elif not Path(folder, CARD_NAME).is_file():
        write_card(folder, repository)
    sent = tuple(files_of_model(folder))
    return upload(folder, repository, "model", sent, message, private=private, revision=revision, token=token)


def files_of_model(folder: str | Path) -> list[str]:
    """The files of a model's folder that go to the Hub, by name: of shards, those that its index names."""
    place = Path(folder)
    names = {name for name in SENT if (place / name).is_file()}
    if INDEX in names:
        weights = read_json(place / INDEX).get("weight_map", {})
        shards = set(weights.values()) if isinstance(weights, dict) else set()
        names |= {one for one in shards if isinstance(one, str) and SHARD.fullmatch(one) and (place / one).is_file()}
    return sorted(names)


def files_of_space(folder: str | Path) -> list[str]:
    """The files of a Space that go to the Hub: its page, its settings, and the modules that app.py imports."""
    place = Path(folder)
    names, waiting = {name for name in SPACE_SENT if (place / name).is_file()}, ["app.py"]
    while waiting:
        for node in ast.walk(ast.parse((place / waiting.pop()).read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                name = f"{module.split('.')[0]}.py"
                if name not in names and (place / name).is_file():
                    names.add(name)
                    waiting.append(name)
    return sorted(names)


def check_model(folder: Path) -> None:
    """That a folder holds a whole verifier, and thresholds and a card of its own weights."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"There is no saved model in '{folder}': give a folder that save_pretrained wrote.")
    try:
        config = read_json(folder / "config.json")
    except ValueError:
        raise ValueError(f"'{folder}/config.json' is damaged: save the model again.") from None
    if config.get("model_type") != "oskdft" or "OSKDFTForXVector" not in config.get("architectures", ()):
        raise ValueError(f"'{folder}' holds {config.get('architectures')}: a saved OSKDFTForXVector is needed.")
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"'{folder}' lacks {', '.join(missing)}: save the model and its feature extractor there with "
            "save_pretrained."
        )
    try:
        verifier, _ = open_verifier(str(folder))
    except Exception as error:  # a damaged folder can make anything fail
        raise ValueError(f"'{folder}' cannot be opened ({first_line(error)}): save the model again.") from None
    fingerprint = verifier.fingerprint()
    if (folder / THRESHOLDS_NAME).is_file() and Thresholds.load(folder / THRESHOLDS_NAME).fingerprint != fingerprint:
        raise ValueError(f"'{folder}/{THRESHOLDS_NAME}' is of other weights: measure the thresholds again.")
    if not is_of(folder, fingerprint):
        raise ValueError(f"'{folder}/{CARD_NAME}' is the card of other weights: write it again with `oskdft card`.")


def push_space(
    folder: str | Path,
    repository: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Send the folder of a Space (`app.py`, `README.md` with its front matter) to `repository`; returns its address.

    The code and pages of the folder itself go, nothing below it, and this package beside them, so that the Space needs
    no index to have it. revision: a branch, made when it is not there. Raises `FileNotFoundError` when it is not such
    a folder, and as `upload`.
    """
    for name in ("app.py", "README.md", "requirements.txt"):
        if not Path(folder, name).is_file():
            raise FileNotFoundError(f"There is no {name} in '{folder}': give the folder of a Space.")
    with tempfile.TemporaryDirectory() as place:
        for name in files_of_space(folder):
            shutil.copy(Path(folder, name), place)
        for pattern in PACKAGE_SENT:
            for file in PACKAGE.rglob(pattern):
                target = Path(place, PACKAGE.name, file.relative_to(PACKAGE))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        return upload(place, repository, "space", ("*",), "The Space", private, revision, token)


def push_dataset(
    manifest: "Manifest",
    repository: str,
    folder: str | Path,
    private: bool = True,
    split: str = "train",
    **options: Any,
) -> str:
    """Write the shards to `folder` and send them to the dataset `repository`; returns its address.

    options: as in `write_shards`. Files that the Hub has already are not sent again, and shards of the split that are
    not of this manifest go. A page is written unless the folder has one. Private unless asked otherwise: speech is
    personal data. Raises as `upload`.
    """
    from ..data.shard_writing import PAGE_NAME, page_of, write_shards

    shards = write_shards(manifest, folder, split, **options)
    page = Path(folder, PAGE_NAME)
    if not page.exists():
        with whole_file(page) as file:
            file.write_text(page_of(manifest), encoding="utf-8")
    return upload(
        folder,
        repository,
        "dataset",
        (PAGE_NAME, *(f"data/{shard.name}" for shard in shards)),
        f"{len(manifest):,} utterances of {len(manifest.speakers):,} speakers",
        private=private,
        replaced=(f"data/{split}-*.parquet",),
    )


def upload(
    folder: str | Path,
    repository: str,
    kind: str,
    sent: tuple[str, ...],
    message: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    replaced: tuple[str, ...] = (),
) -> str:
    """The files of `folder` that match `sent` to a repository of this kind, made when it is not there; its address.

    replaced: patterns of files of the repository that go when they are not sent. Raises `ValueError` for a name that
    no repository can have, `PermissionError` without access, and `OSError` when the upload stops.
    """
    hub = HfApi(token=token)
    address = create_repository(repository, kind, private, token)
    with _sentences_about(repository):
        if revision is not None:
            hub.create_branch(address.repo_id, branch=revision, repo_type=kind, exist_ok=True)
        hub.upload_folder(
            repo_id=address.repo_id,
            repo_type=kind,
            folder_path=folder,
            allow_patterns=list(sent),
            delete_patterns=list(replaced) or None,
            commit_message=message,
            revision=revision,
        )
    return str(address)


def create_repository(
    repository: str, kind: str = "model", private: bool | None = None, token: str | None = None
) -> RepoUrl:
    """The repository, made when it is not there. Raises as `upload`."""
    sdk = "gradio" if kind == "space" else None
    with _sentences_about(repository):
        return HfApi(token=token).create_repo(
            repository, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk
        )


@contextmanager
def _sentences_about(repository: str) -> Iterator[None]:
    try:
        yield
    except HFValidationError:
        raise ValueError(f"'{repository}' is no name of a repository: give org/name.") from None
    except Exception as error:  # the errors of the network have no common class
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"The Hub refuses '{repository}' ({status}): log in with `hf auth login`, or set HF_TOKEN to a token "
                "that may write there."
            ) from error
        raise OSError(
            f"The upload to '{repository}' stopped ({first_line(error)}): run the same command again; what has "
            "arrived is not sent again."
        ) from error


def left_behind(folder: str | Path, is_a_space: bool = False) -> list[str]:
    """What lies in the folder of a model or of a Space and is not sent."""
    sent = files_of_space(folder) if is_a_space else files_of_model(folder)
    return sorted({one.name for one in Path(folder).iterdir()} - set(sent))
