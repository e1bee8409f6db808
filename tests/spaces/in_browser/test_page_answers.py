"""The page of spaces/in-browser in a real browser: the answers of the package, for everybody."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from tests.spaces.in_browser.conftest import Visitor, list_again, served, with_cohort


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


def test_a_gpu_that_is_slower_is_not_used(chromium_type, address, files):
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
    page.wait_for_selector("#state:has-text('The CPU stays in use: 3 s of audio')", timeout=120_000)
    assert visitor.compare(files[0], files[-1])["score"] == before["score"]
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
