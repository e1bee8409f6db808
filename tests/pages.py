"""The pages of the documents, their code blocks, and a process that runs one."""

import importlib.util
import os
import re
import shlex
from pathlib import Path

from tests.forked import run_python

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", flags=re.MULTILINE | re.DOTALL)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    """The fenced blocks of a page in one language."""
    return [code for _, tag, code in FENCE.findall(page.read_text()) if tag == language]


def commands(page):
    """The commands in the bash blocks of a page, as lists of words; comments and [optional parts] are left out."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    lines = [line for line in lines if line.strip() and not re.fullmatch(r"[A-Z]+=\S+", line)]  # without assignments
    return [shlex.split(re.sub(r"\[--.*?\]|  #.*", "", line)) for line in lines]


def inline_code(page):
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))


def run_alone(code, folder, **variables):
    """A snippet in a process of its own: only what the page says is imported."""
    (folder / "snippet.py").write_text(code)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | variables
    done = run_python("snippet.py", environment=environment, folder=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
