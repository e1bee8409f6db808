"""Time an exported student in a browser beside onnxruntime in Python with one thread, on the same recordings.

The student is the thin one of `thin_students` with random weights. Its graph is timed alone, in three forms, and the
page of `spaces/in-browser` as a whole: two decoded recordings are searched for speech, embedded and compared. For a
slow phone, all processes of the page stand still three quarters of the time. Node.js, Chromium and playwright are
needed.
"""

import functools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from transformers import Wav2Vec2FeatureExtractor

from ..audio.loading import SAMPLING_RATE, AudioSource, load_audio
from ..audio.synthetic_voices import write_voices
from ..embedding.runtimes import Embedder, OnnxEmbedder
from ..evaluation.cost import medians_in_turn
from ..evaluation.decision_report import one_thread
from ..export.browser import VERIFIER, export_browser
from ..export.int8_weights import store_in_int8
from ..export.onnx_graph import export_onnx
from ..export.page_building import built_page
from ..verification.verifier import SpeakerVerifier
from .compression import SYSTEMS
from .inference import THIN, model_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SECONDS, ROUNDS = 3, 15
THREADS = min(4, os.cpu_count() or 1)  # as many as the page takes
WARM_ROUNDS = 10  # WebAssembly is compiled while it runs
LONGEST_WAIT = 60_000  # milliseconds
SLOWER = 4  # a phone against this machine
SLICE = 0.01  # seconds that the page of a slow phone runs at a time
FORMS = ("float32", "int8 weights", "int8 arithmetic")
PYTHON = "onnxruntime in Python, 1 thread"
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
# `run` answers with the milliseconds of one run of the graph.
HARNESS = """<!doctype html><script type="module">
import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
ort.env.wasm.numThreads = Number(new URLSearchParams(location.search).get("threads"));
const samples = SAMPLES, values = new Float32Array(samples).map((_, n) => 0.1 * Math.sin(n * n * 1e-6));
const inputs = {
  input_values: new ort.Tensor("float32", values, [1, samples]),
  attention_mask: new ort.Tensor("int64", new BigInt64Array(samples).fill(1n), [1, samples]),
};
const graphs = {};
for (const form of FORMS) {
  graphs[form] = await ort.InferenceSession.create(`${form}/model.onnx`, { enableMemPattern: false });
  for (let n = 0; n < WARM_ROUNDS; n++) await graphs[form].run(inputs);
}
window.run = async (form) => {
  const start = performance.now();
  await graphs[form].run(inputs);
  return performance.now() - start;
};
</script>"""


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure the graph in each form, and the page as a whole.

    Returns:
        A row for each way of running, with milliseconds; and the times of the browser over Python's.
    """
    with tempfile.TemporaryDirectory() as place, one_thread():
        folder = Path(place)
        recordings = _write(folder)
        with served(folder) as address, chromium() as browser:
            graphs = _time_graphs(folder, address, browser)
            whole = _time_page(folder, address, browser, recordings)
    rows = [{"what": what, "where": where, "ms": ms} for (what, where), ms in (graphs | whole).items()]
    ratios = {
        f"{where} / Python, {what}": ms / (graphs | whole)[what, PYTHON]
        for (what, where), ms in (graphs | whole).items()
        if where != PYTHON
    }
    return rows, ratios


def _write(folder: Path) -> tuple[Path, Path]:
    """Write the student, its graphs in all forms, the page, and two recordings; returns these."""
    model, page = folder / "model", folder / "page"
    model_of(SYSTEMS["HuBERT-base, 12 to 2 layers"], THIN).save_pretrained(model)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(model)
    voices = write_voices(folder / "voices", speakers=8, sessions=2, utterances=2, seed=0)
    export_onnx(model, folder / FORMS[0])
    shutil.copytree(folder / FORMS[0], folder / FORMS[1])
    store_in_int8(folder / FORMS[1] / "model.onnx")
    export_onnx(model, folder / FORMS[2], int8=True, calibration=voices)
    export_browser(model, page)
    shutil.copytree(built_page().parent / "node_modules" / "onnxruntime-web" / "dist", folder / "runtime")
    harness = HARNESS
    for name, value in {"SAMPLES": SECONDS * SAMPLING_RATE, "FORMS": list(FORMS), "WARM_ROUNDS": WARM_ROUNDS}.items():
        harness = harness.replace(name, str(value))
    (folder / "harness.html").write_text(harness)
    return write_recordings(sorted(voices.rglob("*.flac"))[:2], folder)


def _time_graphs(folder: Path, address: str, browser: "Browser") -> dict[tuple[str, str], float]:
    """Time every form of the graph, in turn, in Python and in pages with one thread and with several."""
    noise = np.random.default_rng(0).normal(0, 0.1, SECONDS * SAMPLING_RATE).astype(np.float32)
    runs: dict[tuple[str, str], Callable[[], float]] = {}
    for form in FORMS:
        embedder = OnnxEmbedder(folder / form / "model.onnx")
        runs[f"graph, {form}", PYTHON] = functools.partial(_milliseconds, embedder, noise)
    for threads in sorted({1, THREADS}):
        page = browser.new_page()
        page.goto(f"{address}harness.html?threads={threads}")
        page.wait_for_function("window.run !== undefined", timeout=LONGEST_WAIT)
        for form in FORMS:
            runs[f"graph, {form}", _threads(threads)] = functools.partial(page.evaluate, "form => run(form)", form)
    return medians_in_turn(runs, ROUNDS)


def _time_page(
    folder: Path, address: str, browser: "Browser", recordings: tuple[Path, Path]
) -> dict[tuple[str, str], float]:
    """Time a comparison of two recordings, in Python, on the page, and on the page of a slow phone."""
    on_the_page = comparing_on_page(browser, f"{address}page/", recordings)

    def on_a_slow_phone() -> float:
        with slowed(browser):
            return on_the_page()

    what = f"two recordings of {SECONDS} s"
    runs = {
        (what, PYTHON): comparing_in_python(folder / "page", recordings),
        (what, _threads(THREADS)): on_the_page,
        (what, f"{_threads(THREADS)}, slowed {SLOWER} times"): on_a_slow_phone,
    }
    return medians_in_turn(runs, ROUNDS)


def comparing_in_python(page: Path, recordings: tuple[Path, Path]) -> Callable[[], float]:
    """Return a function that compares two decoded recordings with the verifier of a page, and returns milliseconds.

    Args:
        page: folder of an export for browsers.
        recordings: two files.
    """
    verifier = SpeakerVerifier.from_pretrained(page / VERIFIER)
    first, second = ((load_audio(recording), SAMPLING_RATE) for recording in recordings)

    def compare() -> float:
        start = time.perf_counter()
        verifier.verify(first, second)
        return 1000 * (time.perf_counter() - start)

    return compare


def comparing_on_page(browser: "Browser", address: str, recordings: tuple[Path, Path]) -> Callable[[], float]:
    """Return a function that compares two decoded recordings on a page, and returns the milliseconds that it states.

    Args:
        browser: the browser; a window of its own is opened.
        address: address of the page.
        recordings: two files.
    """
    page = browser.new_context().new_page()
    page.goto(address)
    page.wait_for_selector("main[data-ready=true]", timeout=LONGEST_WAIT)

    def compare() -> float:
        page.set_input_files("#first", str(recordings[0]))
        page.set_input_files("#second", str(recordings[1]))
        page.click("#compare")
        page.wait_for_selector("#answer [data-milliseconds]", timeout=LONGEST_WAIT)
        return float(page.locator("#answer .verdict").get_attribute("data-milliseconds") or "nan")

    for _ in range(WARM_ROUNDS):
        compare()
    return compare


def write_recordings(files: Iterable[AudioSource], folder: Path) -> tuple[Path, Path]:
    """Write two recordings of 3 s.

    Args:
        files: two recordings, which are repeated or cut.
        folder: folder to write to.
    """
    written = []
    for number, file in enumerate(files):
        written.append(folder / f"{number}.wav")
        soundfile.write(written[-1], np.resize(load_audio(file), SECONDS * SAMPLING_RATE), SAMPLING_RATE)
    return written[0], written[1]


def _milliseconds(embedder: Embedder, noise: np.ndarray) -> float:
    start = time.perf_counter()
    embedder.embed([noise])
    return 1000 * (time.perf_counter() - start)


def _threads(number: int) -> str:
    return "browser, 1 thread" if number == 1 else f"browser, {number} threads"


class Isolating(SimpleHTTPRequestHandler):
    """Serve files to pages that are isolated from other pages, and write no log."""

    headers_of_all = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the benchmark prints one object of JSON."""

    def end_headers(self) -> None:
        """Add the headers of every answer."""
        for name, value in self.headers_of_all.items():
            self.send_header(name, value)
        super().end_headers()


@contextmanager
def served(folder: Path, handler: type[SimpleHTTPRequestHandler] = Isolating) -> Iterator[str]:
    """Serve a folder on this machine, and give its address.

    Args:
        folder: the folder.
        handler: answers requests.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def chromium_path() -> str | None:
    """Find Chromium; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start Chromium.

    Raises:
        ImportError: without playwright.
        FileNotFoundError: without Chromium.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ImportError("playwright is not installed: pip install playwright.") from None
    if (path := chromium_path()) is None:
        raise FileNotFoundError("Chromium was not found: install it.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def slowed(browser: "Browser") -> Iterator[None]:
    """Let the processes that run pages stand still for three quarters of the time.

    Args:
        browser: the browser.
    """
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [process["id"] for process in processes if process["type"] == "renderer"]
    session.detach()
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            for kind, seconds in ((signal.SIGSTOP, (SLOWER - 1) * SLICE), (signal.SIGCONT, SLICE)):
                for renderer in renderers:
                    with suppress(ProcessLookupError):
                        os.kill(renderer, kind)
                time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
