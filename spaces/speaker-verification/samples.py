"""Write recordings to click: made-up voices, anew at every start, so that nobody's speech is in the repository."""

from pathlib import Path

import numpy as np
import soundfile

from modeling_oskdft.audio.loading import SAMPLING_RATE
from modeling_oskdft.audio.synthetic_voices import draw_session, draw_voice, synthesise

# Voice, session and seconds of each file; a session has its own microphone, room and level.
FILES = {
    "ada-desk.flac": (11, 0, 4.0),
    "ada-phone.flac": (11, 1, 4.0),
    "ben-desk.flac": (12, 0, 4.0),
    "ben-short.flac": (12, 1, 0.6),
}
PAIRS = {
    "sample_same": ("ada-desk.flac", "ada-phone.flac"),
    "sample_other": ("ada-desk.flac", "ben-desk.flac"),
    "sample_short": ("ben-desk.flac", "ben-short.flac"),
}


def write_samples(folder: Path) -> Path:
    """Write the files of `FILES` to a folder that is there; returns it."""
    for name, (voice, session, seconds) in FILES.items():
        generator = np.random.default_rng([voice, session])
        setting = draw_session(generator)
        waveform = synthesise(draw_voice(np.random.default_rng(voice)), setting, seconds, generator)
        soundfile.write(folder / name, waveform, SAMPLING_RATE)
    return folder
