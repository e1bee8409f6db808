import tomllib
from pathlib import Path

from train_oskdft import main

ROOT = Path(__file__).resolve().parents[1]


def test_help_names_every_field(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in ("--teacher", "--kd_objective", "--adapter_size", "--train_data", "--backbone_decay"):
        assert name in printed


def test_the_head_of_the_script_names_what_it_needs():
    """PEP 723: `uv run train_oskdft.py` makes an environment of it."""
    lines = (ROOT / "train_oskdft.py").read_text().splitlines()
    assert lines[0] == "# /// script"
    head = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines[1 : lines.index("# ///")]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (needed,) = head["dependencies"]
    name, extras = needed.rstrip("]").split("[")
    assert name == project["name"] and set(extras.split(",")) <= set(project["optional-dependencies"])
    assert head["requires-python"] == project["requires-python"]
