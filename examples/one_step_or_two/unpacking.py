"""Copy a folder of compressed audio as WAV: decoding Opus for every crop takes longer than a training step."""

import shutil
from pathlib import Path

import soundfile

COMPRESSED = {".ogg", ".opus", ".mp3"}


def unpacked(source: Path, target: Path) -> Path:
    """Copy every file of a folder: compressed audio as 16-bit WAV, manifest.csv with the new names.

    Args:
        source: folder to copy.
        target: the copy; a file that is there already stays.

    Returns:
        `target`.
    """
    for file in sorted(source.rglob("*")):
        copy = target / file.relative_to(source)
        if file.is_dir():
            continue
        compressed = file.suffix.lower() in COMPRESSED
        copy = copy.with_suffix(".wav") if compressed else copy
        if copy.exists():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = copy.with_name(f"{copy.name}.partial")
        if compressed:
            samples, rate = soundfile.read(file, dtype="float32")
            soundfile.write(partial, samples, rate, subtype="PCM_16", format="WAV")
        elif file.name == "manifest.csv":
            text = file.read_text(encoding="utf-8")
            for suffix in COMPRESSED:
                text = text.replace(f"{suffix},", ".wav,")
            partial.write_text(text, encoding="utf-8")
        else:
            shutil.copyfile(file, partial)
        partial.rename(copy)
    return target
