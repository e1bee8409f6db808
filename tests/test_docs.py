"""Documents keep their word: tables come from results, links lead somewhere, code runs, names exist."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_oskdft.audio.synthetic_voices import write_voices
from tests.tiny import SHORT, tiny_teacher, tiny_verifier

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", ["README.md", "docs/voxceleb.md", "docs/augmentation.md", "docs/deployment.md", "docs/training.md"]
)
def test_the_tables_are_those_of_the_results(page):
    text = (ROOT / page).read_text()
    assert "<!-- " in text and load(ROOT / "docs" / "render.py").render(text) == text


@pytest.mark.parametrize("name", ["small_speech", "speaker_objectives", "adapt_to_site", "export_int8"])
def test_a_page_of_results_is_rendered_from_them(name):
    import json

    module = load(ROOT / "examples" / f"{name}.py")
    results = json.loads((ROOT / f"docs/results/{name}.json").read_text())
    assert module.page(results) == (ROOT / f"docs/results/{name}.md").read_text()


def test_the_study_s_page_is_rendered_from_its_results():
    import json

    from examples.one_step_or_two.page import NOTES_NAME, page, read

    results = ROOT / "docs" / "results" / "one_step_or_two"
    summary = json.loads(results.with_suffix(".json").read_text())
    assert {name: list(seeds) for name, seeds in read(results).items()} == {
        name: told["seeds"] for name, told in summary["systems"].items()
    }
    assert page(summary, (results / NOTES_NAME).read_text()) == results.with_suffix(".md").read_text()


def test_the_cards_are_those_of_the_results():
    cards = load(ROOT / "docs" / "render.py").cards()
    assert {path.name: path.read_text() for path in (ROOT / "model_cards").glob("*.md")} == {
        path.name: text for path, text in cards.items()
    }
    assert {path.stem for path in cards} >= {"quickstart-student", "small-speech-student"}


@pytest.fixture
def after_the_quickstart(tmp_path, feature_extractor) -> Path:
    """A folder of its own with what the quickstart leaves there: a student with thresholds, and a voice."""
    folder = tmp_path / "quickstart"
    tiny_verifier(encoder=SHORT).save_pretrained(folder / "student")
    feature_extractor.save_pretrained(folder / "student")
    voices = write_voices(tmp_path / "v", 1, 2, 1)
    shutil.copytree(next(voices.iterdir()), folder / "voices" / "seed0-96x4x4" / "voice060")
    return tmp_path


def run_alone(code, folder):
    """A snippet in a process of its own: only what the page says is imported."""
    (folder / "snippet.py").write_text(code)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "snippet.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hub_page_s_code_runs(after_the_quickstart):
    pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/hub.md").read_text(), flags=re.DOTALL)
    assert "trainable params" in run_alone(code, after_the_quickstart)
    assert (after_the_quickstart / "site/adapter_model.safetensors").is_file()


def test_every_command_that_a_document_names_exists():
    """`oskdft NAME --option` in a code block: the name, and every option of it."""
    from modeling_oskdft.commands.main import parser
    from modeling_oskdft.training.arguments import recipe_parser

    seen = 0
    commands = parser()._subparsers._group_actions[0].choices
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for name, rest in re.findall(r"^ {4}oskdft ([a-z0-9-]+)(.*)$", text, flags=re.MULTILINE):
            actions = recipe_parser()._actions if name == "train" else commands[name]._actions
            options = {option for action in actions for option in action.option_strings} | {"--help"}
            options |= {"--field"} if name == "train" else set()  # any field, as the pages write it
            seen += 1
            assert set(re.findall(r"--[a-z0-9_]+", rest)) <= options, (page.name, name, rest)
    assert seen > 10


@pytest.mark.parametrize("name", ["one_machine", "two_nodes"])
def test_accelerate_reads_the_configurations(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "examples" / "accelerate" / f"{name}.yaml"))
    assert config.num_processes == (8 if name == "one_machine" else 16)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)|src(?:set)?=\"([^\"]+)\"", text):
        link = next(part for part in target if part)
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_every_test_that_the_deviations_name_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/deviations.md").read_text()))
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    missing = {name for name in named if f"def {name}(" not in tests}
    assert named and not missing


def test_the_readme_s_code_runs(after_the_quickstart):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(code) == 3
    assert "tensor(" in run_alone(code[0], after_the_quickstart)
    assert "no threshold" in run_alone(code[1], after_the_quickstart)
    tiny_teacher().save_pretrained(after_the_quickstart / "facebook" / "hubert-base-ls960")  # a folder of that name
    run_alone(code[2], after_the_quickstart)


def test_every_field_of_the_training_page_exists():
    from modeling_oskdft.training.arguments import recipe_parser

    known = {option.removeprefix("--") for action in recipe_parser()._actions for option in action.option_strings}
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (ROOT / "docs/training.md").read_text(), flags=re.MULTILINE)
    names = {name for row in table for name in re.findall(r"`(\w+)`", row)}
    assert len(names) > 8 and names <= known, names - known


def test_every_public_name_is_in_a_document():
    import modeling_oskdft

    text = "".join(page.read_text() for page in PAGES)
    public = [name for name in modeling_oskdft.__all__ if not name.startswith("__")]
    assert not [name for name in public if name not in text]


@pytest.mark.parametrize("name", ["OSKDFTModel", "OSKDFTForXVector"])
def test_the_examples_of_docstrings_run(name):
    import doctest

    import torch

    import modeling_oskdft

    finder = doctest.DocTestFinder(recurse=False)
    globals_ = {"torch": torch, "OSKDFTConfig": modeling_oskdft.OSKDFTConfig, name: getattr(modeling_oskdft, name)}
    (example,) = finder.find(getattr(modeling_oskdft, name), name, globs=globals_)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted == 2 and result.failed == 0


def test_the_deployment_page_s_commands_and_code_run(exported, after_the_quickstart):
    """Those that use an export; writing one is tests/test_export.py."""
    text = (ROOT / "docs/deployment.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    shutil.copytree(exported, after_the_quickstart / "exported")
    assert run_alone(code, after_the_quickstart) in ("True\n", "False\n")
    commands = re.findall(r"^ {4}(oskdft verify|python exported/verify.py) (.*)$", text, flags=re.MULTILINE)
    assert [name for name, _ in commands] == ["oskdft verify", "python exported/verify.py"]
    starts = (
        [sys.executable, "-m", "modeling_oskdft.commands", "verify"],
        [sys.executable, "exported/verify.py"],
    )
    codes = [
        subprocess.run([*start, *words.split()], cwd=after_the_quickstart, capture_output=True).returncode
        for start, (_, words) in zip(starts, commands, strict=True)
    ]
    assert codes in ([0, 0], [1, 1])
