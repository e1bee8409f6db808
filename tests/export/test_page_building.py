"""The page is built by npm where its source has changed."""

import os

import pytest

from modeling_oskdft.export.page_building import SOURCE, built_page

NPM = """#!/bin/sh
echo "$@" >> calls
[ "$1" = run ] && mkdir -p dist && cp index.html dist/
[ ! -e broken ] || { echo "src/page.ts(1,1): error TS1005: ';' expected."; exit 2; }
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The source of a page, and an npm that copies it."""
    place, programs = tmp_path / "page", tmp_path / "programs"
    (place / "src").mkdir(parents=True)
    programs.mkdir()
    for file, content in {"package.json": "{}", "index.html": "one", "src/page.ts": ""}.items():
        (place / file).write_text(content)
    for name, content in {"npm": NPM, "node": "#!/bin/sh\necho v22.1.0\n"}.items():
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return place


def test_once_for_each_state_of_the_source(source, capsys):
    for _ in range(2):
        assert (built_page(source) / "index.html").read_text() == "one"
    assert (source / "calls").read_text().splitlines() == ["ci --ignore-scripts", "run build"]
    assert capsys.readouterr().err == "oskdft: building the page with npm ...\n"
    (source / "index.html").write_text("two")
    assert (built_page(source) / "index.html").read_text() == "two"


def test_a_build_that_fails_is_tried_again(source):
    (source / "broken").touch()
    with pytest.raises(OSError, match=r"`npm ci` failed in .*error TS1005: ';' expected\): run it there to see all\."):
        built_page(source)
    (source / "broken").unlink()
    assert (built_page(source) / "index.html").read_text() == "one"


def test_what_is_missing_is_named(source, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="install the package from a checkout"):
        built_page(tmp_path / "nowhere")
    (tmp_path / "programs/node").write_text("#!/bin/sh\necho v18.20.4\n")
    with pytest.raises(ImportError, match=r"Node\.js v18\.20\.4 was found: Node\.js 20\.19 or later"):
        built_page(source)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImportError, match="Node.js is not installed"):
        built_page(source)


def test_the_source_is_in_the_checkout():
    assert (SOURCE / "package-lock.json").is_file()
    assert "resolved" not in (SOURCE / "package-lock.json").read_text(), "no address of a registry is written down"
