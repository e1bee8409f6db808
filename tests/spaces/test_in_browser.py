"""The page of spaces/in-browser in a real browser: the answers of the package, without a request."""

import functools
import json
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.files import read_json
from modeling_oskdft.scoring.calibration import OperatingPoint
from modeling_oskdft.scoring.normalization import Cohort
from tests.scoring.test_calibration import calibration
from tests.spaces.conftest import PICTURES

ISOLATING = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


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


@contextmanager
def served(folder: Path, headers: dict[str, str] | None = None):
    """The address of a folder that a web server serves."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def end_headers(self):
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            super().end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
    with served(page_folder) as url:
        yield url


def numbers(answer: dict) -> dict:
    return {name: float(answer[name]) for name in ("score", "threshold", "llr", "probability")}


def recordings(files: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Pairs of recordings: as they are, at other rates, of two channels, longer than 30 s, short, and clipped."""
    waveform = load_audio(files[0])
    made = {
        "44.wav": (soxr.resample(waveform, 16000, 44100), 44100),
        "48.flac": (soxr.resample(load_audio(files[5]), 16000, 48000), 48000),
        "8.wav": (soxr.resample(waveform, 16000, 8000), 8000),
        "two.wav": (np.stack([waveform, 0.5 * waveform], axis=1), 16000),
        "half_silent.wav": (np.stack([waveform, 0 * waveform], axis=1), 16000),
        "long.flac": (np.concatenate([load_audio(file) for file in files[:30]])[: 41 * 16000], 16000),
        "short.wav": (waveform[4000:16000], 16000),
        "clipped.wav": ((20 * waveform).clip(-1, 1), 16000),
    }
    for name, (samples, rate) in made.items():
        soundfile.write(folder / name, samples, rate)
    return [(files[0], files[1]), (files[0], files[-1]), *((folder / name, files[2]) for name in made)]


def test_the_answers_of_the_package(open_page, address, page_folder, files, tmp_path):
    verifier = SpeakerVerifier.from_pretrained(page_folder / "verifier")
    visitor = open_page(address)
    for first, second in recordings(files, tmp_path):
        for point in ("eer", "far_1_percent"):
            expected = verifier.verify(first, second, point)
            answer = visitor.compare(first, second, point)
            assert answer["verdict"] == ("same" if expected.same_speaker else "different"), first
            near = {"score": 1e-3, "threshold": 1e-2, "llr": 2e-2, "probability": 5e-3}
            for name, value in numbers(answer).items():
                assert value == pytest.approx(getattr(expected, name), abs=near[name]), (first, name)
        assert len(visitor.warnings()) == len(expected.warnings), (first, visitor.warnings(), expected.warnings)


def test_the_answers_with_a_cohort_and_without_a_calibration(open_page, page_folder, files, tmp_path):
    from modeling_oskdft.export.browser import write_listing

    place = shutil.copytree(page_folder, tmp_path / "page")
    facts = read_json(place / "verifier/verifier.json")["facts"]
    rows = np.random.default_rng(0).normal(size=(30, int(facts["embedding_size"]))).astype(np.float32)
    cohort = Cohort(rows / np.linalg.norm(rows, axis=1, keepdims=True), facts["fingerprint"], 10)
    cohort.save(place / "verifier")
    points = {"eer": OperatingPoint(0.5, 0, 1), "far_1_percent": None, "far_0.1_percent": None}
    given = {"fingerprint": facts["fingerprint"], "operating_points": points, "duration": None}
    calibration(**given, cohort=cohort.digest).save(place / "verifier")
    write_listing(place / "verifier", facts)
    with served(place) as url:
        answer = open_page(url).compare(files[0], files[-1])
        expected = SpeakerVerifier.from_pretrained(place / "verifier").verify(files[0], files[-1])
        assert numbers(answer)["llr"] == pytest.approx(expected.llr, abs=2e-2)
        assert numbers(answer)["threshold"] == pytest.approx(expected.threshold, abs=1e-2)
        for name in ("calibration.json", "cohort.safetensors"):
            (place / "verifier" / name).unlink()
        write_listing(place / "verifier", facts)
        visitor = open_page(url)
        answer = visitor.compare(files[0], files[1])
        assert (answer["threshold"], answer["llr"], answer["verdict"]) == ("0.5", "null", "same")
        assert visitor.compare(files[0], files[1], "far_0.1_percent")["verdict"] == "undecided"
        assert visitor.warnings() == ["The model has no threshold here: the score is all that can be said."]


def test_nothing_is_requested_after_the_page_is_loaded_and_it_works_offline(open_page, page_folder, files):
    with served(page_folder) as url:
        visitor = open_page(url)
        assert visitor.page.evaluate("crossOriginIsolated"), "the service worker isolates the page"
        visitor.requested.clear()
        first = visitor.compare(files[0], files[1])
        visitor.page.set_input_files("#enrolment", str(files[0]))
        visitor.page.fill("#name", "Ada")
        visitor.press("enrol", "people-answer")
        assert [request for request in visitor.requested if not request.startswith("blob:")] == []
    # The server is gone now.
    visitor.page.reload()
    visitor.page.wait_for_selector("main[data-ready=true]", timeout=60_000)
    assert visitor.compare(files[0], files[1])["score"] == first["score"]
    assert visitor.page.locator("li[data-voice=Ada]").count() == 1


def test_a_new_verifier_replaces_the_kept_one(open_page, page_folder, files, tmp_path):
    from modeling_oskdft.export.browser import write_listing

    place = shutil.copytree(page_folder, tmp_path / "page")
    facts = read_json(place / "verifier/verifier.json")["facts"]
    with served(place) as url:
        visitor = open_page(url)
        before = visitor.compare(files[0], files[1])
        stored = read_json(place / "verifier/thresholds.json")
        stored["values"]["eer"] = 0.25
        (place / "verifier/thresholds.json").write_text(json.dumps(stored))
        (place / "verifier/calibration.json").unlink()
        write_listing(place / "verifier", facts)
        visitor.page.reload()
        visitor.page.wait_for_selector("main[data-ready=true]")
        after = visitor.compare(files[0], files[1])
    assert (before["score"], "0.25") == (after["score"], after["threshold"])


def test_voices_are_enrolled_identified_and_forgotten(open_page, address, page_folder, files):
    visitor = open_page(address)
    people = {"Ada": files[0], "エイダ 🎙️": files[-1]}
    assert visitor.press("identify", "people-answer") == {"refused": "missing"}
    for name, file in people.items():
        visitor.page.set_input_files("#enrolment", str(file))
        visitor.page.fill("#name", name)
        visitor.press("enrol", "people-answer")
    other = open_page(address, context=visitor.page.context)  # a second tab
    assert other.page.locator("li[data-voice]").count() == 2
    verifier = SpeakerVerifier.from_pretrained(page_folder / "verifier")
    for name, file in people.items():
        verifier.enroll(name, [file])
    visitor.page.set_input_files("#probe", str(files[1]))
    found = visitor.press("identify", "people-answer")
    expected = verifier.identify(files[1]).matches[0]
    assert found["first"] == expected.name
    assert float(found["score"]) == pytest.approx(expected.score, abs=1e-3)
    assert float(found["probability"]) == pytest.approx(expected.probability, abs=5e-3)
    visitor.picture("voices")
    visitor.page.click("li[data-voice=Ada] button")
    other.page.wait_for_selector("li[data-voice=Ada]", state="detached")  # the other tab sees it
    visitor.press("forget", "people-answer")
    assert visitor.page.evaluate("indexedDB.databases().then(all => all.length)") == 1
    stored = """new Promise(done => { indexedDB.open("oskdft-voices").onsuccess = event => {
        event.target.result.transaction("voices").objectStore("voices").count().onsuccess = e => done(e.target.result)
    }})"""
    assert visitor.page.evaluate(stored) == 0
    assert visitor.press("identify", "people-answer") == {"refused": "nobody"}


@pytest.mark.parametrize(
    ("name", "refused"), [("", "no_name"), ("a/b", "bad_name"), ("a\u202eb", "bad_name"), ("n" * 150, "long_name")]
)
def test_names_that_nobody_can_have(open_page, address, files, name, refused):
    visitor = open_page(address)
    visitor.page.set_input_files("#enrolment", str(files[0]))
    visitor.page.fill("#name", name)
    assert visitor.press("enrol", "people-answer") == {"refused": refused}


def test_a_stranger_is_not_added_to_a_voice(open_page, page_folder, files, tmp_path):
    from modeling_oskdft.export.browser import write_listing

    place = shutil.copytree(page_folder, tmp_path / "page")
    facts = read_json(place / "verifier/verifier.json")["facts"]
    curve = {"llr": [3.0, 4.0], "false_rejects": [0.0, 1.0]}
    curve |= {name: [0.0, 1.0] for name in ("false_rejects_low", "false_rejects_high")}
    curve |= {name: [1.0, 0.0] for name in ("false_accepts", "false_accepts_low", "false_accepts_high")}
    given = {"duration": None, "score": (1e-3, 0.0), "curve": curve, "target_trials": 200}
    calibration(fingerprint=facts["fingerprint"], **given).save(place / "verifier")
    write_listing(place / "verifier", facts)
    with served(place) as url:
        visitor = open_page(url)
        visitor.page.fill("#name", "Ada")
        visitor.page.set_input_files("#enrolment", str(files[0]))
        visitor.press("enrol", "people-answer")
        visitor.page.set_input_files("#enrolment", str(files[-1]))
        assert visitor.press("enrol", "people-answer") == {"refused": "disagrees"}
        assert "Recordings: 1," in visitor.page.locator("li[data-voice=Ada]").inner_text()


def test_recordings_that_say_nothing(open_page, address, files, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "tiny.wav", np.full(100, 0.5), 16000)
    soundfile.write(tmp_path / "hour.wav", np.zeros(3600 * 8000, np.uint8).view(np.int8).astype(np.int16), 8000)
    nan = load_audio(files[0]).copy()
    nan[99] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    waveform = load_audio(files[0])
    soundfile.write(tmp_path / "cancelled.wav", np.stack([waveform, -waveform], axis=1), 16000)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("This is no sound.")
    (tmp_path / "cut.wav").write_bytes(files[0].read_bytes()[:40])
    said = {
        "silent": "silent",
        "tiny": "too_short",
        "hour": "too_long",
        "nan": "not_finite",
        "cancelled": "cancelled",
        "empty": "empty_file",
        "text": "unreadable",
        "cut": "unreadable",
    }
    visitor = open_page(address)
    for name, refused in said.items():
        assert visitor.compare(tmp_path / f"{name}.wav", files[0]) == {"refused": refused}, name
    assert visitor.compare(files[0], files[1])["verdict"] == "same"
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", 0.1 * rng.normal(size=48000), 16000)
    visitor.compare(tmp_path / "noise.wav", files[0])
    assert any("like speech" in sentence for sentence in visitor.warnings())


def test_the_sound_of_a_video(open_page, address, files, ffmpeg, tmp_path):
    import subprocess

    video = tmp_path / "film.mp4"
    picture = ["-f", "lavfi", "-i", "color=c=blue:s=64x64:d=3"]
    command = [ffmpeg, "-v", "error", *picture, "-i", str(files[0]), "-shortest", "-c:v", "mpeg4", str(video)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this ffmpeg writes no mp4")
    visitor = open_page(address)
    answer = visitor.compare(video, files[0])
    if answer.get("refused") == "unreadable":
        pytest.skip("this browser reads no mp4")
    assert float(answer["score"]) > 0.9


MICROPHONE = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{}'))"


def test_the_microphone(open_page, address, files):
    visitor = open_page(address)
    button = visitor.page.get_by_label("First recording: Record")
    button.click()
    visitor.page.wait_for_timeout(2500)
    visitor.page.get_by_label("First recording: Stop").click()
    visitor.page.wait_for_selector("fieldset audio:not([hidden])")
    visitor.page.set_input_files("#second", str(files[0]))
    assert "score" in visitor.press("compare", "answer")


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (MICROPHONE.format("NotFoundError"), "No microphone was found"),
        (MICROPHONE.format("NotAllowedError"), "The microphone is not allowed"),
        ("delete window.MediaRecorder", "This browser cannot record here"),
    ],
)
def test_no_microphone(open_page, address, before, sentence):
    visitor = open_page(address, before)
    visitor.page.get_by_label("First recording: Record").click()
    visitor.page.wait_for_selector("p.status.wrong")
    assert sentence in visitor.page.locator("p.status.wrong").inner_text()


def test_without_threads_storage_and_webassembly(open_page, address, files):
    visitor = open_page(address, service_workers="block")
    assert "one thread" in visitor.page.locator("#state").inner_text()
    assert "does not isolate" in visitor.page.locator("main > .warning").inner_text()
    one_thread = visitor.compare(files[0], files[1])
    denied = open_page(address, "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException() }})")
    assert "denies storage" in denied.page.locator("section .lead").inner_text()
    denied.page.fill("#name", "Ada")
    denied.page.set_input_files("#enrolment", str(files[0]))
    denied.press("enrol", "people-answer")
    assert denied.page.locator("li[data-voice=Ada]").count() == 1
    assert float(one_thread["score"]) == pytest.approx(float(denied.compare(files[0], files[1])["score"]), abs=1e-5)
    none = open_page(address, "delete window.WebAssembly")
    assert "cannot run WebAssembly" in none.page.locator(".refusal").inner_text()


def test_a_verifier_that_is_not_whole(open_page, page_folder, tmp_path):
    def refusal_of(damage) -> str:
        place = shutil.copytree(page_folder, tmp_path / "page", dirs_exist_ok=True)
        damage(place / "verifier")
        with served(place) as url:
            return open_page(url).page.locator(".refusal").get_attribute("data-refused")

    def cut(folder: Path) -> None:
        content = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(content[: len(content) // 2])

    def change(folder: Path) -> None:
        content = bytearray((folder / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "model.onnx").write_bytes(content)

    def other_version(folder: Path) -> None:
        listing = read_json(folder / "verifier.json")
        (folder / "verifier.json").write_text(json.dumps(listing | {"schema": 2}))

    assert refusal_of(cut) == refusal_of(change) == "file_damaged"
    assert refusal_of(other_version) == "other_version"
    assert refusal_of(lambda folder: (folder / "model.onnx").unlink()) == "file_missing"
    assert refusal_of(lambda folder: (folder / "verifier.json").write_text("{")) == "file_damaged"


def test_languages_colours_and_a_narrow_window(open_page, address, files):
    for name, options in {
        "light": {},
        "dark": {"color_scheme": "dark"},
        "narrow": {"viewport": {"width": 390, "height": 844}},
        "narrow-dark-japanese": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "locale": "ja-JP"},
    }.items():
        visitor = open_page(address, **options)
        visitor.compare(files[0], files[-1])
        visitor.picture(name)
        assert visitor.page.locator("#answer svg.picture").count() == 1
    assert visitor.page.locator("h1").inner_text() == "二つの録音は同じ話者ですか？"
    assert visitor.page.evaluate("document.documentElement.lang") == "ja"
    visitor.page.get_by_role("button", name="English").click()
    assert visitor.page.locator("h1").inner_text() == "Are these two recordings of one speaker?"
    assert visitor.page.locator("#answer h3").inner_text() in ("Same speaker", "Different speakers")


def test_the_keyboard_and_screen_readers(open_page, address, files):
    visitor = open_page(address)
    named = """[...document.querySelectorAll('button, input, select, audio, svg')].filter(element =>
        !(element.ariaLabel || element.getAttribute('aria-label') || element.textContent.trim()
          || (element.labels && element.labels.length))).map(element => element.outerHTML)"""
    visitor.page.set_input_files("#second", str(files[1]))
    visitor.compare(files[0], files[1])
    assert visitor.page.evaluate(named) == []
    assert visitor.page.locator("[aria-live=polite]").count() == 2
    visitor.page.focus("#point")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.id") == "compare"
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_selector("#answer [data-verdict]")
    reached = []
    for _ in range(25):
        visitor.page.keyboard.press("Tab")
        reached.append(visitor.page.evaluate("document.activeElement.id"))
    assert {"enrolment", "name", "enrol", "probe", "identify"} <= set(reached)


def test_a_graphics_processor_is_used_where_it_is_faster_and_agrees(chromium_type, address, files):
    # One that the processor emulates.
    browser = chromium_type("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("main[data-ready=true]", timeout=60_000)
    if not page.locator("#graphics").count():
        pytest.skip("this Chromium gives no WebGPU")
    visitor = Visitor(page, [])
    before = visitor.compare(files[0], files[-1])
    page.click("#graphics")
    page.wait_for_selector("#graphics", state="detached", timeout=120_000)
    assert "3 s of audio take" in page.locator("#state").inner_text()
    assert visitor.compare(files[0], files[-1])["score"] == before["score"]  # the emulated one is slower: not used
    browser.close()


def test_memory_stays_flat(open_page, address, files, chromium):
    visitor = open_page(address)
    used = []
    for number in range(101):
        assert "score" in visitor.compare(files[number % 7], files[number % 5])
        if number in (30, 100):
            used.append(_memory_of_renderers(chromium))
    assert used[1] < 1.15 * used[0], used


def _memory_of_renderers(browser) -> int:
    """Resident bytes of the browser's processes that run pages."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [Path(f"/proc/{process['id']}/status") for process in processes if process["type"] == "renderer"]
    if not all(page.is_file() for page in pages):
        pytest.skip("this system has no /proc")
    lines = [line for page in pages for line in page.read_text().splitlines() if line.startswith("VmRSS")]
    return sum(1024 * int(line.split()[1]) for line in lines)
