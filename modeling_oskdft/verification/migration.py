"""Embed the recordings of enrolled voices anew, when the model changes."""

import unicodedata
from pathlib import Path

from ..audio.loading import AUDIO_EXTENSIONS
from .verifier import SpeakerVerifier
from .voice import Voice, Voices


def migrate_voices(store: Voices, model: str, recordings: str | Path, backend: str = "auto") -> int:
    """Replace all voices of a store by those of another model; nothing changes unless all can be embedded.

    Args:
        store: the voices.
        model: folder or repository of the new verifier.
        recordings: folder with a folder of recordings for each name, or a recording named after it.
        backend: runtime of the new verifier.

    Returns:
        The number of voices.

    Raises:
        FileNotFoundError: naming the first voice without recordings.
        ValueError, OSError: as `SpeakerVerifier.enroll` does.
    """
    verifier = SpeakerVerifier.from_pretrained(model, backend=backend)
    voices: list[Voice] = []
    before = dict(store.voices())
    for known in before.values():
        consent = "; ".join(dict.fromkeys(fact.consent for fact in known.facts if fact.consent))
        verifier.enroll(known.name, list(_recordings_of(known.name, Path(recordings))), consent)
        voices.append(verifier.voices.get(known.name))
    store.replace_all(voices, before)
    return len(voices)


def _recordings_of(name: str, folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder at '{folder}': give the folder with the recordings.")
    # macOS writes names in another form of Unicode than this store.
    here = [
        file
        for file in folder.iterdir()
        if unicodedata.normalize("NFC", file.stem if file.is_file() else file.name) == name
    ]
    inside = [file for place in here for file in (place.iterdir() if place.is_dir() else [place])]
    found = [str(file) for file in sorted(inside) if file.suffix.lower() in AUDIO_EXTENSIONS]
    if not found:
        raise FileNotFoundError(
            f"'{folder}' has no recordings of '{name}': put them into a folder of that name, or forget the voice."
        )
    return found
