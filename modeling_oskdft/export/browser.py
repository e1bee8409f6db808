"""Export a verifier as a page that decides in the visitor's browser: the page of `spaces/in-browser` with a model."""

import shutil
from pathlib import Path

from ..audio.speech import SEQUENCE_MODEL, sequence_model
from ..embedding.runtimes import MODEL_NAME, OnnxEmbedder
from ..files import replaced_folder, sha256_of, write_json
from ..model.modeling_oskdft import shortest_input
from ..scoring.calibration import CALIBRATION_NAME
from ..scoring.normalization import COHORT_NAME
from ..scoring.thresholds import THRESHOLDS_NAME
from .folder import VAD_EXTRA, check_replaceable, facts_of, fill_with_measurements, open_source
from .int8_weights import PRECISION, store_in_int8
from .onnx_graph import OPSET, Export, check_packages, warn_of_int8, write_graph
from .page_building import STATE_NAME, built_page
from .parity import check_parity, lowest_cosine, noise

VERIFIER = "verifier"  # folder of the model, beside the page
LISTING = "verifier.json"  # names the files of that folder, with sizes and digests
SCHEMA = 1  # of the listing; `src/verifier/package.ts` reads it
FILES = {"README.md", "index.html", "sw.js", "icon.svg", "licences.txt"}  # of the page, with `ASSETS` and `VERIFIER`
ASSETS = "assets"
LISTED = (MODEL_NAME, SEQUENCE_MODEL, THRESHOLDS_NAME, CALIBRATION_NAME, COHORT_NAME)


def export_browser(name_or_path: str | Path, out: str | Path, revision: str | None = None) -> Export:
    """Export a verifier to a folder that any web server can serve, and the Hub as a static Space.

    The weights of the graph are stored in int8, see `int8_weights`.

    Args:
        name_or_path: folder or repository of the verifier.
        out: the folder to write. An earlier export for browsers that lies there is replaced, anything else is not.
        revision: branch, tag or commit of the repository.

    Returns:
        What was written.

    Raises:
        ImportError: without the packages of the extras `export` and `vad`, or without Node.js.
        FileNotFoundError: where the source of the page is not beside the package.
        ValueError: for an `out` that holds something else, and as `export_onnx` does.
        OSError: as `export_onnx` does, and when npm fails.
    """
    check_packages()
    _check_silero()
    _check_place(Path(out))
    page = built_page()
    name = str(name_or_path)
    source = open_source(name, revision)
    recordings = noise(shortest_input(source.model.config))
    with replaced_folder(out) as folder:
        shutil.copytree(page, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(STATE_NAME))
        shutil.copy(page.parent / "README.md", folder)
        verifier = folder / VERIFIER
        verifier.mkdir()
        graph = verifier / MODEL_NAME
        write_graph(source, graph, OPSET, name)
        check_parity(source, OnnxEmbedder(graph), recordings)
        store_in_int8(graph)
        facts = facts_of(source, name) | {"precision": PRECISION}
        fill_with_measurements(name, revision, facts, verifier, MODEL_NAME)
        write_listing(verifier, facts)
        cosine, size = lowest_cosine(source, OnnxEmbedder(graph), recordings), graph.stat().st_size
    warn_of_int8(cosine, "noise")
    return Export(str(out), facts["precision"], OPSET, size, cosine)


def write_listing(verifier: Path, facts: dict[str, str]) -> None:
    """Write which files the page has to download, so that it can tell a whole file from one that is cut off.

    Args:
        verifier: folder of the model.
        facts: about the graph, as `facts_of` returns them.
    """
    files = {
        file: {"bytes": (verifier / file).stat().st_size, "sha256": sha256_of(verifier / file)}
        for file in LISTED
        if (verifier / file).is_file()
    }
    write_json({"schema": SCHEMA, "facts": facts, "files": files}, verifier / LISTING)


def _check_silero() -> None:
    if sequence_model() is None:
        raise ImportError(f"silero-vad is not installed, and the page finds speech by it: {VAD_EXTRA}.")


def _check_place(out: Path) -> None:
    """Refuse a place that holds anything but an export for browsers: what lies there is replaced as a whole."""
    check_replaceable(out, {*FILES, ASSETS, VERIFIER})
    if out.is_dir() and any(out.iterdir()) and not (out / VERIFIER / LISTING).is_file():
        raise ValueError(f"'{out}' is no export for browsers: give a folder that is new, empty, or holds one.")
