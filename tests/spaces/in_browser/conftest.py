"""The page of spaces/in-browser with a tiny verifier, web servers for it, and its visitors."""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from modeling_oskdft.benchmark import browser
from modeling_oskdft.files import read_json
from modeling_oskdft.scoring.calibration import OperatingPoint
from modeling_oskdft.scoring.normalization import Cohort
from tests.scoring.test_calibration import calibration
from tests.spaces.conftest import PICTURES


@pytest.fixture(scope="session")
def page_folder(space_model, tmp_path_factory) -> Path:
    """The page with a tiny verifier that has thresholds and a calibration."""
    for package in ("onnxruntime", "onnxscript", "silero_vad"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'modeling-oskdft[export,vad]'")
    if shutil.which("npm") is None:
        pytest.skip("npm was not found: install Node.js 20.19 or later")
    from modeling_oskdft.export.browser import export_browser

    place = tmp_path_factory.mktemp("browser")
    model = shutil.copytree(space_model, place / "model")
    points = {"eer": OperatingPoint(0.5, 0, 1), "far_1_percent": OperatingPoint(5.0, 4, 6), "far_0.1_percent": None}
    stored = calibration(fingerprint=read_json(model / "thresholds.json")["fingerprint"], operating_points=points)
    stored.save(model)
    export_browser(model, place / "page")
    return place / "page"


@pytest.fixture
def files(voices):
    return sorted(voices.rglob("*.flac"))


@dataclass
class Server:
    """A web server of a folder.

    Attributes:
        address: its address.
        answers: status, type and content by path, in the place of a file; None to break off.
        asked: the paths that were asked for.
    """

    address: str = ""
    answers: dict[str, tuple[int, str, bytes] | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def served(folder: Path, headers: dict[str, str] | None = None):
    """A web server of a folder."""
    server = Server()

    class Handler(browser.Isolating):
        headers_of_all = headers or {}

        def do_GET(self):
            path = self.path.split("?")[0]
            server.asked.append(path)
            if path not in server.answers:
                return super().do_GET()
            answer = server.answers[path]
            if answer is None:  # the connection breaks in the middle
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.wfile.write(b"1" * 1000)
                return self.connection.close()
            self.send_response(answer[0])
            self.send_header("Content-Type", answer[1])
            self.end_headers()
            self.wfile.write(answer[2])

    with browser.served(folder, Handler) as server.address:
        yield server


@pytest.fixture
def own_page(page_folder, tmp_path) -> Path:
    """A copy of the page that a test may change; `list_again` makes its listing fit."""
    return shutil.copytree(page_folder, tmp_path / "page")


def facts_of(page: Path) -> dict:
    return read_json(page / "verifier/verifier.json")["facts"]


def list_again(page: Path) -> None:
    from modeling_oskdft.export.browser import write_listing

    write_listing(page / "verifier", facts_of(page))


def with_cohort(page: Path, **fields) -> None:
    """Give a page a cohort, and a calibration that needs it."""
    facts = facts_of(page)
    rows = np.random.default_rng(0).normal(size=(30, int(facts["embedding_size"]))).astype(np.float32)
    cohort = Cohort(rows / np.linalg.norm(rows, axis=1, keepdims=True), facts["fingerprint"], 10)
    cohort.save(page / "verifier")
    points = {"eer": OperatingPoint(0.5, 0, 1), "far_1_percent": None, "far_0.1_percent": None}
    given = {
        "fingerprint": facts["fingerprint"],
        "operating_points": points,
        "duration": None,
        "cohort": cohort.digest,
    }
    calibration(**(given | fields)).save(page / "verifier")
    list_again(page)


@dataclass
class Visitor:
    page: object
    requested: list

    def compare(self, first: Path, second: Path, point: str = "eer") -> dict:
        """The data of the verdict, or of the refusal."""
        self.page.set_input_files("#first", str(first))
        self.page.set_input_files("#second", str(second))
        self.page.select_option("#point", point)
        return self.press("compare", "answer")

    def press(self, button: str, answer: str) -> dict:
        self.page.click(f"#{button}")
        self.page.wait_for_selector(f"#{answer} .verdict")
        return self.page.locator(f"#{answer} .verdict").evaluate("box => ({...box.dataset})")

    def warnings(self) -> list[str]:
        return self.page.locator("#answer .warning").all_inner_texts()

    def picture(self, name: str) -> None:
        """A screenshot for people to look at; nothing is wider than the window."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"in-browser-{name}.png", full_page=True)
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def open_page(chromium):
    """A function that opens the page at an address in a browser of its own."""
    contexts, errors = [], []

    def opened(address: str, before: str = "", context=None, **options) -> Visitor:
        if context is None:
            contexts.append(chromium.new_context(**({"permissions": ["microphone"], "locale": "en-GB"} | options)))
            context = contexts[-1]
        page = context.new_page()
        requested: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        if before:
            page.add_init_script(before)
        page.goto(address)
        page.wait_for_selector("main[data-ready]", timeout=60_000)
        return Visitor(page, requested)

    yield opened
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture(scope="module")
def address(page_folder):
    with served(page_folder) as server:
        yield server.address
