"""Fill the folder of an export: thresholds, calibration, the network that finds speech, and the program that decides.

The folder is the same for every format; the graph is written by the format's own module.
"""

import shutil
import warnings
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

from .._version import __version__
from ..audio.forms import SAMPLING_RATE
from ..audio.speech import SEQUENCE_MODEL, sequence_model
from ..embedding.graphs import digest_of_graph
from ..embedding.locations import GRAPHS, find, name_of_model
from ..embedding.opening import check_feature_extractor
from ..embedding.other_runtimes import FACTS_NAME
from ..embedding.runtimes import TorchEmbedder, exported_runtimes
from ..files import write_json
from ..model.modeling_oskdft import shortest_input
from ..scoring.calibration import CALIBRATION_NAME, PREVIOUS_NAME, Calibration
from ..scoring.normalization import COHORT_NAME, Cohort
from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds

BESIDE_GRAPHS = ("model.bin", FACTS_NAME)
PACKAGE = Path(__file__).parents[1]
# Copied into every export: the program that decides, and the files that it imports.
PAGES = (
    *("export/standalone/verify.py", "embedding/graphs.py"),
    *("audio/decoding.py", "audio/speech.py", "audio/track.py"),
)
SILERO_LICENCE = "silero_vad.LICENSE"
WRITTEN = {
    *(*GRAPHS, *BESIDE_GRAPHS, THRESHOLDS_NAME, CALIBRATION_NAME, COHORT_NAME, SEQUENCE_MODEL, SILERO_LICENCE),
    *(Path(page).name for page in PAGES),
}
VAD_EXTRA = "pip install 'modeling-oskdft[vad]'"
# What may come into the folder later: by Python, by `oskdft calibrate`, by an exporter of torch.
BESIDE = {"__pycache__", PREVIOUS_NAME, "model.onnx.data"}


def open_source(name: str, revision: str | None) -> TorchEmbedder:
    """Open the verifier that is exported.

    Args:
        name: its folder or repository.
        revision: branch, tag or commit of the repository.

    Raises:
        ValueError: for a model that is no verifier, or whose feature extractor a graph cannot hold.
        OSError: for a folder or repository that does not exist or may not be read.
    """
    source = TorchEmbedder.from_pretrained(name, revision)
    check_feature_extractor(source.feature_extractor, name)
    return source


def facts_of(source: TorchEmbedder, name: str) -> dict[str, str]:
    """Return what the readers of a graph need to know.

    Args:
        source: the verifier.
        name: its folder or repository.
    """
    return {
        "name": Path(name_of_model(name)).name,
        "fingerprint": source.fingerprint(),
        "embedding_size": str(source.embedding_size),
        "sampling_rate": str(SAMPLING_RATE),
        "shortest_input": str(shortest_input(source.model.config)),
        "precision": "float32",
        "modeling_oskdft": __version__,
    }


def fill_with_measurements(name: str, revision: str | None, facts: dict[str, str], folder: Path, graph: str) -> None:
    """Write what decides with the graph: facts, thresholds, calibration, and the network that finds speech.

    Args:
        name: folder or repository of the verifier.
        revision: branch, tag or commit of the repository.
        facts: about the graph, as `facts_of` returns them.
        folder: the folder of the export.
        graph: name of the graph in it.
    """
    write_json(facts, folder / FACTS_NAME)
    _add_thresholds(name, revision, facts["fingerprint"], folder, graph)
    _add_calibration(name, revision, facts["fingerprint"], folder)
    _add_speech_network(folder)


def copy_programs(folder: Path) -> None:
    """Copy the program that decides, and the files that it imports.

    Args:
        folder: the folder of the export.
    """
    for page in PAGES:
        shutil.copy(PACKAGE / page, folder / Path(page).name)


def check_place(out: Path) -> None:
    """Refuse a place that holds anything but an export: what lies there is replaced as a whole.

    Args:
        out: the place.

    Raises:
        ValueError: naming what is there.
    """
    check_replaceable(out, WRITTEN | BESIDE)
    for runtime in exported_runtimes():
        graph = out / runtime.file
        if graph.exists():
            try:
                runtime(graph)
            except (ValueError, ImportError):
                raise ValueError(
                    f"'{graph}' is no export of this package: give a folder that is new or empty."
                ) from None


def check_replaceable(out: Path, names: set[str]) -> None:
    """Refuse a place that cannot be replaced, or that holds what no export wrote.

    Args:
        out: the place.
        names: of what an export writes.

    Raises:
        ValueError: naming what is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"'{out}' is a file: give a folder that is new, empty, or holds an export.")
    if out.resolve() == Path.cwd() or out.is_mount():
        raise ValueError(
            f"'{out}' is the working directory or a mount, which cannot be replaced: give a folder in it."
        )
    others = sorted({file.name for file in out.iterdir()} - names)
    if others:
        raise ValueError(
            f"'{out}' holds {others[0]}, which no export wrote: give a folder that is new, empty, or holds an export."
        )


def _add_thresholds(name: str, revision: str | None, fingerprint: str, folder: Path, graph: str) -> None:
    """Write the verifier's thresholds beside the graph, with the digest of the graph; warn where there are none."""
    path = find(name, THRESHOLDS_NAME, revision)
    if path is None:
        warnings.warn(f"'{name}' has no thresholds: the export gives scores and no decisions.", stacklevel=4)
        return
    thresholds = Thresholds.load(path)
    if thresholds.fingerprint != fingerprint:
        warnings.warn("The thresholds are of other weights and were left out: measure them anew.", stacklevel=4)
        return
    replace(thresholds, graph=digest_of_graph(folder / graph)).save(folder)


def _add_calibration(name: str, revision: str | None, fingerprint: str, folder: Path) -> None:
    """Write the verifier's calibration and cohort beside the graph, where they are of its weights."""
    calibration_file, cohort_file = (find(name, file, revision) for file in (CALIBRATION_NAME, COHORT_NAME))
    calibration = None if calibration_file is None else Calibration.load(calibration_file)
    cohort = None if cohort_file is None else Cohort.load(cohort_file)
    if calibration is None:
        return
    needed = None if cohort is None or cohort.fingerprint != fingerprint else cohort.digest
    if calibration.fingerprint != fingerprint:
        warnings.warn("The calibration is of other weights and was left out: calibrate anew.", stacklevel=4)
    elif calibration.cohort is not None and calibration.cohort != needed:
        warnings.warn("The calibration needs its cohort, which is missing, and was left out.", stacklevel=4)
    else:
        shutil.copy(str(calibration_file), folder / CALIBRATION_NAME)
        if calibration.cohort is not None:
            shutil.copy(str(cohort_file), folder / COHORT_NAME)


def _add_speech_network(folder: Path) -> None:
    """Copy Silero's network and its licence, so that verify.py finds speech as this package does."""
    model = sequence_model()
    if model is None:
        warnings.warn(f"silero-vad is not installed, so speech is found by its level: {VAD_EXTRA}.", stacklevel=4)
        return
    shutil.copy(model, folder / SEQUENCE_MODEL)
    licence = distribution("silero-vad").read_text("licenses/LICENSE") or "MIT, https://github.com/snakers4/silero-vad"
    (folder / SILERO_LICENCE).write_text(licence, encoding="utf-8")
