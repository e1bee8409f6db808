"""Code and commands of the documents run on tiny models; those that cannot are taken by the real parsers."""

import argparse
import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.pages import FENCE, PAGES, ROOT, blocks, commands, inline_code, name_of, run_alone
from tests.scoring.test_calibration import calibration
from tests.service.serving import served
from tests.tiny import tiny_teacher


@pytest.fixture
def after_the_quickstart(tmp_path, saved_verifier, voices) -> Path:
    """A folder of its own with what the quickstart leaves there: a student with thresholds, and voices."""
    folder = tmp_path / "quickstart"
    shutil.copytree(saved_verifier, folder / "student")
    shutil.copytree(voices, folder / "voices" / "seed0-96x4x4")
    *_, before, last = sorted((folder / "voices" / "seed0-96x4x4").iterdir())
    before.rename(before.with_name("voice060"))
    last.rename(last.with_name("voice061"))
    fingerprint = json.loads((folder / "student" / "thresholds.json").read_text())["fingerprint"]
    calibration(fingerprint=fingerprint).save(folder / "student")
    tiny_teacher().save_pretrained(tmp_path / "facebook" / "hubert-base-ls960")  # a folder with the name of the Hub's
    return tmp_path


# What a snippet prints, as a pattern; one that opens a repository on the Hub is compiled and not run.
PRINTED = {
    ("README.md", 0): r"(True|False) [01]\.\d+ \(.*\n\(Match\(name='Ada', score=",
    ("docs/decisions.md", 0): r"\S+ \S+ [01]\.\d+ (True|False) \S+\n",
    ("docs/decisions.md", 1): r"[01]\.\d+\n\(Match\(name=",
    ("docs/deployment.md", 0): r"(True|False)\n",
    ("docs/evaluation.md", 0): r"EER 0.0 % at 0.58, minDCF 0.00\n",
    ("docs/hub.md", 0): None,
    ("docs/hub.md", 1): r"trainable params: [\d,]+ ",
    ("docs/index.md", 0): r"(True|False) \S+ \S+ \(",
    ("docs/index.md", 1): r"\(2, 12\) \[\[1.0, ",
    ("docs/index.md", 2): r"tensor\(",
    ("docs/training.md", 0): r"$",
    ("docs/training.md", 1): r"torch.Size\(\[1, 3\]\)\n",
}


def test_every_snippet_is_listed_and_every_block_has_a_language_that_is_tested():
    found = {(name_of(page), n) for page in PAGES for n in range(len(blocks(page, "python")))}
    assert found == set(PRINTED)
    for page in PAGES:
        assert {tag for _, tag, _ in FENCE.findall(page.read_text())} <= {"python", "bash", "yaml", "text"}, page.name
        hidden = re.findall(r"^ {4}(?:oskdft|make|pip|python|accelerate) .*$", page.read_text(), flags=re.MULTILINE)
        assert not hidden or page.parent.name == "results", (page.name, hidden)  # those pages are written by programs


@pytest.mark.parametrize(("page", "number"), PRINTED, ids=lambda value: str(value))
def test_a_snippet_runs(page, number, after_the_quickstart, request):
    code = blocks(ROOT / page, "python")[number]
    ast.parse(code)
    if PRINTED[page, number] is None:
        assert '"org/' in code
        return
    if "peft" in code:
        pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")
    if "exported" in code:
        shutil.copytree(request.getfixturevalue("exported"), after_the_quickstart / "exported")
    assert re.match(PRINTED[page, number], run_alone(code, after_the_quickstart))
    assert "peft" not in code or (after_the_quickstart / "site/adapter_model.safetensors").is_file()


RUN = {
    "docs/index.md": ["verify", "embed"],
    "docs/decisions.md": ["verify", "enroll", "identify", "voices", "voices"],
    "docs/evaluation.md": ["prepare-folder", "split", "evaluate", "evaluate"],
    "docs/deployment.md": ["export", "export", "export", "verify", "verify.py"],
    "docs/browser.md": ["export"],
}


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page, after_the_quickstart, monkeypatch, capfd):
    """One after the other, as somebody would type them after the quickstart."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'modeling-oskdft[export]'")
    if page == "docs/browser.md" and shutil.which("npm") is None:
        pytest.skip("npm was not found: install Node.js 20.19 or later")
    from modeling_oskdft.commands.main import main

    monkeypatch.chdir(after_the_quickstart)
    ran = []
    for program, *words in commands(ROOT / page):
        if program == "oskdft" and words[0] not in ("train", "push"):
            ran.append(words[0])
            code = main(words)
        elif words[:1] == ["exported/verify.py"]:
            ran.append("verify.py")
            code = subprocess.run([sys.executable, *words]).returncode
        else:
            continue
        assert code in ((0, 1) if ran[-1].startswith("verify") else (0,)), (words, capfd.readouterr().err)
    assert ran == RUN[page]


def test_the_program_of_cron_puts_a_calibration_into_use(saved_verifier, people_of_now, tmp_path):
    page = blocks(ROOT / "docs/service.md", "text")
    (program,) = (block for block in page if block.startswith("#!/bin/bash"))
    assert any(block.strip().endswith("/srv/verifier/renew.sh") for block in page)
    shutil.copytree(saved_verifier, tmp_path / "models/first")
    (tmp_path / "models/current").symlink_to("first")
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings/now").symlink_to(people_of_now)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    program = program.replace("/srv/verifier", str(tmp_path)).replace(" --old recordings/before", "")
    settings = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(["bash", "-c", program], **settings)
    assert done.returncode == 0, done.stderr
    current = (tmp_path / "models/current").resolve()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", current.name) and (current / "renewal.json").is_file()
    again = subprocess.run(["bash", "-c", program], **settings)
    assert again.returncode == 1 and "a renewed verifier gets a folder of its own" in again.stderr
    assert (tmp_path / "models/current").resolve() == current
    shutil.rmtree(current)
    adapting = tmp_path / "adapting"  # stands for a renewal that adapts the weights
    decision = 'echo \'{"decision": "adapted"}\' > "${@: -1}/renewal.json"\n'
    adapting.write_text(f'#!/bin/bash\nmkdir -p "${{@: -1}}"\n{decision}')
    adapting.chmod(0o755)
    (tmp_path / "models/current").unlink()
    (tmp_path / "models/current").symlink_to("first")
    done = subprocess.run(["bash", "-c", program.replace(".venv/bin/oskdft", str(adapting))], **settings)
    assert done.returncode == 0 and (current / "renewal.json").is_file(), done.stderr
    assert (tmp_path / "models/current").resolve() == tmp_path / "models/first"


def test_the_guide_of_the_service_runs_as_written(after_the_quickstart, monkeypatch, capsys):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed, which the guide uses")
    from modeling_oskdft.commands.main import main

    monkeypatch.chdir(after_the_quickstart)
    page = ROOT / "docs/service.md"
    serve, monitor = (words for words in commands(page) if words[:2] in (["oskdft", "serve"], ["oskdft", "monitor"]))
    (asking,) = (block for block in blocks(page, "bash") if block.startswith("ADA="))
    with served(*serve[2:]) as (_, port):
        done = subprocess.run(
            [
                "bash",
                "-e",
                "-c",
                asking.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("\ncurl", "\necho; curl"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    ready, verified, registered, identified, of_voice, forgotten, judged, *metrics = done.stdout.strip().splitlines()
    assert json.loads(ready) == {"status": "ready"} and json.loads(verified)["score"] == pytest.approx(1, abs=0.2)
    assert json.loads(registered)["recordings"] == 2 and json.loads(identified)["matches"][0]["name"] == "Ada"
    assert (
        json.loads(of_voice)["fingerprint"]
        and forgotten == ""
        and json.loads(judged)["verdict"] in ("too few", "nothing")
    )
    assert "oskdft_voices 0.0" in metrics
    assert main(monitor[1:]) == 2 and "no quantiles of their trials" in capsys.readouterr().err


def test_the_readme_exports_as_the_deployment_page_does():
    (command,) = (words for words in commands(ROOT / "README.md") if words[:2] == ["oskdft", "export"])
    assert command in commands(ROOT / "docs/deployment.md")


def every_action(parser):
    """The arguments of a parser, and of the actions below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from every_action(below)


def check_oskdft(words, is_whole=True):
    """The command's own parser takes the words; of a part of a command, every option exists."""
    from modeling_oskdft.commands.main import parser
    from modeling_oskdft.training.recipe import recipe_parser

    name, *rest = words
    choices = parser()._subparsers._group_actions[0].choices
    actions = recipe_parser()._actions if name == "train" else list(every_action(choices[name]))
    options = {option for action in actions for option in action.option_strings} | {"--help"}
    assert {word for word in rest if word.startswith("--")} <= options, words
    if name == "train" and rest and rest[0].startswith("examples/"):
        assert (ROOT / rest[0]).is_file(), rest[0]
    elif is_whole and "--help" not in rest:
        parser().parse_args(words)


def check_accelerate(words):
    """accelerate's own parser takes the words, and the program that it starts takes the rest."""
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch"
    chosen = launch_command_parser().parse_args(words[1:])
    if chosen.module:
        assert chosen.training_script == "modeling_oskdft.commands"
        check_oskdft(chosen.training_script_args)
    else:
        assert (ROOT / chosen.training_script).is_file()
        assert chosen.config_file is None or (ROOT / chosen.config_file).is_file()
        check_oskdft(["train", *chosen.training_script_args])


def check_python(words):
    from modeling_oskdft.benchmark.__main__ import NAMES

    if words[0] == "-m" and words[1].startswith("examples."):
        words = [f"{words[1].replace('.', '/')}.py", *words[2:]]
    if words[:2] == ["-m", "http.server"]:
        assert words[2] == "--directory" and words[4].isdecimal(), words
    elif words[0] == "-m":
        assert words[1] == "modeling_oskdft.benchmark" and words[2] in {*NAMES, "all"}, words
    elif words[0] != "exported/verify.py":
        source = (ROOT / words[0]).read_text()
        assert all(f'"{word}"' in source for word in words[1:] if word.startswith("--")), words


def check_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[0] == "install"
    for word in words[1:]:
        assert word not in ("-c", "--constraint") or (ROOT / words[words.index(word) + 1]).is_file()
        assert "==" not in word or word in (ROOT / "constraints.txt").read_text().splitlines(), word
        assert set(re.findall(r"\w+", "".join(re.findall(r"\[(.*)\]", word)))) <= set(extras), word


def check_make(words):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(words) <= set(targets), words


def check_curl(words):
    from modeling_oskdft.service import application

    (address,) = (word for word in words if word.startswith("http://127.0.0.1:8000/"))
    route = address.removeprefix("http://127.0.0.1:8000")
    source = Path(application.__file__).read_text()
    assert f'"{route}"' in source or f"service.{route.rpartition('/')[2]}" in source, route


CHECKS = {
    "oskdft": check_oskdft,
    "curl": check_curl,
    "accelerate": check_accelerate,
    "python": check_python,
    "pip": check_pip,
    "make": check_make,
    "source": lambda words: words == [".venv/bin/activate"],
}


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_every_command_of_a_page_is_one_that_its_program_takes(page):
    for program, *words in commands(page):
        CHECKS[program](words)


def test_every_command_within_a_sentence_exists():
    seen = set()
    for page in PAGES:
        for code in inline_code(page):
            program, *words = code.replace("'", "").split()
            if program in ("oskdft", "make", "pip") and words and "=" not in words[0]:
                seen.add(f"{program} {words[0]}")
                check_oskdft(words, is_whole=False) if program == "oskdft" else CHECKS[program](words)
    assert len(seen) > 20


def test_the_recipe_lines_of_the_hub_page_are_fields():
    import yaml

    from modeling_oskdft.training.recipe import recipe_parser

    (code,) = blocks(ROOT / "docs/hub.md", "yaml")
    known = {option.removeprefix("--") for action in recipe_parser()._actions for option in action.option_strings}
    assert set(yaml.safe_load(code)) <= known


@pytest.mark.parametrize("name", ["one_machine", "two_nodes"])
def test_accelerate_reads_the_configurations(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "examples" / "accelerate" / f"{name}.yaml"))
    assert config.num_processes == (8 if name == "one_machine" else 16)


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


def test_the_notebook_runs(tmp_path):
    """Its code cells in one process, in an empty folder, where it trains a student; outputs are not kept."""
    notebook = json.loads((ROOT / "examples/first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    printed = run_alone("\n\n".join("".join(cell["source"]) for cell in cells), tmp_path, MPLBACKEND="agg")
    assert re.search(r"student: first_steps/student\none voice: score .*\ntwo voices: .*\n", printed)
    assert re.search(r"^EER \d+\.\d %", printed, flags=re.MULTILINE)
