"""The page of spaces/speaker-verification in a real browser, and the same through its API and as a tool."""

import ast
import base64
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from modeling_oskdft import SpeakerVerifier


@pytest.fixture
def files(voices):
    return sorted(voices.rglob("*.flac"))


@pytest.fixture
def short(tmp_path, files):
    samples, rate = soundfile.read(files[0])
    soundfile.write(tmp_path / "short.wav", samples[:14400], rate)
    soundfile.write(tmp_path / "tiny.wav", samples[:100], rate)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), rate)
    return tmp_path


def test_two_files_and_a_decision(visit, files, space_model):
    visitor = visit()
    visitor.give("first", files[0])
    visitor.give("second", files[1])
    answer = visitor.ask("compare", "answer")
    score = SpeakerVerifier.from_pretrained(space_model).verify(files[0], files[1]).score
    assert "Same speaker" in answer and f"score {score:.2f} · threshold 0.50" in answer
    assert visitor.page.locator("#answer table tbody tr").count() == 2  # the student, and the teacher beside it
    assert visitor.page.locator("#answer svg.picture").count() == 3
    assert visitor.page.locator("#answer svg rect.speech").count() >= 2
    visitor.picture("verify-light")
    visitor.page.get_by_label("1 in 100 strangers is accepted").click()
    assert "Different speakers" in visitor.ask("compare", "answer")


def test_samples_to_click(visit):
    visitor = visit()
    for name in ("sample_same", "sample_short"):
        visitor.page.click(f"#{name}")
        visitor.page.wait_for_selector("#second button[aria-label=Play], #second audio", state="attached")
        visitor.page.wait_for_timeout(800)
        answer = visitor.ask("compare", "answer")
        assert ("decisions are unreliable" in answer) is (name == "sample_short")
    visitor.picture("verify-warning")


def test_dark_and_narrow_and_japanese(visit, files):
    dark = visit(color_scheme="dark")
    assert dark.page.locator("body.dark").count() == 1
    narrow = visit(viewport={"width": 390, "height": 844}, locale="ja-JP")
    assert "二つの録音は同じ話者ですか" in narrow.page.locator("#title").inner_text()
    for name, visitor, decision in (("dark", dark, "Same speaker"), ("narrow-japanese", narrow, "同じ話者")):
        visitor.picture(f"empty-{name}")
        visitor.give("first", files[0])
        visitor.give("second", files[0])
        assert decision in visitor.ask("compare", "answer")
        visitor.picture(f"verify-{name}")
        for number, tab in enumerate(("enrol", "operating", "about"), start=1):
            visitor.page.get_by_role("tab").nth(number).click()
            visitor.picture(f"{tab}-{name}")


def test_a_microphone(visit):
    visitor = visit()
    for name in ("first", "second"):
        box = visitor.page.locator(f"#{name}")
        box.get_by_label("Record audio").click()
        box.locator("button.record-button").click()
        visitor.page.wait_for_timeout(2500)
        with visitor.sending():
            box.locator("button.stop-button").first.click()
        visitor.page.wait_for_selector(f"#{name} button[aria-label=Play]", state="attached")
    assert "Same speaker" in visitor.ask("compare", "answer")


def test_a_recording_that_cannot_be_compared(visit, files, short):
    sentences = {"en-GB": "Recording 2 lasts 0.01 s: give one with a second of speech or more.", "ja-JP": "短すぎます"}
    for locale, sentence in sentences.items():
        visitor = visit(locale=locale)
        visitor.give("first", files[0])
        with visitor.sending():
            visitor.page.locator("#second input[type=file]").set_input_files(str(short / "tiny.wav"))
        assert sentence in visitor.ask("compare", "answer")
        assert visitor.page.locator("#answer [role=alert]").count() == 1


def test_too_little_speech_gives_a_warning(visit, files, short):
    visitor = visit()
    assert "First recording" in visitor.page.locator("#first").inner_text()
    assert "Recording 1 is missing: record or upload it first." in visitor.ask("compare", "answer")
    visitor.give("first", files[0])
    visitor.give("second", short / "short.wav")
    answer = visitor.ask("compare", "answer")
    assert re.search(r"Recording 2 has 0\.\d s of speech", answer) and "decisions are unreliable" in answer


def test_visitors_do_not_see_each_other(visit, files):
    ada, other = visit(), visit()
    for visitor in (ada, other):
        visitor.page.get_by_role("tab").nth(1).click()
    assert "Nobody is enrolled yet." in _identify(ada, files[0])
    ada.page.locator("#name input, #name textarea").fill("Ada <img src=x onerror=alert(1)>")
    ada.give("enrolment", files[0])
    assert "Enrolled: 1" in ada.ask("enrol", "enrolled")
    assert ada.page.locator("#enrolled img").count() == 0  # a name is a name
    assert "This is Ada <img" in _identify(ada, files[0])
    ada.picture("enrol-light")
    assert "Nobody is enrolled yet." in _identify(other, files[0])
    assert "Everybody was forgotten." in ada.ask("forget", "enrolled")
    assert "Nobody is enrolled yet." in _identify(ada, files[0])


def test_one_recording_of_two_visitors(visit, files):
    """Gradio keeps equal uploads once: one visitor must not remove the recording of the other."""
    ada, other = visit(), visit()
    ada.give("first", files[0])
    ada.give("second", files[0])
    assert "Same speaker" in ada.ask("compare", "answer")
    other.page.get_by_role("tab").nth(1).click()
    other.page.locator("#name input, #name textarea").fill("Ada")
    other.give("enrolment", files[0])
    assert "Enrolled: 1" in other.ask("enrol", "enrolled")
    other.ask("forget", "enrolled")
    ada.page.get_by_label("1 in 100 strangers is accepted").click()
    assert "Different speakers" in ada.ask("compare", "answer")


def _identify(visitor, file):
    visitor.give("probe", file)
    return visitor.ask("identify", "identified")


def test_the_operating_point_moves_the_rates_and_the_decision(visit, files):
    visitor = visit()
    visitor.page.get_by_role("tab").nth(2).click()
    shown = visitor.page.locator("#rates .answer").inner_text()
    assert "Read from 1,000 trials of 20 speakers (made-up trials)." in shown
    box = visitor.page.locator("#threshold input[type=number]")
    box.fill("0.9")
    box.press("Enter")
    visitor.page.wait_for_function("before => document.getElementById('rates').innerText !== before", arg=shown)
    assert "0 of 1,000" in visitor.page.locator("#rates").inner_text()
    visitor.picture("operating-light")
    visitor.page.get_by_role("tab").nth(3).click()
    assert "A tiny verifier" in visitor.page.inner_text("body") and "license: mit" not in visitor.page.inner_text(
        "body"
    )
    visitor.page.get_by_role("tab").nth(0).click()
    visitor.page.get_by_label("as set under").click()
    visitor.give("first", files[0])
    visitor.give("second", files[0])
    assert "threshold 0.90" in visitor.ask("compare", "answer")


def test_every_field_has_a_label(visit):
    page = visit().page
    assert page.get_by_role("button", name="Compare").count() == 1
    assert page.get_by_role("tab").count() == 4
    page.get_by_role("tab").nth(1).click()
    page.wait_for_timeout(500)
    for label in ("First recording", "Second recording", "Recording to enrol", "Recording to identify"):
        assert page.get_by_role("group", name=label, include_hidden=True).count() == 1
    unnamed = "[...document.querySelectorAll('button')].filter(e => !e.innerText.trim() && !e.ariaLabel && !e.title)"
    assert page.evaluate(f"{unnamed}.filter(e => e.offsetParent).length") == 0


def test_the_same_through_the_api(space, files, short, space_model):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(space, verbose=False)
    answer = client.predict(handle_file(files[0]), handle_file(files[5]), "eer", api_name="/verify")
    expected = SpeakerVerifier.from_pretrained(space_model).verify(files[0], files[5])
    assert answer["score"] == pytest.approx(expected.score, abs=1e-4)
    assert answer["same_speaker"] is expected.same_speaker and answer["threshold"] == 0.5
    assert answer["warnings"] == list(expected.warnings)
    strict = client.predict(handle_file(files[0]), handle_file(files[5]), "far_1_percent", api_name="/verify")
    assert strict["same_speaker"] is False
    with pytest.raises(AppError, match="Recording 2 is silent"):
        client.predict(handle_file(files[0]), handle_file(short / "silent.wav"), "eer", api_name="/verify")
    with pytest.raises(AppError, match="operating_point is 'best': use one of eer, far_1_percent, far_0.1_percent"):
        client.predict(handle_file(files[0]), handle_file(files[1]), "best", api_name="/verify")
    assert [name for name in client.view_api(return_format="dict", print_info=False)["named_endpoints"]] == ["/verify"]


def test_the_same_as_a_tool(space, files):
    pytest.importorskip("mcp", reason="mcp is not installed: pip install 'modeling-oskdft[space]'")
    import anyio
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def call_the_tool():
        async with streamable_http_client(f"{space}/gradio_api/mcp/") as (read, write, *_):
            async with ClientSession(read, write) as session:
                await session.initialize()
                tools = (await session.list_tools()).tools
                recordings = {"first": _data_address(files[0]), "second": _data_address(files[0])}
                return tools, await session.call_tool(tools[0].name, recordings | {"operating_point": "eer"})

    with ThreadPoolExecutor(1) as other_thread:  # the browser's driver keeps an event loop in this thread
        tools, result = other_thread.submit(anyio.run, call_the_tool).result()
    assert [tool.name.rsplit("_", 1)[-1] for tool in tools] == ["verify"]
    assert "two recordings are of one speaker" in tools[0].description
    assert set(tools[0].inputSchema["properties"]) >= {"first", "second", "operating_point"}
    assert not result.isError and ast.literal_eval(result.content[0].text)["same_speaker"] is True


def _data_address(file):
    """A file as text, for a caller of the tool that has no server."""
    return f"data:audio/flac;base64,{base64.b64encode(file.read_bytes()).decode()}"
