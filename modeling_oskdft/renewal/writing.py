"""Write a renewed verifier as a folder of its own: weights, thresholds, calibration, what was measured, and a card."""

import shutil
from pathlib import Path

from ..embedding.locations import find, locate, name_of_model
from ..files import replaced_folder, write_json
from ..hub.card_facts import RENEWAL_NAME, RESULTS_NAME
from ..hub.model_card import Statements, read_statements, write_card
from ..model.companions_oskdft import CARD_NAME
from .renewing import RECALIBRATED, Renewal


def write_renewal(renewal: Renewal, model: str, out: str | Path, revision: str | None = None) -> Path:
    """Write the renewed verifier, whole or not at all.

    Args:
        renewal: with a candidate.
        model: folder or repository of the verifier in use, whose name, statements and results the new card keeps.
        out: folder that does not exist, or is empty.
        revision: of the repository.

    Returns:
        The folder.

    Raises:
        ValueError: for a folder with files in it.
    """
    check_free(out)
    candidate = renewal.candidate
    assert candidate is not None
    with replaced_folder(out) as folder:
        candidate.model.save_pretrained(folder)
        renewal.feature_extractor.save_pretrained(folder)
        for measured in (candidate.thresholds, candidate.calibration, candidate.cohort):
            if measured is not None:
                measured.save(folder)
        facts = {"decision": renewal.decision, "reasons": list(renewal.reasons), "renewed": name_of_model(model)}
        facts |= {"fingerprint": candidate.model.fingerprint(), **renewal.facts}
        write_json(facts, folder / RENEWAL_NAME)
        results = find(locate(model, revision), RESULTS_NAME)
        if renewal.decision == RECALIBRATED and results is not None:  # of the same weights
            shutil.copyfile(results, folder / RESULTS_NAME)
        card = find(locate(model, revision), CARD_NAME)
        stated = None if card is None else read_statements(Path(card).parent)
        write_card(folder, Path(out).resolve().name, Statements() if stated is None else stated[1])
    return Path(out)


def check_free(out: str | Path) -> None:
    """Refuse a folder that has files: the verifier in use is never written over.

    Args:
        out: the folder to write.

    Raises:
        ValueError: naming it.
    """
    place = Path(out)
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise ValueError(f"'{out}' is not empty: a renewed verifier gets a folder of its own; give another name.")
