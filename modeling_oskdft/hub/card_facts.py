"""Collect the facts of a saved verifier that its card shows: shape, size, thresholds, results of training.

The facts are plain JSON, so that the same page can be rendered from them at any time: see `model_card.render`.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..audio.loading import SAMPLING_RATE, Waveform
from ..audio.synthetic_voices import draw_session, draw_voice, synthesise
from ..embedding.opening import open_verifier
from ..embedding.runtimes import TorchEmbedder
from ..files import read_json
from ..model.modeling_oskdft import OSKDFTForXVector
from ..scoring.calibration import CALIBRATION_NAME, Calibration
from ..scoring.normalization import COHORT_NAME, Cohort
from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds
from ..verification.verifier import SpeakerVerifier

RESULTS_NAME = "results.json"
RENEWAL_NAME = "renewal.json"  # as `oskdft renew` writes it
# Entries of results.json that the card shows.
RESULTS_SHOWN = (
    "selection_eer",
    "encoders",
    "data",
    "recipe",
    "teachers",
    "test",
    "seed",
    "steps",
    "seconds",
    "machine",
    "versions",
)
CALIBRATION_SHOWN = ("cllr", "min_cllr", "trials", "speakers", "data", "duration", "cohort")
ROBUSTNESS_NAME = "robustness.json"  # as `examples/robustness.py --out MODEL/robustness` writes it
Measured = TypeVar("Measured", Thresholds, Calibration, Cohort)
FAMILY_NAMES = {"hubert": "HuBERT", "wav2vec2": "wav2vec 2.0", "wavlm": "WavLM"}
HEAD_NAMES = {"ecapa_tdnn": "ECAPA-TDNN", "statistics_pooling": "statistics pooling and a linear layer"}
EXAMPLE_VOICE, EXAMPLE_SECONDS = 7, 4.0  # seed of the synthetic voice; length of each of its recordings


def collect_facts(folder: str | Path) -> dict[str, Any]:
    """Collect the facts of the verifier in a folder.

    Args:
        folder: a folder that `save_pretrained` wrote, with `thresholds.json` and training's `results.json` where they
            were measured. Measurements of other weights are left out.

    Returns:
        The facts by name, as JSON can store them; None for an entry that was not measured.

    Raises:
        FileNotFoundError: when there is no folder.
        ValueError: for a verifier that cannot be opened, and for damaged results or thresholds.
    """
    place = Path(folder)
    model, feature_extractor = open_verifier(str(place))
    fingerprint = model.fingerprint()
    results = _read_results(place / RESULTS_NAME, fingerprint)
    thresholds = _of_these_weights(Thresholds, place / THRESHOLDS_NAME, fingerprint)
    calibration = _of_these_weights(Calibration, place / CALIBRATION_NAME, fingerprint)
    cohort = _of_these_weights(Cohort, place / COHORT_NAME, fingerprint)
    verifier = SpeakerVerifier(TorchEmbedder(model, feature_extractor), thresholds, calibration, cohort)
    config = model.config
    measured = None if thresholds is None else asdict(thresholds)
    return {
        "name": place.resolve().name,
        "fingerprint": fingerprint,
        "student": _describe_student(model) | {"bytes": _size_of_weights(place)},
        "teacher": {"name": config.teacher_name_or_path, "layers": config.teacher_layers},
        "thresholds": measured and {name: value for name, value in measured.items() if name != "quantiles"},
        "calibration": calibration and {name: getattr(calibration, name) for name in CALIBRATION_SHOWN},
        "cohort_speakers": cohort and len(cohort.embeddings),
        "renewal": _read_renewal(place / RENEWAL_NAME, fingerprint),
        "robustness": _read_robustness(place / ROBUSTNESS_NAME, fingerprint),
        "example": run_example(verifier),
        **{name: results.get(name) for name in RESULTS_SHOWN},
    }


def run_example(verifier: SpeakerVerifier) -> str:
    """Run the calls of the card's first example on `example_recordings`.

    The calls themselves, not the text of the example: the name of a folder must never become code.

    Returns:
        The line that the example prints: decision and score.
    """
    first, second = ((waveform, SAMPLING_RATE) for waveform in example_recordings())
    result = verifier.verify(first, second)
    return f"{result.same_speaker} {round(result.score, 2)}"


def example_recordings() -> tuple[Waveform, Waveform]:
    """Synthesise two recordings of one voice, (samples,) at 16 kHz, with the values that a 16-bit file can hold."""
    voice = draw_voice(np.random.default_rng(EXAMPLE_VOICE))

    def recording(number: int) -> Waveform:
        generator = np.random.default_rng([EXAMPLE_VOICE, number])
        waveform = synthesise(voice, draw_session(generator), EXAMPLE_SECONDS, generator)
        return np.round(waveform * 2**15).astype(np.float32) / np.float32(2**15)

    return recording(0), recording(1)


def _describe_student(model: OSKDFTForXVector) -> dict[str, Any]:
    config, encoder = model.config, model.config.encoder_config
    return {
        "family": FAMILY_NAMES[encoder.model_type],
        "layers": encoder.num_hidden_layers,
        "hidden_size": encoder.hidden_size,
        "adapter_size": config.adapter_size,
        "head": HEAD_NAMES[config.head_type],
        "embedding_size": config.embedding_size,
        "parameters": model.num_parameters(),
        "encoder_parameters": model.oskdft.num_parameters(),
    }


def _size_of_weights(folder: Path) -> int:
    """Count the bytes of the files of weights, in one piece or in shards."""
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))


def _read_results(path: Path, fingerprint: str) -> dict[str, Any]:
    """Read the results of training; empty where there are none, or none of these weights."""
    if not path.is_file():
        return {}
    try:
        results = read_json(path)
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}): take it away, or train again.") from None
    return results if results.get("fingerprint") == fingerprint else {}


def _read_renewal(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read what `oskdft renew` measured; None where there is nothing, or nothing of these weights."""
    if not path.is_file():
        return None
    facts = read_json(path)
    return facts if facts.get("fingerprint") == fingerprint else None


def _read_robustness(path: Path, fingerprint: str) -> list[dict[str, Any]] | None:
    """Read the rows of `examples/robustness.py`; None where there are none, or none of these weights."""
    if not path.is_file():
        return None
    results = read_json(path)
    if results.get("fingerprints", {}).get("student") != fingerprint:
        return None
    return [{name: row[name] for name in ("kind", "condition", "student", "warned")} for row in results["rows"]]


def _of_these_weights(kind: type[Measured], path: Path, fingerprint: str) -> Measured | None:
    """Read a measurement; None where there is none, or none of these weights."""
    if not path.is_file():
        return None
    measured = kind.load(path)
    return measured if measured.fingerprint == fingerprint else None
