"""Run a Space for its visitors: the page in a process of its own, and a browser."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from modeling_oskdft.benchmark.browser import chromium_path
from modeling_oskdft.benchmark.space import page
from modeling_oskdft.scoring.thresholds import Thresholds, measure_thresholds
from tests.tiny import tiny_verifier

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "spaces" / "speaker-verification"
PICTURES = ROOT / "runs" / "screenshots"
# The browser requests nothing but the page, and has a microphone that plays a file.
CHROMIUM = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


@pytest.fixture(scope="session")
def space_model(tmp_path_factory, feature_extractor) -> Path:
    """A verifier for which one recording is the same as itself at the EER, and nothing is at 1 % false accepts."""
    folder, model = tmp_path_factory.mktemp("space") / "model", tiny_verifier()
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(0.7, 0.1, 500), generator.normal(0.1, 0.15, 500)]).clip(-1, 1)
    thresholds = measure_thresholds(scores, np.repeat([1, 0], 500), 20, "made-up trials", model.fingerprint())
    values = {"eer": 0.5, "far_1_percent": 1.01, "far_0.1_percent": None}
    Thresholds(**(vars(thresholds) | {"values": values})).save(folder)
    (folder / "README.md").write_text(
        f"---\nlicense: mit\n---\n\n# A tiny verifier\n\n<!-- {model.fingerprint()} -->\n"
    )
    return folder


@pytest.fixture(scope="session")
def space(space_model):
    """The address of the running page; the student's teacher is itself."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'modeling-oskdft[space]'")
    with page(space_model, OSKDFT_TEACHER=str(space_model), OMP_NUM_THREADS="1") as (address, process):
        yield address
        kept = _folders_of(process)
    assert kept and not _folders_of(process), "recordings stay behind"


def _folders_of(process: subprocess.Popen) -> list[Path]:
    """The folders in which the page keeps visitors' recordings."""
    roots = {Path("/dev/shm"), Path(tempfile.gettempdir())}
    return [place for root in roots for place in root.glob(f"oskdft-{process.pid}-*")]


@pytest.fixture(scope="session")
def chromium_type():
    """A function that starts Chromium: `chromium_type(*flags)`; tests are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium was found: install it (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        yield lambda *flags: driver.chromium.launch(executable_path=path, args=[*CHROMIUM, *flags])


@pytest.fixture(scope="session")
def chromium(chromium_type, voices, tmp_path_factory):
    """A browser whose microphone plays a made-up voice, without a graphics processor."""
    voice = tmp_path_factory.mktemp("microphone") / "voice.wav"
    samples, rate = soundfile.read(sorted(voices.rglob("*.flac"))[0])
    soundfile.write(voice, np.tile(samples, 4), rate, subtype="PCM_16")
    browser = chromium_type("--disable-gpu", f"--use-file-for-fake-audio-capture={voice}")
    yield browser
    browser.close()


@dataclass
class Visitor:
    """A visitor with a separate browser window on the page."""

    page: object

    def give(self, name: str, file: Path) -> None:
        """Upload a recording in the place of the one before, and wait until it is shown."""
        clear = self.page.locator(f"#{name} button[aria-label=Clear]")
        if clear.is_visible():
            clear.click()
        with self.sending():
            self.page.locator(f"#{name} input[type=file]").set_input_files(str(file))
        self.page.wait_for_selector(f"#{name} button[aria-label=Play], #{name} audio", state="attached")

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Wait until a recording that is given inside has reached the server, which may be after it is shown."""
        with self.page.expect_response(lambda response: urlsplit(response.url).path.endswith("/upload")):
            yield
        self.page.wait_for_timeout(300)  # until the page has the server's answer

    def ask(self, button: str, answer: str) -> str:
        """Press a button and read the answer."""
        self.page.evaluate("id => document.querySelector(`#${id} .answer`)?.setAttribute('data-old', '')", answer)
        self.page.click(f"#{button}")
        self.page.wait_for_selector(f"#{answer} .answer:not([data-old])")
        return self.page.locator(f"#{answer} .answer").inner_text()

    def picture(self, name: str) -> None:
        """A screenshot for people to look at, once nothing moves; nothing is wider than the window."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def visit(space, chromium):
    """A function that opens the page for a visitor: `visit(color_scheme="dark", locale="ja-JP", viewport=...)`."""
    contexts, requested, errors = [], [], []

    def open_page(**options) -> Visitor:
        defaults = {"viewport": {"width": 1280, "height": 900}, "permissions": ["microphone"]}
        contexts.append(chromium.new_context(**(defaults | options)))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(space)
        page.wait_for_selector("#compare")
        page.wait_for_timeout(500)
        return Visitor(page)

    yield open_page
    for context in contexts:
        context.close()
    addresses = [urlsplit(url) for url in requested]
    elsewhere = [url for url in addresses if url.scheme.startswith("http") and url.netloc != space[7:]]
    assert not elsewhere and requested, "a request left the machine"
    assert not errors
