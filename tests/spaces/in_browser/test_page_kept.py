"""What the page keeps in the browser: itself, its verifier, and voices."""

import json
import re
import shutil
from pathlib import Path

import pytest

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.benchmark.browser import Isolating
from modeling_oskdft.files import read_json
from tests.scoring.test_calibration import calibration
from tests.spaces.in_browser.conftest import facts_of, list_again, served


@pytest.mark.parametrize(
    "headers", [{}, Isolating.headers_of_all], ids=["the service worker isolates", "the host isolates"]
)
def test_nothing_is_requested_after_the_page_is_loaded_and_it_works_offline(open_page, page_folder, files, headers):
    with served(page_folder, headers) as server:
        visitor = open_page(server.address)
        assert visitor.page.evaluate("crossOriginIsolated")
        kept = "navigator.serviceWorker.ready.then(() => caches.keys()).then(names => names.length)"
        assert visitor.page.evaluate(kept) == 2
        visitor.requested.clear()
        server.asked.clear()
        first = visitor.compare(files[0], files[1])
        visitor.page.set_input_files("#enrolment", str(files[0]))
        visitor.page.fill("#name", "Ada")
        visitor.press("enrol", "people-answer")
        assert [request for request in visitor.requested if not request.startswith("blob:")] == []
        assert set(server.asked) <= {"/sw.js"}  # the browser's own question, whether there is a newer page
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
    index, worker = (own_page / name for name in ("index.html", "sw.js"))
    title, code = index.read_text(), worker.read_text()
    version = re.compile(r"`[0-9a-f]{16}`")
    assert len(version.findall(code)) == 1
    with served(own_page) as server:
        visitor = open_page(server.address)
        for number in "23":
            index.write_text(title.replace("</title>", f" {number}</title>"))
            worker.write_text(version.sub(f"`{16 * number}`", code))
            visitor.page.evaluate("navigator.serviceWorker.ready.then(registration => registration.update())")
            visitor.page.wait_for_function(
                f"caches.keys().then(names => names.some(name => name.endsWith('{16 * number}')))"
            )
            visitor.page.wait_for_timeout(500)  # until the new one has taken the place of the old one
            visitor.page.reload()
            visitor.page.wait_for_selector("main[data-ready=true]")
            assert f" {number}</title>" in visitor.page.evaluate("fetch('index.html').then(answer => answer.text())")
        names = visitor.page.evaluate("caches.keys()")
        assert len([name for name in names if "page" in name]) == 2, "the last one stays for a page that is open"
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
