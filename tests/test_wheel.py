"""The wheel, outside of the checkout: without extras and with each, what it is for runs or says what it wants."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from modeling_oskdft.export.folder import PAGES
from tests.bare import bare_site
from tests.tiny import tiny_teacher

ROOT = Path(__file__).resolve().parents[1]
START = "import sys; from modeling_oskdft.commands.main import main; sys.argv[0] = 'oskdft'; sys.exit(main())"


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

    def run(extra, *words, start=START, folder=None):
        variables = {
            "PYTHONPATH": str(make(extra)),
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-S", "-P", "-c", start, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=folder or make(extra).parent)

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


def test_without_extras_a_verifier_decides_and_embeds_and_is_described(environment, saved_verifier, voices, tmp_path):
    recordings = sorted(voices.rglob("*.flac"))[:2]
    shutil.copytree(saved_verifier, tmp_path / "model")
    model = ["--model", tmp_path / "model"]
    decides(environment("", "verify", *recordings, *model))
    fine(environment("", "embed", voices / "voice000", *model, "--out", tmp_path / "e.csv"))
    fine(environment("", "card", tmp_path / "model"))
    for words, extra in (
        (["prepare-folder", voices, "--out", tmp_path / "m.parquet"], "train"),
        (["embed", recordings[0], *model, "--out", tmp_path / "e.parquet"], "train"),
        (["export", tmp_path / "model", "--out", tmp_path / "x"], "export"),
        (["train", "r.yaml"], "train"),
    ):
        done = environment("", *words)
        assert done.returncode == 2, done.stderr
        assert f"pip install 'modeling-oskdft[{extra}]'" in done.stderr and "Traceback" not in done.stderr


def test_with_export_a_verifier_leaves_python(environment, saved_verifier, voices, tmp_path):
    fine(environment("export", "export", saved_verifier, "--out", tmp_path / "exported"))
    words = ["--int8", "--calibration", voices / "voice000", "--out", tmp_path / "int8"]
    fine(environment("export", "export", saved_verifier, *words))
    recordings = sorted(voices.rglob("*.flac"))[:2]
    decides(environment("export", "verify", *recordings, "--model", tmp_path / "int8"))


def test_with_train_a_student_is_trained_and_evaluated(environment, voices, feature_extractor, tmp_path):
    tiny_teacher("hubert", True, "group").save_pretrained(tmp_path / "teacher")
    feature_extractor.save_pretrained(tmp_path / "teacher")
    fine(environment("train", "prepare-folder", voices, "--out", tmp_path / "m.parquet"))
    fine(environment("train", "split", tmp_path / "m.parquet", "--test", "3", "--out", tmp_path / "split"))
    words = ["--teacher", tmp_path / "teacher", "--train_data", tmp_path / "split/train.parquet", "--max_steps", "2"]
    words += [
        "--head_type",
        "statistics_pooling",
        "--per_device_train_batch_size",
        "4",
        "--validation_fraction",
        "0.3",
    ]
    words += ["--output_dir", tmp_path / "run", "--crop_seconds", "0.5", "--use_cpu", "true"]
    done = fine(environment("train", "train", *words))
    assert "2 steps of 4 crops" in done.stderr and "next: oskdft verify A.wav B.wav --model" in done.stderr
    words = ["--data", tmp_path / "split/test.parquet", "--trials", tmp_path / "split/trials.txt"]
    assert "EER" in fine(environment("train", "evaluate", tmp_path / "run", *words)).stdout
    recording = next(voices.rglob("*.flac"))
    fine(environment("train", "augment", recording, "--out", tmp_path / "heard"))


@pytest.mark.parametrize(("extra", "module"), [("peft", "peft"), ("metrics", "evaluate"), ("space", "gradio")])
def test_the_other_extras_bring_what_they_name(environment, extra, module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed beside the tests")
    fine(environment(extra, start=f"import {module}, modeling_oskdft"))


def test_the_benchmark_of_the_page_wants_a_clone(environment):
    done = environment("train", "benchmark", "space")
    assert done.returncode == 2 and "run this benchmark in a clone of the repository" in done.stderr


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


def test_nothing_is_reported_home(exported, voices, watcher, tmp_path):
    """Left alone, onnxruntime for Linux writes a device id and events below the home folder, and looks up a host."""
    home, sockets = tmp_path / "home", tmp_path / "sockets"
    home.mkdir()
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    environment |= {"LD_PRELOAD": str(watcher), "SOCKETS": str(sockets)}
    page = [str(exported / "verify.py"), *recordings]
    command = ["-m", "modeling_oskdft.commands", "verify", *recordings, "--model", str(exported)]
    for words in (page, command):
        decides(subprocess.run([sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True))
    assert [file for file in home.rglob("*") if "icrosoft" in str(file) or "onnxruntime" in file.name] == []
    assert not sockets.exists()
    for seen in ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "socket.getaddrinfo('127.0.0.1', 9)"):
        subprocess.run([sys.executable, "-c", f"import socket; {seen}"], env=environment, check=True)
    assert sockets.read_text().split() == ["2", "127.0.0.1"]  # the watcher does watch
