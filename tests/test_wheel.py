"""The wheel, outside of the checkout: without extras and with each, what it is for runs or says what it wants."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from modeling_oskdft.export.folder import PAGES
from tests.bare import bare_site
from tests.tiny import tiny_teacher

ROOT = Path(__file__).resolve().parents[1]
# Several commands in one process: to begin one takes seconds.
COMMANDS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
sys.argv[0] = "oskdft"
from modeling_oskdft.commands.main import main
for words in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that the checkout stays clean."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "train_oskdft.py"):
        shutil.copy(ROOT / name, place / name)
    shutil.copytree(ROOT / "modeling_oskdft", place / "modeling_oskdft", ignore=shutil.ignore_patterns("__pycache__"))
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools, which builds the wheel, is not installed beside the tests")
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place / "out"), str(place)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next((place / "out").glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A Python with the wheel, what it requires, what one extra requires, and nothing else."""
    made = {}

    def make(extra=""):
        if extra not in made:
            site = tmp_path_factory.mktemp("site") / (extra or "none")
            with zipfile.ZipFile(wheel) as archive:
                (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
                metadata = Parser().parsestr(archive.read(name).decode())
            wanted = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
            names = [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})]
            bare_site(site, tuple(names))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            made[extra] = site
        return made[extra]

    def run(extra, code, *words):
        variables = {
            "PYTHONPATH": str(make(extra)),
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-S", "-P", "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=make(extra).parent)
        assert done.returncode == 0, done.stderr[-1500:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def oskdft(environment):
    """Runs commands in the environment of an extra, one after the other."""

    def run(extra, *commands):
        lines = environment(extra, COMMANDS, json.dumps([[*map(str, words)] for words in commands])).splitlines()
        return [Done(*json.loads(line)) for line in lines]

    return run


def fine(done):
    assert done.returncode == 0, done.stderr[-1500:]
    return done


def decides(done):
    """Python ends with 1 as well, where something is raised: that the score was printed says that it is a decision."""
    assert done.returncode in (0, 1) and "(score " in done.stdout, done.stderr


def test_the_wheel_holds_what_travels(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"modeling_oskdft/{page}" for page in PAGES} <= names
    assert {"modeling_oskdft/py.typed", "modeling_oskdft/hub/card_template.md", "train_oskdft.py"} <= names
    assert not [name for name in names if name.startswith(("tests", "spaces", "examples", "docs"))]


def test_without_extras_a_verifier_decides_and_embeds_and_is_described(oskdft, saved_verifier, voices, tmp_path):
    recordings = sorted(voices.rglob("*.flac"))[:2]
    shutil.copytree(saved_verifier, tmp_path / "model")
    model = ["--model", tmp_path / "model"]
    decide_and_describe = [
        ["verify", *recordings, *model],
        ["embed", voices / "voice000", *model, "--out", tmp_path / "e.csv"],
        ["card", tmp_path / "model"],
    ]
    wants = [
        ("train", ["prepare-folder", voices, "--out", tmp_path / "m.parquet"]),
        ("train", ["embed", recordings[0], *model, "--out", tmp_path / "e.parquet"]),
        ("export", ["export", tmp_path / "model", "--out", tmp_path / "x"]),
        ("train", ["train", "r.yaml"]),
    ]
    verified, embedded, described, *refused = oskdft("", *decide_and_describe, *(words for _, words in wants))
    decides(verified)
    fine(embedded)
    fine(described)
    for (extra, _), done in zip(wants, refused, strict=True):
        assert done.returncode == 2, done.stderr
        assert f"pip install 'modeling-oskdft[{extra}]'" in done.stderr and "Traceback" not in done.stderr


def test_with_export_a_verifier_leaves_python(oskdft, saved_verifier, voices, tmp_path):
    words = ["--int8", "--calibration", voices / "voice000", "--out", tmp_path / "int8"]
    recordings = sorted(voices.rglob("*.flac"))[:2]
    exported, quantised, verified = oskdft(
        "export",
        ["export", saved_verifier, "--out", tmp_path / "exported"],
        ["export", saved_verifier, *words],
        ["verify", *recordings, "--model", tmp_path / "int8"],
    )
    fine(exported)
    fine(quantised)
    decides(verified)


def test_with_train_a_student_is_trained_and_evaluated(oskdft, voices, feature_extractor, tmp_path):
    tiny_teacher("hubert", True, "group").save_pretrained(tmp_path / "teacher")
    feature_extractor.save_pretrained(tmp_path / "teacher")
    words = ["--teacher", tmp_path / "teacher", "--train_data", tmp_path / "split/train.parquet", "--max_steps", "2"]
    words += ["--head_type", "statistics_pooling", "--per_device_train_batch_size", "4"]
    words += ["--validation_fraction", "0.3", "--output_dir", tmp_path / "run", "--crop_seconds", "0.5"]
    tested = ["--data", tmp_path / "split/test.parquet", "--trials", tmp_path / "split/trials.txt"]
    commands = [
        ["prepare-folder", voices, "--out", tmp_path / "m.parquet"],
        ["split", tmp_path / "m.parquet", "--test", "3", "--out", tmp_path / "split"],
        ["train", *words, "--use_cpu", "true"],
        ["evaluate", tmp_path / "run", *tested],
        ["augment", next(voices.rglob("*.flac")), "--out", tmp_path / "heard"],
        ["benchmark", "space"],
    ]
    *all_done, needs_a_clone = oskdft("train", *commands)
    for done in all_done:
        fine(done)
    _, _, trained, evaluated, _ = all_done
    assert "2 steps of 4 crops" in trained.stderr and "next: oskdft verify A.wav B.wav --model" in trained.stderr
    assert "EER" in evaluated.stdout
    assert needs_a_clone.returncode == 2
    assert "run this benchmark in a clone of the repository" in needs_a_clone.stderr


@pytest.mark.parametrize(("extra", "module"), [("peft", "peft"), ("metrics", "evaluate"), ("space", "gradio")])
def test_the_other_extras_bring_what_they_name(environment, extra, module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed beside the tests")
    environment(extra, f"import {module}, modeling_oskdft")


WATCHER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    FILE *log = fopen(getenv("SOCKETS"), "a");
    if (log) { fprintf(log, "%s\n", node ? node : ""); fclose(log); }
    return ((int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))
            dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, found);
}
int socket(int family, int type, int protocol) {
    FILE *log = family == AF_UNIX ? NULL : fopen(getenv("SOCKETS"), "a");
    if (log) { fprintf(log, "%d\n", family); fclose(log); }
    return ((int (*)(int, int, int))dlsym(RTLD_NEXT, "socket"))(family, type, protocol);
}
"""


@pytest.fixture(scope="module")
def watcher(tmp_path_factory):
    """A library that writes down the sockets and the look-ups of a process, also below Python."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler for Linux, with which sockets are watched")
    place = tmp_path_factory.mktemp("watcher")
    (place / "watcher.c").write_text(WATCHER)
    words = [compiler, "-shared", "-fPIC", "-o", str(place / "watcher.so"), str(place / "watcher.c"), "-ldl"]
    subprocess.run(words, check=True)
    return place / "watcher.so"


@pytest.fixture
def watched(watcher, tmp_path):
    """Runs Python with a home of its own, where libraries that report home are left to do it."""
    home, sockets = tmp_path / "home", tmp_path / "sockets"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    environment |= {"LD_PRELOAD": str(watcher), "SOCKETS": str(sockets)}
    yield lambda *words: subprocess.run(
        [sys.executable, *map(str, words)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    traces = ("icrosoft", "onnxruntime", "intel", "openvino")
    assert [file for file in home.rglob("*") if any(name in str(file.relative_to(home)) for name in traces)] == []
    assert not sockets.exists()
    for seen in ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "socket.getaddrinfo('127.0.0.1', 9)"):
        subprocess.run([sys.executable, "-c", f"import socket; {seen}"], env=environment, check=True)
    assert sockets.read_text().split() == ["2", "127.0.0.1"]  # the watcher does watch


def test_nothing_is_reported_home(exported, voices, watched):
    """Left alone, onnxruntime for Linux writes a device id and events below the home folder, and looks up a host."""
    recordings = sorted(voices.rglob("*.flac"))[:2]
    decides(watched(exported / "verify.py", *recordings))
    decides(watched("-m", "modeling_oskdft.commands", "verify", *recordings, "--model", exported))


def test_nothing_is_reported_home_by_openvino(saved_verifier, voices, watched, tmp_path):
    """Left alone, OpenVINO writes an id and counts below the home folder, and sends its import to its vendor."""
    if importlib.util.find_spec("nncf") is None:  # it sends usage data by the same package
        pytest.skip("openvino and nncf are not installed: pip install 'modeling-oskdft[openvino]'")
    recordings, out = sorted(voices.rglob("*.flac"))[:2], tmp_path / "exported"
    words = ["--format", "openvino", "--int8", "--calibration", voices, "--out", out]
    fine(watched("-m", "modeling_oskdft.commands", "export", saved_verifier, *words))
    decides(watched(out / "verify.py", *recordings))
    decides(watched("-m", "modeling_oskdft.commands", "verify", *recordings, "--model", out))
