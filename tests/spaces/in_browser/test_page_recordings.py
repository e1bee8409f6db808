"""Recordings that say nothing, microphones that are not there, and browsers that lack something."""

import subprocess

import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.loading import load_audio


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
