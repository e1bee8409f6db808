"""Upload models, datasets and Spaces to the Hub: the files that belong there, and no others."""

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import HFValidationError

from ..embedding.opening import open_verifier
from ..errors import first_line
from ..export.browser import ASSETS, FILES, LISTING, VERIFIER
from ..files import read_json, sha256_of, whole_file
from ..model.companions_oskdft import CARD_NAME, FEATURE_EXTRACTOR_NAME
from ..scoring.calibration import CALIBRATION_NAME, Calibration
from ..scoring.normalization import COHORT_NAME, Cohort
from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds
from .eval_results import FOLDER_NAME as EVAL_RESULTS
from .model_card import is_card_of_others, read_statements, write_card
from .trials_dataset import files_of_trials

if TYPE_CHECKING:
    from ..data.manifest import Manifest

PACKAGE = Path(__file__).parents[1]
# The code of other tasks travels with models of other tasks alone.
TRAVELLING = tuple(sorted(file.name for file in PACKAGE.glob("model/*_oskdft.py") if "tasks" not in file.name))
WEIGHTS_NAME, INDEX_NAME = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
REQUIRED_OF_MODEL = ("config.json", FEATURE_EXTRACTOR_NAME, *TRAVELLING)
# Whatever else lies in the folder stays there: optimisers, checkpoints, arguments, the teacher, anybody's audio.
SENT_OF_MODEL = (
    *(*REQUIRED_OF_MODEL, WEIGHTS_NAME, INDEX_NAME),
    *(THRESHOLDS_NAME, CALIBRATION_NAME, COHORT_NAME, CARD_NAME),
)
REQUIRED_OF_SPACE = ("app.py", "README.md", "requirements.txt")
SENT_OF_SPACE = (*REQUIRED_OF_SPACE, "packages.txt", "LICENSE", "style.css")
# A page that `oskdft export --format browser` wrote, by patterns: what else lies there stays.
OF_VERIFIER = tuple(f"{VERIFIER}/*.{ending}" for ending in ("json", "onnx", "safetensors", "LICENSE"))
SENT_OF_PAGE = (*sorted(FILES), f"{ASSETS}/*", *OF_VERIFIER)
SENT_OF_PACKAGE = ("*.py", "py.typed", "*card_template.md")  # patterns at any depth


def push_model(
    folder: str | Path,
    repository: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str = "A speaker verifier by OS-KDFT",
) -> str:
    """Upload a saved verifier: weights, config, code files, feature extractor, thresholds and card.

    A card of this package that names another repository is written anew with the same statements; a missing card is
    written.

    Args:
        folder: folder of the saved verifier.
        repository: org/name; made when it is not there.
        private: visibility of a new repository; None leaves it to the account.
        revision: a branch, made when it is not there; None: the main branch.
        token: access token; None: the one of `hf auth login` or HF_TOKEN.
        message: title of the commit.

    Returns:
        The address of the repository.

    Raises:
        FileNotFoundError, ValueError: for a folder that others could not open, before anything is sent.
        PermissionError: without access to the repository.
        OSError: when the upload stops.
    """
    check_model(Path(folder))
    earlier = read_statements(folder)
    if earlier is not None and earlier[0] != repository:
        write_card(folder, repository, earlier[1])
    elif not Path(folder, CARD_NAME).is_file():
        write_card(folder, repository)
    files = files_of_model(folder)
    return _upload(folder, repository, "model", files, message, private=private, revision=revision, token=token)


def push_space(folder: str | Path, repository: str, private: bool | None = None, revision: str | None = None) -> str:
    """Upload the files of a Space, and this package beside them, so that the Space needs no package index for it.

    Args:
        folder: folder of the Space, with `app.py` and a `README.md` with front matter. Its folders are not sent.
        repository: org/name; made when it is not there.
        private: visibility of a new repository; None leaves it to the account.
        revision: a branch, made when it is not there; None: the main branch.

    Returns:
        The address of the repository.

    Raises:
        FileNotFoundError: for a folder that holds no Space.
        ValueError, PermissionError, OSError: as `push_model`.
    """
    for name in REQUIRED_OF_SPACE:
        if not Path(folder, name).is_file():
            raise FileNotFoundError(f"There is no {name} in '{folder}': give the folder of a Space.")
    with tempfile.TemporaryDirectory() as copy:
        for name in files_of_space(folder):
            shutil.copy(Path(folder, name), copy)
        for pattern in SENT_OF_PACKAGE:
            for file in PACKAGE.rglob(pattern):
                target = Path(copy, PACKAGE.name, file.relative_to(PACKAGE))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        message = "The Space"
        return _upload(copy, repository, "space", ["*"], message, private=private, revision=revision, sdk="gradio")


def push_page(folder: str | Path, repository: str, private: bool | None = None, revision: str | None = None) -> str:
    """Upload a page that `oskdft export --format browser` wrote, as a static Space.

    Args:
        folder: folder of the page.
        repository: org/name; made when it is not there.
        private: visibility of a new repository; None leaves it to the account.
        revision: a branch, made when it is not there; None: the main branch.

    Returns:
        The address of the repository.

    Raises:
        FileNotFoundError: for a folder that holds no whole page.
        ValueError: for a file of the verifier that was changed; and as `push_model`.
        PermissionError, OSError: as `push_model`.
    """
    check_page(Path(folder))
    files, stale = files_of_page(folder), [f"{ASSETS}/*", f"{VERIFIER}/*"]
    return _upload(
        folder,
        repository,
        "space",
        files,
        "The page",
        private=private,
        revision=revision,
        stale=stale,
        sdk="static",
    )


def check_page(folder: Path) -> None:
    """Check that a folder holds a whole page with its verifier.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a file of the verifier that is not what the listing says.
    """
    listing = folder / VERIFIER / LISTING
    files = read_json(listing).get("files", {}) if listing.is_file() else {}
    for name in (*sorted(FILES), f"{VERIFIER}/{LISTING}", *(f"{VERIFIER}/{file}" for file in files)):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"There is no {name} in '{folder}': give a folder that `oskdft export --format browser` wrote."
            )
    if not any((folder / ASSETS).glob("*.wasm")):
        raise FileNotFoundError(f"The assets are not in '{folder}': export the verifier again.")
    for name, facts in files.items():
        if sha256_of(folder / VERIFIER / name) != facts.get("sha256"):
            raise ValueError(f"'{folder}/{VERIFIER}/{name}' was changed: export the verifier again.")


def push_dataset(
    manifest: "Manifest",
    repository: str,
    folder: str | Path,
    private: bool = True,
    split: str = "train",
    **options: Any,
) -> str:
    """Write the shards of a manifest to a folder and upload them as a dataset.

    Files that the Hub has already are not sent again, and shards of the split that are not of this manifest are
    removed from the repository. A page is written unless the folder has one.

    Args:
        manifest: the recordings.
        repository: org/name; made when it is not there.
        folder: folder for the shards.
        private: visibility of a new repository. Private by default, since speech is personal data.
        split: name of the split.
        options: further arguments of `write_shards`.

    Returns:
        The address of the repository.

    Raises:
        ValueError, PermissionError, OSError: as `push_model`, and as `write_shards`.
    """
    from ..data.shard_writing import PAGE_NAME, page_of, write_shards

    shards = write_shards(manifest, folder, split, **options)
    page = Path(folder, PAGE_NAME)
    if not page.exists():
        with whole_file(page) as file:
            file.write_text(page_of(manifest), encoding="utf-8")
    return _upload(
        folder,
        repository,
        "dataset",
        [PAGE_NAME, *(f"data/{shard.name}" for shard in shards)],
        f"{len(manifest):,} utterances of {len(manifest.speakers):,} speakers",
        private=private,
        stale=[f"data/{split}-*.parquet"],
    )


def push_trials(folder: str | Path, repository: str, tasks: Sequence[str], private: bool = True) -> str:
    """Send a folder that `write_trials_dataset` wrote.

    Args:
        folder: the folder.
        tasks: the tasks that it wrote.
        repository: org/name; made when it is not there.
        private: visibility of a new repository.

    Returns:
        The address of the repository.

    Raises:
        ValueError, PermissionError, OSError: as `push_model`.
    """
    stale = ["data/*.parquet", "lists/*.txt"]
    return _upload(folder, repository, "dataset", files_of_trials(tasks), "Trial lists", private=private, stale=stale)


def create_repository(
    repository: str,
    kind: str = "model",
    private: bool | None = None,
    token: str | None = None,
    sdk: str | None = None,
) -> RepoUrl:
    """Create a repository where it is not there yet.

    Args:
        repository: org/name, or a name below the account of the token.
        kind: "model", "dataset" or "space".
        private: visibility of a new repository; None leaves it to the account.
        token: access token; None: the one of `hf auth login` or HF_TOKEN.
        sdk: what runs a new Space, "gradio" or "static".

    Returns:
        Its address.

    Raises:
        ValueError: for a name that no repository can have.
        PermissionError, OSError: as `push_model`.
    """
    with _hub_errors_as_sentences(repository):
        return HfApi(token=token).create_repo(
            repository,
            repo_type=kind,
            private=private,
            exist_ok=True,
            space_sdk=sdk,
        )


def check_model(folder: Path) -> None:
    """Check that a folder holds a whole verifier, and thresholds and a card of its own weights.

    Raises:
        FileNotFoundError: for a folder without a model.
        ValueError: for another kind of model, a missing or damaged file, or thresholds or a card of other weights.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"There is no saved model in '{folder}': give a folder that save_pretrained wrote.")
    try:
        config = read_json(folder / "config.json")
    except ValueError:
        raise ValueError(f"'{folder}/config.json' is damaged: save the model again.") from None
    if config.get("model_type") != "oskdft" or "OSKDFTForXVector" not in config.get("architectures", ()):
        raise ValueError(f"'{folder}' holds {config.get('architectures')}: a saved OSKDFTForXVector is needed.")
    missing = [name for name in REQUIRED_OF_MODEL if not (folder / name).is_file()]
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
    for name, kind in ((THRESHOLDS_NAME, Thresholds), (CALIBRATION_NAME, Calibration), (COHORT_NAME, Cohort)):
        if (folder / name).is_file() and kind.load(folder / name).fingerprint != fingerprint:
            raise ValueError(f"'{folder}/{name}' is of other weights: measure it again, or remove it.")
    if is_card_of_others(folder, fingerprint):
        raise ValueError(f"'{folder}/{CARD_NAME}' is the card of other weights: write it again with `oskdft card`.")


def files_of_model(folder: str | Path) -> list[str]:
    """List the files of a model's folder that are sent, by name; of shards, the ones that its index names."""
    place = Path(folder)
    names = {name for name in SENT_OF_MODEL if (place / name).is_file()}
    if INDEX_NAME in names:
        weights = read_json(place / INDEX_NAME).get("weight_map", {})
        shards = set(weights.values()) if isinstance(weights, dict) else set()
        names |= {
            name for name in shards if isinstance(name, str) and SHARD.fullmatch(name) and (place / name).is_file()
        }
    names |= {f"{EVAL_RESULTS}/{file.name}" for file in (place / EVAL_RESULTS).glob("*.yaml")}
    return sorted(names)


def files_of_space(folder: str | Path) -> list[str]:
    """List the files of a Space that are sent: page, settings, and the modules of the folder that app.py imports."""
    place = Path(folder)
    names = {name for name in SENT_OF_SPACE if (place / name).is_file()}
    unread = ["app.py"]
    while unread:
        for module in _imported_modules(place / unread.pop()):
            name = f"{module}.py"
            if name not in names and (place / name).is_file():
                names.add(name)
                unread.append(name)
    return sorted(names)


def files_of_page(folder: str | Path) -> list[str]:
    """List the files of a page for browsers that are sent."""
    place = Path(folder)
    files = {file for pattern in SENT_OF_PAGE for file in place.glob(pattern) if file.is_file()}
    return sorted(file.relative_to(place).as_posix() for file in files)


def left_behind(folder: str | Path, files: Sequence[str]) -> list[str]:
    """List the entries of a folder that are not sent.

    Args:
        folder: the folder.
        files: the files that are sent.
    """
    place, roots = Path(folder), {Path(name).parts[0] for name in files}
    folders = [place / name for name in roots if (place / name).is_dir()]
    inside = {file.relative_to(place).as_posix() for root in folders for file in root.rglob("*") if file.is_file()}
    return sorted(({entry.name for entry in place.iterdir()} - roots) | (inside - set(files)))


def _imported_modules(file: Path) -> set[str]:
    """Return the first parts of the names of all modules that a file imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
    return modules


def _upload(
    folder: str | Path,
    repository: str,
    kind: str,
    files: Sequence[str],
    message: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    stale: Sequence[str] = (),
    sdk: str | None = None,
) -> str:
    """Send the files of `folder` that match the patterns `files`; return the address of the repository.

    stale: patterns of files that are removed from the repository unless they are sent.
    """
    hub = HfApi(token=token)
    address = create_repository(repository, kind, private, token, sdk)
    with _hub_errors_as_sentences(repository):
        if revision is not None:
            hub.create_branch(address.repo_id, branch=revision, repo_type=kind, exist_ok=True)
        hub.upload_folder(
            repo_id=address.repo_id,
            repo_type=kind,
            folder_path=folder,
            allow_patterns=list(files),
            delete_patterns=list(stale) or None,
            commit_message=message,
            revision=revision,
        )
    return str(address)


@contextmanager
def _hub_errors_as_sentences(repository: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub and of the network into one sentence that names the repository."""
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
