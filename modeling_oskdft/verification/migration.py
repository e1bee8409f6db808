"""Embed the recordings of enrolled voices anew, when the model changes."""

from pathlib import Path

from ..audio.loading import AUDIO_EXTENSIONS
from .verifier import SpeakerVerifier
from .voices import Voice, VoiceStore


def migrate_voices(store: VoiceStore, model: str, recordings: str | Path, backend: str = "auto") -> int:
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
    for known in store.voices().values():
        consent = known.facts[0].consent
        verifier.enroll(known.name, list(_recordings_of(known.name, Path(recordings))), consent)
        voices.append(verifier.voices.get(known.name))
    store.replace_all(voices)
    return len(voices)


def _recordings_of(name: str, folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder at '{folder}': give the folder with the recordings.")
    inside = sorted((folder / name).iterdir()) if (folder / name).is_dir() else sorted(folder.iterdir())
    found = [
        str(file)
        for file in inside
        if file.suffix.lower() in AUDIO_EXTENSIONS and (file.parent != folder or file.stem == name)
    ]
    if not found:
        raise FileNotFoundError(
            f"'{folder}' has no recordings of '{name}': put them into a folder of that name, or forget the voice."
        )
    return found
