"""Documents keep their word: tables come from results, links lead somewhere, names exist, the site loads nothing."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from tests.pages import FENCE, PAGES, ROOT, commands, inline_code, load, name_of

PLACE = re.compile(r"^<!-- (\w+) -->\n(?:.*\n)*?<!-- /\1 -->$", flags=re.MULTILINE)
WITH_TABLES = [page for page in PAGES if PLACE.search(page.read_text())]


@pytest.fixture(scope="module")
def renderer():
    return load(ROOT / "docs" / "render.py")


# Tables and cards


@pytest.mark.parametrize("page", WITH_TABLES, ids=name_of)
def test_the_tables_are_those_of_the_results(page, renderer):
    text = page.read_text()
    assert page in renderer.pages() and renderer.render(text) == text
    assert re.findall(r"^<!-- (\w+) -->$", text, flags=re.MULTILINE) == [match[1] for match in PLACE.finditer(text)]


def test_every_stored_benchmark_is_in_a_table(renderer):
    """The README is short and no number is lost: each row of each benchmark stands on some page."""
    text = "".join(page.read_text() for page in renderer.pages())
    for result in renderer.read_benchmarks().values():
        for label, ratio in result["ratios"].items():
            assert f"| {result['name']} | {label} | {renderer.number(ratio)} |" in text
    for name in ("training", "compression", "thin-students", "inference", "augmentation"):
        rows = renderer.read_benchmarks()[name]["rows"]
        assert sum(text.count(f"\n| {next(iter(row.values()))} | ") > 0 for row in rows) == len(rows), name


EXAMPLES = {"export_formats": "export_int8"}  # of the results that have another name than their program
RESULTS = ["small_speech", "speaker_objectives", "adapt_to_site", "export_int8", "export_formats", "other_tasks"]


@pytest.mark.parametrize("name", RESULTS)
def test_a_page_of_results_is_rendered_from_them(name):
    module = load(ROOT / "examples" / f"{EXAMPLES.get(name, name)}.py")
    results = json.loads((ROOT / f"docs/results/{name}.json").read_text())
    assert module.page(results) == (ROOT / f"docs/results/{name}.md").read_text()


def test_the_page_of_robustness_is_rendered_from_its_results():
    module = load(ROOT / "examples" / "robustness.py")
    results = json.loads((ROOT / "docs/results/robustness.json").read_text())
    assert module.page(results, "robustness") == (ROOT / "docs/results/robustness.md").read_text()


def test_the_study_s_page_is_rendered_from_its_results():
    from examples.one_step_or_two.page import NOTES_NAME, page, read

    results = ROOT / "docs" / "results" / "one_step_or_two"
    summary = json.loads(results.with_suffix(".json").read_text())
    assert {name: list(seeds) for name, seeds in read(results).items()} == {
        name: system["seeds"] for name, system in summary["systems"].items()
    }
    assert page(summary, (results / NOTES_NAME).read_text()) == results.with_suffix(".md").read_text()


def test_the_page_of_all_pairs_is_rendered_from_its_results():
    from examples.one_step_or_two.all_pairs import page

    results = ROOT / "docs/results/one_step_or_two_all_pairs.json"
    assert page(json.loads(results.read_text())) == results.with_suffix(".md").read_text()


def test_the_page_of_the_search_is_rendered_from_its_results():
    from modeling_oskdft.tuning.results import page

    folder = ROOT / "docs/results/tuning"
    assert page(json.loads((folder / "tuning.json").read_text())) == (folder / "tuning.md").read_text()


def test_the_cards_are_those_of_the_results(renderer):
    cards = renderer.cards()
    assert {path.name: path.read_text() for path in (ROOT / "model_cards").glob("*.md")} == {
        path.name: text for path, text in cards.items()
    }
    assert {path.stem for path in cards} >= {"quickstart-student", "small-speech-student"}


# The README and its picture


def test_the_readme_is_short_and_starts_with_two_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert ["make", "quickstart"] == commands(ROOT / "README.md")[0] and "`make test`" in text
    assert "\nmake test\n" in (ROOT / ".ci/run").read_text()


def test_the_picture_is_the_same_in_light_and_dark_and_loads_nothing():
    light, dark = ((ROOT / f"docs/images/method_{name}.svg").read_text() for name in ("light", "dark"))
    colour = r"#[0-9a-f]{6}"
    assert re.sub(colour, "", light) == re.sub(colour, "", dark) and re.findall(colour, light) != re.findall(
        colour, dark
    )
    assert "http" not in light.replace('xmlns="http://www.w3.org/2000/svg"', "") and "<script" not in light


# Names and links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)]+)\)|src(?:set)?=\"([^\"]+)\"", text):
        place, _, anchor = "".join(target).partition("#")
        if not place.startswith("http"):
            other = page.parent / place if place else page
            assert other.exists(), place
            titles = re.findall(r"^#+ (.*)$", other.read_text(), flags=re.MULTILINE) if anchor else []
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
            assert not anchor or anchor in slugs, "".join(target)


def test_every_file_that_a_document_names_is_there():
    """`name.py`, `recipe.yaml` and folders of the repository; not an export's, nor recipes of readers."""
    places = ("docs", "examples", "modeling_oskdft", "spaces", "tests")
    files = [f"/{file.relative_to(ROOT)}" for place in places for file in (ROOT / place).rglob("*")]
    files += [f"/{file.name}" for file in ROOT.iterdir()]
    rooms = "|".join([*places, "audio", "evaluation", "model", "scoring", "student", "training"])
    name = re.compile(rf"[\w./-]+\.(?:py|yaml)|(?:{rooms})/[\w./-]*")
    seen = 0
    for page in PAGES:
        for code in inline_code(page):
            is_named = name.fullmatch(code) and not code.startswith(("exported/", "other."))
            if is_named and page.name != "CHANGELOG.md":  # which names places of before as well
                seen += 1
                assert any(file.endswith(f"/{code.rstrip('/')}") for file in files), (page.name, code)
    assert seen > 30


def test_every_test_that_the_deviations_name_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/deviations.md").read_text()))
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    missing = {name for name in named if f"def {name}(" not in tests}
    assert named and not missing


def test_every_field_of_the_training_page_exists():
    from modeling_oskdft.training.recipe import recipe_parser

    known = {option.removeprefix("--") for action in recipe_parser()._actions for option in action.option_strings}
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (ROOT / "docs/training.md").read_text(), flags=re.MULTILINE)
    names = {name for row in table for name in re.findall(r"`(\w+)`", row)}
    assert len(names) > 8 and names <= known, names - known


def test_every_public_name_is_in_a_document_and_in_the_reference():
    import modeling_oskdft

    text = "".join(page.read_text() for page in PAGES)
    reference = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    public = [name for name in modeling_oskdft.__all__ if not name.startswith("__")]
    assert not [name for name in public if name not in text]
    assert not [name for name in public if f"::: modeling_oskdft.{name}\n" not in reference]


def test_the_new_places_of_the_change_log_exist():
    rows = re.findall(r"^\| `.*\| (.*) \|$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    places = [place.rstrip(".") for row in rows for place in re.findall(r"`([\w.]+)`", row)]
    assert len(places) > 30
    assert not [place for place in places if importlib.util.find_spec(f"modeling_oskdft.{place}") is None]


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("material", "mkdocstrings"):
        pytest.importorskip(module, reason="the site needs pip install 'modeling-oskdft[docs]'")
    place = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = re.findall(
            r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href|srcset)=\"?([^\" >]+)", page.read_text()
        )
        assert loaded and not [address for address in loaded if re.match(r"(https?:)?//", address)], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", style.read_text()), style.name


def test_the_site_has_every_public_name(site):
    import modeling_oskdft

    text = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    public = [name for name in modeling_oskdft.__all__ if not name.startswith("__")]
    assert not [name for name in public if f'id="modeling_oskdft.{name}"' not in text]
