"""The names and places that programs import keep working."""

import importlib
import os
import re
import warnings

import pytest

import modeling_oskdft
from tests.forked import run_python

MOVED = [
    ("modeling_oskdft.audio", ("load_audio", "AUDIO_EXTENSIONS", "SAMPLING_RATE")),
    ("modeling_oskdft.verification", ("SpeakerVerifier", "speech_frames", "speech_seconds")),
    ("modeling_oskdft.runtimes", ("TorchEmbedder", "OnnxEmbedder")),
]


def test_every_public_name_is_lazy_and_there():
    for name in modeling_oskdft.__all__:
        assert getattr(modeling_oskdft, name) is not None
    assert set(modeling_oskdft.__all__) <= set(dir(modeling_oskdft))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        assert modeling_oskdft.nothing


@pytest.mark.parametrize(("place", "names"), MOVED)
def test_an_old_place_warns_once_and_gives_the_same_object(place, names, tmp_path):
    lines = "\n".join(f"from {place} import {name}\nassert {name} is not None" for name in names)
    program = (
        "import warnings\nwith warnings.catch_warnings(record=True) as seen:\n    warnings.simplefilter('always')\n"
    )
    program += "".join(f"    {line}\n" for line in lines.splitlines())
    program += "said = [str(warning.message) for warning in seen if 'has moved' in str(warning.message)]\n"
    program += "assert len(said) == 1, said\nprint(said[0])\n"
    program += f"import importlib.util\nassert importlib.util.find_spec({place!r}).name == {place!r}\n"
    done = run_python("-c", program, environment=os.environ, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    new = re.search(r"import it from '(.*)'", done.stdout)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert getattr(importlib.import_module(place), names[0]) is getattr(importlib.import_module(new), names[0])
