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


@dataclass
class Server:
    """A web server of a folder, whose answers a test can change: address by path, or None to break off."""

    address: str
    answers: dict


@contextmanager
def served(folder: Path, headers: dict[str, str] | None = None):
    """A web server of a folder."""
    answers: dict[str, tuple[int, str, bytes] | None] = {}

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            path = self.path.split("?")[0]
            if path not in answers:
                return super().do_GET()
            answer = answers[path]
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

        def end_headers(self):
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            super().end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server(f"http://localhost:{server.server_port}/", answers)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def own_page(page_folder, tmp_path) -> Path:
    """A copy of the page that a test may change; `list_again` makes its listing fit."""
    return shutil.copytree(page_folder, tmp_path / "page")


def facts_of(page: Path) -> dict:
    return read_json(page / "verifier/verifier.json")["facts"]


def list_again(page: Path) -> None:
    from modeling_oskdft.export.browser import write_listing

    write_listing(page / "verifier", facts_of(page))


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


def test_measurements_of_every_kind(open_page, own_page, files):
    """A cohort; one that does not fit; speech that another network found; no calibration."""

    def same_as_python(doubt: str | None = None) -> None:
        expected = SpeakerVerifier.from_pretrained(own_page / "verifier").verify(files[0], files[-1])
        visitor = open_page(server.address)
        answer = visitor.compare(files[0], files[-1])
        assert answer["verdict"] == ("same" if expected.same_speaker else "different")
        assert float(answer["threshold"]) == pytest.approx(expected.threshold, abs=1e-2)
        if expected.llr is None:
            assert answer["llr"] == "null"
        else:
            assert float(answer["llr"]) == pytest.approx(expected.llr, abs=2e-2)
        warnings = visitor.warnings()
        assert doubt is None or doubt in warnings.pop(0)  # Python says it when the verifier is opened
        assert len(warnings) == len(expected.warnings)

    with served(own_page) as server:
        with_cohort(own_page)
        same_as_python()
        with_cohort(own_page, cohort="0" * 16)
        same_as_python("does not fit the model")
        with_cohort(own_page, cohort=None, duration=(8.0, -4.0, -1.0, 2.0), network=None)
        same_as_python()
        for name in ("calibration.json", "cohort.safetensors"):
            (own_page / "verifier" / name).unlink()
        list_again(own_page)
        same_as_python()
        visitor = open_page(server.address)
        assert visitor.compare(files[0], files[1], "far_0.1_percent")["verdict"] == "undecided"
        assert visitor.warnings() == ["The model has no threshold at this setting: the score is all that can be said."]


@pytest.mark.parametrize("headers", [{}, ISOLATING], ids=["the service worker isolates", "the host isolates"])
def test_nothing_is_requested_after_the_page_is_loaded_and_it_works_offline(open_page, page_folder, files, headers):
    with served(page_folder, headers) as server:
        visitor = open_page(server.address)
        assert visitor.page.evaluate("crossOriginIsolated")
        kept = "navigator.serviceWorker.ready.then(() => caches.keys()).then(names => names.length)"
        assert visitor.page.evaluate(kept) == 2
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


def test_a_new_verifier_replaces_the_kept_one_when_it_is_whole(open_page, own_page, files):
    with served(own_page) as server:
        visitor = open_page(server.address)

        def threshold_after_reload() -> str:
            visitor.page.reload()
            visitor.page.wait_for_selector("main[data-ready=true]")
            return visitor.compare(files[0], files[1])["threshold"]

        before = visitor.compare(files[0], files[1])["threshold"]
        for answer in ((503, "text/plain", b"busy"), (200, "text/html", b"<html></html>")):
            server.answers["/verifier/verifier.json"] = answer
            assert threshold_after_reload() == before
        del server.answers["/verifier/verifier.json"]
        stored = read_json(own_page / "verifier/thresholds.json")
        stored["values"]["eer"] = 0.25
        (own_page / "verifier/thresholds.json").write_text(json.dumps(stored))
        (own_page / "verifier/calibration.json").unlink()
        list_again(own_page)
        server.answers["/verifier/thresholds.json"] = None
        assert threshold_after_reload() == before
        del server.answers["/verifier/thresholds.json"]
        assert threshold_after_reload() == "0.25"
    assert threshold_after_reload() == "0.25"  # the server is gone


def test_a_new_page_replaces_the_kept_one(open_page, own_page):
    with served(own_page) as server:
        visitor = open_page(server.address)
        for file in ("index.html", "sw.js"):
            code = (own_page / file).read_text()
            changed = code.replace("</title>", " 2</title>") if file == "index.html" else f"{code}//"
            (own_page / file).write_text(changed)
        visitor.page.evaluate("navigator.serviceWorker.ready.then(registration => registration.update())")
        visitor.page.wait_for_timeout(1500)
        visitor.page.reload()
        visitor.page.wait_for_selector("main[data-ready=true]")
        assert "2</title>" in visitor.page.evaluate("fetch('index.html').then(answer => answer.text())")
        assert visitor.page.evaluate("fetch('elsewhere.html').then(answer => answer.status)") == 404


def test_pages_of_one_host_keep_to_themselves(open_page, own_page, files, tmp_path):
    shutil.copytree(own_page, tmp_path / "host/a")
    shutil.copytree(own_page, tmp_path / "host/b")
    with served(tmp_path / "host") as server:
        first = open_page(f"{server.address}a/")
        first.page.set_input_files("#enrolment", str(files[0]))
        first.page.fill("#name", "Ada")
        first.press("enrol", "people-answer")
        second = open_page(f"{server.address}b/", context=first.page.context)
        assert second.page.locator("li[data-voice]").count() == 0
    first.page.reload()
    first.page.wait_for_selector("main[data-ready=true]")
    assert first.page.locator("li[data-voice=Ada]").count() == 1


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
    stored = """new Promise(done => { indexedDB.open("oskdft-voices /").onsuccess = event => {
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


@pytest.mark.parametrize("judge", ["calibration", "thresholds"])
def test_a_stranger_is_not_added_to_a_voice(open_page, own_page, files, judge):
    curve = {"llr": [3.0, 4.0], "false_rejects": [0.0, 1.0]}
    curve |= {name: [0.0, 1.0] for name in ("false_rejects_low", "false_rejects_high")}
    curve |= {name: [1.0, 0.0] for name in ("false_accepts", "false_accepts_low", "false_accepts_high")}
    given = {"duration": None, "score": (1e-3, 0.0), "curve": curve, "target_trials": 200}
    calibration(fingerprint=facts_of(own_page)["fingerprint"], **given).save(own_page / "verifier")
    if judge == "thresholds":
        (own_page / "verifier/calibration.json").unlink()
        stored = read_json(own_page / "verifier/thresholds.json")
        stored["quantiles"]["target"] = [0.99999, 1.0]
        (own_page / "verifier/thresholds.json").write_text(json.dumps(stored))
    list_again(own_page)
    with served(own_page) as server:
        visitor = open_page(server.address)
        visitor.page.fill("#name", "Ada")
        visitor.page.set_input_files("#enrolment", str(files[0]))
        visitor.press("enrol", "people-answer")
        visitor.page.set_input_files("#enrolment", str(files[-1]))
        assert visitor.press("enrol", "people-answer") == {"refused": "disagrees"}
        assert "Recordings: 1," in visitor.page.locator("li[data-voice=Ada]").inner_text()


def test_voices_that_cannot_be_opened_or_are_taken_away(open_page, address, files):
    newer = """new Promise(done => { const asked = indexedDB.open("oskdft-voices /", 2);
        asked.onupgradeneeded = () => {}; asked.onsuccess = () => { asked.result.close(); done() } })"""
    visitor = open_page(address)
    visitor.page.evaluate(newer)  # closes the page's own connection
    visitor.page.fill("#name", "Ada")
    visitor.page.set_input_files("#enrolment", str(files[0]))
    assert visitor.press("enrol", "people-answer") == {"refused": "voices_gone"}
    visitor.page.reload()
    visitor.page.wait_for_selector("main[data-ready=refused]")
    assert visitor.page.locator(".refusal").get_attribute("data-refused") == "newer_voices"


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
        assert visitor.page.locator("#answer .verdict").inner_text().startswith("First recording: ")
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


def test_what_is_shown_is_of_the_recordings_that_are_there(open_page, address, files):
    visitor = open_page(address)
    page = visitor.page
    visitor.compare(files[0], files[1])
    page.get_by_label("First recording: Record").click()
    page.wait_for_selector("#answer .verdict", state="detached")
    page.wait_for_timeout(2500)
    recorded = visitor.press("compare", "answer")  # ends the recording and takes it
    assert page.get_by_label("First recording: Record").count() == 1
    assert recorded["score"] == visitor.press("compare", "answer")["score"]
    long = np.concatenate([load_audio(file) for file in files[:40]])
    soundfile.write(files[0].parent / "long.wav", long, 16000)
    page.set_input_files("#first", str(files[0].parent / "long.wav"))
    page.click("#compare")
    page.set_input_files("#first", str(files[2]))  # before the answer is there
    page.wait_for_selector("#compare[aria-disabled=false]", timeout=60_000)
    shown = page.locator("#answer .verdict").evaluate_all("boxes => boxes.map(box => box.dataset.score)")
    assert shown in ([], [visitor.press("compare", "answer")["score"]])
    page.get_by_label("First recording: Record").click()
    page.wait_for_timeout(500)
    page.set_input_files("#first", str(files[1]))  # drops what is being recorded
    page.wait_for_timeout(500)
    page.set_input_files("#second", str(files[1]))
    assert float(visitor.press("compare", "answer")["score"]) == pytest.approx(1, abs=1e-5)
    (files[0].parent / "long.wav").unlink()


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
    assert "not isolated" in visitor.page.locator("main > .warning").inner_text()
    one_thread = visitor.compare(files[0], files[1])
    denied = open_page(address, "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException() }})")
    assert "denies storage" in denied.page.locator("section .lead").inner_text()
    denied.page.fill("#name", "Ada")
    denied.page.set_input_files("#enrolment", str(files[0]))
    denied.press("enrol", "people-answer")
    assert denied.page.locator("li[data-voice=Ada]").count() == 1
    assert float(one_thread["score"]) == pytest.approx(float(denied.compare(files[0], files[1])["score"]), abs=1e-5)
    forbidden = "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException() }})"
    assert "one thread" in open_page(address, forbidden).page.locator("#state").inner_text()
    none = open_page(address, "delete window.WebAssembly")
    assert "cannot run WebAssembly" in none.page.locator(".refusal").inner_text()


def test_a_verifier_that_is_not_whole(open_page, page_folder, tmp_path):
    def refusal_of(damage) -> str:
        place = shutil.copytree(page_folder, tmp_path / "page", dirs_exist_ok=True)
        damage(place / "verifier")
        with served(place) as server:
            return open_page(server.address).page.locator(".refusal").get_attribute("data-refused")

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

    def damaged_calibration(folder: Path) -> None:
        (folder / "calibration.json").write_text("{}")
        list_again(folder.parent)

    assert refusal_of(cut) == refusal_of(change) == refusal_of(damaged_calibration) == "file_damaged"
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
    visitor.page.focus("#compare")
    visitor.press("compare", "answer")
    assert visitor.page.evaluate("document.activeElement.id") == "compare"
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


def test_a_gpu_is_used_where_it_is_faster_and_agrees(chromium_type, address, files):
    # One that the processor emulates.
    browser = chromium_type("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("main[data-ready=true]", timeout=60_000)
    page.wait_for_timeout(3000)
    if not page.locator("#gpu").count():
        pytest.skip("this Chromium gives no WebGPU")
    visitor = Visitor(page, [])
    before = visitor.compare(files[0], files[-1])
    page.click("#gpu")
    page.wait_for_selector("#state:has-text('3 s of audio take')", timeout=120_000)
    assert visitor.compare(files[0], files[-1])["score"] == before["score"]  # the emulated one is slower: not used
    browser.close()


def test_memory_stays_flat(open_page, address, files, chromium):
    visitor = open_page(address)
    used = []
    for number in range(101):
        if number % 10 == 0:  # other recordings
            visitor.compare(files[number % 7], files[number % 6])
        assert "score" in visitor.press("compare", "answer")
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
